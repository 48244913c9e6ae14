"""A queue's address moves to another server only together with the secrets that its requests would carry there."""

import pytest

from operators.actor import Actor
from scheduling import models, store
from scheduling.core.errors import BadFields
from scheduling.queues import operations

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HEADERS = {"X-Key": "hush", "X-Env": "prod"}
WITH_HEADERS = {
    "handler": "webhook",
    "webhook_url": "https://hook.example.com/in/{{id}}",
    "webhook_secret": SECRET,
    "webhook_headers": HEADERS,
}
WITH_TOKEN = {
    "handler": "webhook",
    "webhook_url": "https://hook.example.com/in",
    "oauth_token_url": "https://id.example.com/token",
    "oauth_client_id": "deck",
    "oauth_client_secret": "hush",
}
ELSEWHERE = "https://evil.example.com/in"


def made(fields: dict) -> models.Queue:
    return operations.create(name="hooks", fields=fields, by=Actor.command_line(), at=store.now())


def change(queue: models.Queue, **changes) -> models.Queue:
    return operations.update(queue, changes, by=Actor.command_line(), now=store.now)


def refused(queue: models.Queue, **changes) -> dict[str, str]:
    before = models.Queue.objects.get(pk=queue.pk).webhook_url
    with pytest.raises(BadFields) as caught:
        change(queue, **changes)
    assert models.Queue.objects.get(pk=queue.pk).webhook_url == before
    return dict(caught.value.reasons)


@pytest.mark.parametrize(
    "address",
    [
        ELSEWHERE,
        "http://hook.example.com/in",
        "https://hook.example.com:8443/in",
        "https://hook.example.com.evil.example/in",
    ],
)
def test_stored_headers_are_asked_for_again_where_scheme_host_or_port_differ(address):
    reasons = refused(made(WITH_HEADERS), webhook_url=address)
    assert reasons == {
        "webhook_headers": "Enter the value of X-Key, X-Env again, because webhook_url names another server."
    }


@pytest.mark.parametrize(
    "address",
    [
        "https://hook.example.com/other?x={{id}}",
        "https://HOOK.example.com:443/in",
        "https://hook.example.com./in",
    ],
)
def test_stored_headers_stay_on_the_same_server(address):
    queue = change(made(WITH_HEADERS), webhook_url=address)
    assert (queue.webhook_url, queue.webhook_headers) == (address, HEADERS)


def test_only_headers_that_keep_their_value_are_asked_for():
    queue = made(WITH_HEADERS)
    reasons = refused(queue, webhook_url=ELSEWHERE, webhook_headers={"x-key": None, "X-Env": "prod"})
    assert reasons["webhook_headers"].startswith("Enter the value of x-key again")
    queue = change(queue, webhook_url=ELSEWHERE, webhook_headers={"X-Env": "prod"})
    assert (queue.webhook_url, queue.webhook_headers) == (ELSEWHERE, {"X-Env": "prod"})


def test_values_that_are_entered_again_may_be_the_same():
    queue = change(made(WITH_HEADERS), webhook_url=ELSEWHERE, webhook_headers=HEADERS)
    assert (queue.webhook_url, queue.webhook_headers) == (ELSEWHERE, HEADERS)


def test_secret_that_signs_stays_since_it_is_never_sent():
    queue = made(WITH_HEADERS | {"webhook_headers": {}})
    assert change(queue, webhook_url=ELSEWHERE).webhook_secret == SECRET


def test_address_that_was_removed_leads_nowhere():
    queue = change(made(WITH_HEADERS), handler="record", webhook_url="")
    assert "webhook_headers" in refused(queue, handler="webhook", webhook_url=ELSEWHERE)


def test_client_secret_is_asked_for_again_since_its_token_would_go_elsewhere():
    queue = made(WITH_TOKEN)
    assert refused(queue, webhook_url=ELSEWHERE) == {
        "oauth_client_secret": "Enter it again, because webhook_url names another server."
    }
    assert change(queue, webhook_url=ELSEWHERE, oauth_client_secret="hush").webhook_url == ELSEWHERE


def test_address_moves_without_the_client_secret_where_the_token_is_removed():
    queue = change(made(WITH_TOKEN), webhook_url=ELSEWHERE, oauth_token_url="")
    assert (queue.webhook_url, queue.oauth_client_secret) == (ELSEWHERE, "")


def test_callback_may_lead_to_another_server_since_it_gets_no_header_there():
    queue = change(made(WITH_HEADERS), callback_url="https://evil.example.com/done")
    assert "webhook_headers" in refused(queue, webhook_url=ELSEWHERE)


def test_preview_of_a_change_asks_for_the_secrets_too():
    with pytest.raises(BadFields):
        operations.effect_of(made(WITH_HEADERS), {"webhook_url": ELSEWHERE}, at=store.now())
