"""OAuth 2.0 client credentials of a queue: by API, page and admin, and as docs/oauth.md describes them."""

import json
import re
from ipaddress import ip_network

import pytest

from scheduling import models
from scheduling.handlers import oauth
from scheduling.queues import validation
from settings.place import BASE_DIR
from tests.api.test_whole_jobs import minutes, submit  # noqa: F401
from tests.scheduling.target import Target, status
from tests.scheduling.tasks.test_erasure import everywhere

pytestmark = pytest.mark.django_db

PAGE = (BASE_DIR / "docs" / "oauth.md").read_text()
FIELDS = {
    "handler": "webhook",
    "webhook_url": "https://api.example.com/in",
    "oauth_token_url": "https://id.example.com/token",
    "oauth_client_id": "quarterdeck",
    "oauth_client_secret": "hush-hush",
}


@pytest.fixture(autouse=True)
def fresh_process():
    oauth.forget_all()
    yield
    oauth.forget_all()


@pytest.fixture
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]


def block(words: str) -> str:
    [matches] = re.findall(rf"```{words}\n(.*?)```", PAGE, re.DOTALL)
    return matches


def check_is_shown(request, shown: str) -> None:
    """Compare a request with the one that the page shows."""
    head, _, body = shown.partition("\n\n")
    line, *headers = head.splitlines()
    assert f"{request.method} {request.path} HTTP/1.1" == line
    assert dict(header.split(": ", 1) for header in headers).items() <= request.headers.items()
    if request.headers["content-type"] == "application/json":
        assert json.loads(request.body) == json.loads(body)
    else:
        assert request.body.decode() == body.strip()


def test_page_names_every_field():
    assert {name for name in validation.FIELDS if name.startswith("oauth_")} <= set(
        re.findall(r"`([a-z_]+)`", PAGE)
    )


def test_example_of_the_docs_runs_as_the_page_says(api, write_lists, minutes):  # noqa: F811
    fields = json.loads(block("json queue"))
    record = "0058d000004Zq00001"
    token = status(200, block("json response").encode())
    with Target(lambda received: token) as issuer, Target(lambda received: status(200, b"{}")) as target:
        for name, server in (("oauth_token_url", issuer), ("webhook_url", target)):
            fields[name] = re.sub(r"https://[^/]+", f"http://127.0.0.1:{server.port}", fields[name])
        created = api.send("POST", "/queues/", fields)
        assert created.status_code == 201, created.content
        answer = api.list(record, query="?task_name=x&queue=crm&id_type=text", type="text/plain")
        assert answer.status_code == 201, answer.content
        write_lists()
        minutes.serve()
    assert models.Assignment.objects.get().status == models.Status.SUCCEEDED
    [request], [sent] = issuer.requests, target.requests
    check_is_shown(request, block("http token"))
    check_is_shown(sent, block("http request"))


def test_secret_is_written_and_never_read(api):
    response = api.send("POST", "/queues/", {"name": "crm", **FIELDS}, Idempotency_Key="one")
    assert response.status_code == 201, response.content
    again = api.send("POST", "/queues/", {"name": "crm", **FIELDS}, Idempotency_Key="one")
    changed = api.send("PATCH", "/queues/crm/", {"oauth_scope": "a b"})
    read = api.get("/queues/crm/")
    for answer in (response, again, changed, read):
        assert "oauth_client_secret" not in answer.json()
        assert "hush-hush" not in answer.content.decode()
    assert read.json()["oauth_token_url"] == FIELDS["oauth_token_url"]
    assert (read.json()["oauth_scope"], read.json()["oauth_client_auth"]) == ("a b", "client_secret_basic")
    assert models.Queue.objects.get(name="crm").oauth_client_secret == "hush-hush"
    # Not in rows, the activity log, stored responses or anywhere else.
    assert "hush-hush" not in everywhere()
    assert models.Activity.objects.get(verb="created").after["oauth_client_secret"] is True


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"oauth_client_id": ""}, "oauth_client_id"),
        ({"oauth_client_secret": None}, "oauth_client_secret"),
        ({"oauth_client_secret": "a\nb"}, "oauth_client_secret"),
        ({"oauth_scope": "a\0"}, "oauth_scope"),
        ({"oauth_token_url": "http://10.1.2.3/token"}, "oauth_token_url"),
        ({"oauth_token_url": "https://id.example.com/{{id}}"}, "oauth_token_url"),
        ({"oauth_client_auth": "private_key_jwt"}, "oauth_client_auth"),
        ({"webhook_headers": {"authorization": "Bearer x"}}, "webhook_headers"),
        # Its owner could read the stored secret.
        ({"oauth_token_url": "https://evil.example.com/token"}, "oauth_client_secret"),
    ],
)
def test_contradictory_credentials_are_refused_by_field(api, changes, field):
    assert api.send("POST", "/queues/", {"name": "crm", **FIELDS}).status_code == 201
    response = api.send("PATCH", "/queues/crm/", changes)
    assert response.status_code == 422, response.content
    assert response.json()["errors"][0]["field"] == field
    assert models.Queue.objects.get(name="crm").oauth_client_secret == "hush-hush"


def test_token_server_can_be_changed_with_its_secret_and_removed(api):
    assert api.send("POST", "/queues/", {"name": "crm", **FIELDS}).status_code == 201
    assert (
        api.send("PATCH", "/queues/crm/", {"oauth_token_url": "https://id.example.com/v2"}).status_code == 200
    )
    moved = {"oauth_token_url": "https://other.example.com/token", "oauth_client_secret": "new"}
    assert api.send("PATCH", "/queues/crm/", moved).status_code == 200
    assert models.Queue.objects.get(name="crm").oauth_client_secret == "new"
    assert api.send("PATCH", "/queues/crm/", {"oauth_token_url": ""}).status_code == 200
    assert models.Queue.objects.get(name="crm").oauth_client_secret == ""


def test_test_request_uses_the_token_and_masks_it(api, loopback):
    token = status(200, b'{"access_token": "t-1", "token_type": "bearer", "expires_in": 60}')
    with Target(lambda request: token) as issuer, Target() as target:
        urls = {"oauth_token_url": issuer.url, "webhook_url": target.url}
        assert api.send("POST", "/queues/", {"name": "crm", **FIELDS, **urls}).status_code == 201
        tested = api.send("POST", "/queues/crm/test/")
    assert tested.status_code == 200, tested.content
    assert tested.json()["verdict"] == "succeeded"
    assert tested.json()["sent"]["headers"]["Authorization"] == "Bearer ***"
    assert target.requests[0].headers["authorization"] == "Bearer t-1"
    assert "t-1" not in everywhere()


def test_test_request_says_why_there_is_no_token(api, loopback):
    refused = status(401, b'{"error": "invalid_client", "error_description": "hush-hush is wrong"}')
    with Target(lambda request: refused) as issuer, Target() as target:
        urls = {"oauth_token_url": issuer.url, "webhook_url": target.url}
        api.send("POST", "/queues/", {"name": "crm", **FIELDS, **urls})
        tested = api.send("POST", "/queues/crm/test/").json()
        assert not target.requests
    assert tested["error"] == f"no token from {issuer.url}: it answered 401 (invalid_client)"
    assert "hush-hush" not in everywhere()


def test_dry_run_shows_the_masked_token(api):
    api.send("POST", "/queues/", {"name": "crm", **FIELDS})
    answer = api.list([1], query="?task_name=x&queue=crm&dry_run=true")
    assert answer.json()["requests"][0]["headers"]["Authorization"] == "Bearer ***"
