"""Subscriptions to events over the API, and what was delivered to them."""

import ipaddress

import pytest
from standardwebhooks import Webhook as Verifier

from api.docs import schema_of
from api.urls import api as the_api
from operators.models import Token
from scheduling import models, store
from scheduling.events import delivery
from scheduling.models import EventType
from scheduling.tasks import cancellation
from tests.scheduling.alerts.watched import BY, make_channel
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


def create(api, **fields):
    body = {"name": "CRM", "url": "https://hook.test/", "events": ["task.done", "task.cancelled"], **fields}
    return api.send("POST", "/webhooks/", body)


def test_webhook_is_created_read_changed_and_deleted(api):
    created = create(api)
    assert created.status_code == 201, created.content
    body = created.json()
    assert body["secret"].startswith("whsec_")
    assert created["Location"].endswith(f"{body['id']}/")
    shown = api.get(f"/webhooks/{body['id']}/")
    assert "secret" not in shown.json()
    assert shown.json() == {name: value for name, value in body.items() if name != "secret"}
    assert [item["id"] for item in api.get("/webhooks/").json()] == [body["id"]]
    changed = api.send("PATCH", f"/webhooks/{body['id']}/", {"events": ["task.on_hold"], "enabled": False})
    assert (changed.json()["events"], changed.json()["enabled"]) == (["task.on_hold"], False)
    assert api.send("PATCH", f"/webhooks/{body['id']}/", shown.json()).status_code == 200, (
        "what GET gave comes back"
    )
    assert api.delete(f"/webhooks/{body['id']}/").status_code == 204
    assert api.get(f"/webhooks/{body['id']}/").status_code == 404


def test_webhook_receives_the_event_of_a_real_cause_by_its_own_secret(api):
    with Target() as target:
        create(api, url=target.url, secret=SECRET)
        task = place(make_queue(), {MINUTE: [1, 2, 3]}, at=BEFORE)
        cancellation.cancel(task, by=BY, now=store.now)
        delivery.deliver(store.now)
    [request] = target.requests
    body = Verifier(SECRET).verify(request.body, request.headers)
    assert (body["type"], body["data"]["task_id"], body["data"]["cancelled"]) == (
        "task.cancelled",
        task.pk,
        3,
    )


def test_repeated_creation_creates_nothing_and_hides_the_secret(api):
    body = {"name": "CRM", "url": "https://hook.test/", "events": ["task.done"]}
    first, again = (api.send("POST", "/webhooks/", body, Idempotency_Key="k") for _ in range(2))
    assert first.json()["secret"]
    assert again.json() == {**first.json(), "secret": None}
    assert models.Channel.objects.count() == 1
    assert first.json()["secret"] not in str(list(models.IdempotentAnswer.objects.values()))


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"url": "ftp://hook.test/"}, "url"),
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["task.doen"]}, "events"),
        ({"secret": "short"}, "secret"),
        ({"evnts": []}, "evnts"),
    ],
)
def test_wrong_fields_of_a_webhook_are_named(api, fields, wrong):
    answer = create(api, **fields)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(wrong)


def test_taken_name_and_stale_version_are_refused(api):
    key = create(api).json()["id"]
    assert create(api).status_code == 409
    tag = api.get(f"/webhooks/{key}/")["ETag"]
    api.send("PATCH", f"/webhooks/{key}/", {"enabled": False})
    assert api.send("PATCH", f"/webhooks/{key}/", {"enabled": True}, If_Match=tag).status_code == 412


def test_deliveries_are_listed_filtered_and_sent_again(api):
    answers = [status(500)]
    with Target(lambda request: answers[-1]) as target:
        key = create(api, url=target.url).json()["id"]
        cancellation.cancel(place(make_queue(), {MINUTE: [1]}, at=BEFORE), by=BY, now=store.now)
        delivery.deliver(store.now)
        [shown] = api.get(f"/webhooks/{key}/deliveries/").json()
        assert (shown["state"], shown["http_status"], shown["attempts"]) == ("due", 500, 1)
        resend = f"/webhooks/{key}/deliveries/{shown['id']}/resend/"
        assert api.send("POST", resend, {}).status_code == 409
        models.Delivery.objects.update(due_at=None)
        assert api.get(f"/webhooks/{key}/deliveries/?state=abandoned&type=task.cancelled").json()
        answers.append(status(200))
        assert api.send("POST", resend, {}).json()["state"] == "due"
        delivery.deliver(store.now)
        [after] = api.get(f"/webhooks/{key}/deliveries/").json()
    assert (after["state"], after["event_id"]) == ("delivered", shown["event_id"])
    assert {request.headers["webhook-id"] for request in target.requests} == {shown["event_id"]}


def test_test_of_a_webhook_shows_the_response(api):
    with Target(lambda request: status(418, b"short and stout")) as target:
        key = create(api, url=target.url).json()["id"]
        answer = api.send("POST", f"/webhooks/{key}/test/", {}).json()
    assert (answer["verdict"], answer["http_status"], answer["answer"]) == ("failed", 418, "short and stout")


def test_channels_of_other_kinds_are_not_webhooks(api):
    channel = make_channel("email", "ann@deck.example")
    assert api.get("/webhooks/").json() == []
    assert api.get(f"/webhooks/{channel.pk}/").status_code == 404


@pytest.mark.parametrize(("role", "expected"), [("operator", 403), ("admin", 201)])
def test_token_manages_webhooks_if_its_operator_is_an_admin(api, make_operator, role, expected):
    Token.objects.update(operator=make_operator(role))
    assert create(api).status_code == expected


def test_every_type_of_event_is_described_with_its_schema():
    document = schema_of(the_api)
    described = {
        word
        for name, path in document["webhooks"].items()
        if name.startswith("event.")
        for word in document["components"]["schemas"][
            path["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        ]["properties"]["type"]["enum"]
    }
    assert described == set(EventType.values)
