"""Authorization: every endpoint, without credentials, with tokens of each scope and operators of each role."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.utils import timezone

from api.docs import schema_of
from api.urls import api as the_api
from operators import tokens
from operators.actor import Actor
from operators.models import Token
from operators.roles import Permission
from scheduling.core import clock
from scheduling.models import Activity

from .conftest import ApiClient

pytestmark = pytest.mark.django_db

READS = ("get",)


def endpoints() -> list[tuple[str, str]]:
    """Return every method and path of the description, with made-up numbers in the paths."""
    filled = {
        "{id}": "987654321",
        "{user_id}": "987654321",
        "{delivery_id}": "987654321",
        "{name}": "default",
    }
    result = []
    for path, operations in schema_of(the_api)["paths"].items():
        for part, value in filled.items():
            path = path.replace(part, value)
        result += [(method, path) for method in operations]
    return result


ENDPOINTS = [*endpoints(), ("get", "/docs"), ("get", "/metrics")]
ACTS = [(method, path) for method, path in ENDPOINTS if method not in READS]


def signed_in(operator, *, csrf: bool = True) -> ApiClient:
    client = ApiClient(None)
    client.force_login(operator)
    if csrf:
        secret = _get_new_csrf_string()
        client.cookies[settings.CSRF_COOKIE_NAME] = secret
        client.defaults["HTTP_X_CSRFTOKEN"] = secret
    return client


def test_endpoints_require_the_permission_of_their_method():
    for operation in the_api.operations():
        (access,) = operation.auth_callbacks
        acts = Permission.ADMINISTER if "/webhooks/" in operation.path else Permission.ACT
        assert access.act == (Permission.VIEW if operation.methods == ["GET"] else acts), (
            operation.operation_id
        )


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("slash", [True, False])
def test_endpoints_without_credentials_are_401(anonymous, method, path, slash):
    answer = anonymous.send(method.upper(), path.rstrip("/") + ("/" if slash else ""), {})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_wrong_token_is_401_even_with_a_session(make_operator, queue, method, path):
    client = signed_in(make_operator("admin"))
    client.token = "qd_this-is-not-a-token-that-anybody-made"
    assert client.send(method.upper(), path, {}).status_code == 401


@pytest.mark.parametrize(("method", "path"), ACTS)
def test_read_token_and_viewer_cannot_act(reader, make_operator, method, path):
    for client in (reader, signed_in(make_operator("viewer"))):
        answer = client.send(method.upper(), path, {})
        assert answer.status_code == 403
        assert answer.json()["type"].endswith(":not-allowed")


@pytest.mark.parametrize(("method", "path"), [endpoint for endpoint in ENDPOINTS if endpoint not in ACTS])
def test_read_token_and_viewer_read_everything(reader, make_operator, method, path):
    if path == "/receipts/":
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        path += f"?since={clock.iso(hour - timedelta(hours=2))}&until={clock.iso(hour)}"
    for client in (reader, signed_in(make_operator("viewer"), csrf=False)):
        assert client.get(path).status_code in (200, 404)


@pytest.mark.parametrize(("method", "path"), ACTS)
@pytest.mark.parametrize("role", ["operator", "admin"])
def test_operators_and_admins_act_everywhere(make_operator, queue, role, method, path):
    answer = signed_in(make_operator(role)).send(method.upper(), path, {})
    if path.startswith("/webhooks/") and role == "operator":
        assert answer.status_code == 403
    else:
        assert answer.status_code not in (401, 403, 405, 500)


@pytest.mark.parametrize(("method", "path"), ACTS)
def test_session_without_csrf_token_cannot_act(make_operator, queue, method, path):
    answer = signed_in(make_operator("admin"), csrf=False).send(method.upper(), path, {})
    assert answer.status_code == 403
    assert answer.json()["type"].endswith(":csrf")


def test_csrf_token_in_the_body_is_ignored(make_operator, queue):
    # Looking would read the whole upload first.
    client = signed_in(make_operator("admin"))
    secret = client.defaults.pop("HTTP_X_CSRFTOKEN")
    body = f"csrfmiddlewaretoken={secret}&payload=1&task_name=x"
    answer = client.list(body, query="", type="application/x-www-form-urlencoded")
    assert answer.status_code == 403


def test_session_submits_a_list_as_its_operator(make_operator, queue):
    answer = signed_in(make_operator("operator", username="ann")).list([1, 2])
    assert answer.status_code == 201
    line = Activity.objects.get(verb="submitted")
    assert (line.actor_kind, line.actor_name, line.face) == ("operator", "ann", "api")


def test_revoked_token_and_token_of_inactive_operator_are_401(queue, make_operator):
    by = Actor.command_line()
    ann = make_operator("operator", username="ann")
    token, secret = tokens.issue(name="mine", scope="write", by=by, at=timezone.now())
    _, other_secret = tokens.issue(name="hers", scope="write", by=by, at=timezone.now(), operator=ann)
    assert [ApiClient(s).get("/windows/").status_code for s in (secret, other_secret)] == [200, 200]
    tokens.revoke(token, by=by, at=timezone.now())
    ann.is_active = False
    ann.save()
    assert [ApiClient(s).get("/windows/").status_code for s in (secret, other_secret)] == [401, 401]


def test_token_may_not_exceed_its_operator(queue, make_operator):
    viewer = make_operator("viewer")
    by = Actor.command_line()
    _, secret = tokens.issue(name="hers", scope="write", by=by, at=timezone.now(), operator=viewer)
    client = ApiClient(secret)
    assert client.get("/windows/").status_code == 200
    assert client.list([1]).status_code == 403
    assert Token.objects.get(name="hers").scope == "write"


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Bearer ", "bearer  ", "Token x", "qd_x", "Bearer \u00e9"]
)
def test_authorization_headers_that_are_malformed_are_401(queue, header):
    answer = Client().get("/windows/", headers={"Authorization": header})
    assert answer.status_code == 401


def test_bearer_scheme_ignores_case(queue, make_token):
    answer = Client().get("/windows/", headers={"Authorization": f"bearer {make_token('read')}"})
    assert answer.status_code == 200


def test_docs_redirect_a_browser_to_sign_in(client, db):
    answer = client.get("/docs", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 302
    assert answer["Location"] == "/sign-in/?next=/docs"


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready"])
def test_health_checks_need_no_credentials(anonymous, path):
    assert anonymous.get(path).status_code in (200, 503)


@pytest.fixture
def submitter(queue) -> ApiClient:
    """A client with a token that may only submit lists, to the queue default."""
    by = Actor.command_line()
    _, secret = tokens.issue(name="s", scope="submit", by=by, at=timezone.now(), queue_name="default")
    return ApiClient(secret)


def test_submit_token_submits_lists_to_its_queue_and_does_nothing_else(submitter, api):
    assert submitter.list([1]).status_code == 201
    api.send("POST", "/queues/", {"name": "mail"})
    for query in ("?task_name=x&queue=mail", "?task_name=x&queue=nosuch"):
        assert submitter.list([1], query=query).status_code == 403
    for method, path in ENDPOINTS:
        if (method, path) != ("post", "/celery_ids_tasks/"):
            assert submitter.send(method.upper(), path, {}).status_code == 403, (method, path)


def test_expired_token_is_401(queue):
    by, at = Actor.command_line(), timezone.now()
    _, valid = tokens.issue(name="a", scope="read", by=by, at=at, expires_at=at + timedelta(hours=1))
    _, expired = tokens.issue(name="b", scope="read", by=by, at=at, expires_at=at - timedelta(seconds=1))
    assert ApiClient(valid).get("/windows/").status_code == 200
    assert ApiClient(expired).get("/windows/").status_code == 401


def test_queue_of_a_token_needs_the_scope_submit(queue):
    with pytest.raises(ValueError, match="scope submit"):
        tokens.issue(name="a", scope="write", by=Actor.command_line(), at=timezone.now(), queue_name="mail")
