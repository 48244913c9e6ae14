"""The handler `webhook` sends what a queue's templates say, and takes responses by the queue's rules."""

import ipaddress
import json
from datetime import UTC, datetime

import pytest
import uvloop

from scheduling.core.retry import Verdict
from scheduling.handlers.base import Request
from scheduling.handlers.webhook import Webhook
from tests.scheduling.target import Target, status

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def request(user_id: int = 1029, **options) -> Request:
    at = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)
    return Request(user_id, 7, "November", "crm", at, 2, "5f2c", **options)


def call(target: Target, *requests: Request, path: str = "/in", **options):
    async def run():
        handler = Webhook(f"http://127.0.0.1:{target.port}{path}", allowed=LOOPBACK, **options)
        outcomes = await handler.handle(requests or [request()])
        await handler.close()
        return outcomes

    return uvloop.run(run())


def test_request_without_templates_has_its_standard_form():
    with Target() as target:
        call(target, secret=SECRET)
    [received] = target.requests
    assert json.loads(received.body) == {
        "user_id": 1029,
        "user_id_str": "1029",
        "task_id": 7,
        "task_name": "November",
        "queue": "crm",
        "planned_at": "2026-11-25T12:17:00Z",
        "attempt": 2,
    }
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-signature"].startswith("v1,")


def test_standard_body_has_text_ids_and_data():
    with Target() as target:
        call(target, request(-1, external_id="a@b.test", data={"plan": "pro"}))
    body = json.loads(target.requests[0].body)
    assert (body["user_id"], body["user_id_str"], body["external_id"]) == (None, "a@b.test", "a@b.test")
    assert body["data"] == {"plan": "pro"}


def test_request_follows_its_templates():
    with Target() as target:
        [outcome] = call(
            target,
            request(data={"name": "Zoë", "voucher": 15}),
            path="/users/{{id}}/renew?name={{data.name}}",
            method="PUT",
            headers={"Authorization": "Bearer k", "X-Ref": "{{task_id}}-{{data.name}}"},
            body='{"to": {"external_id": "{{id}}"}, "vars": {"v": "{{data.voucher}}", "n": "Hi {{data.name}}"}}',
        )
    assert outcome.verdict == Verdict.SUCCEEDED
    [received] = target.requests
    assert (received.method, received.path) == ("PUT", "/users/1029/renew?name=Zo%C3%AB")
    assert json.loads(received.body) == {"to": {"external_id": 1029}, "vars": {"v": 15, "n": "Hi Zoë"}}
    assert (received.headers["x-ref"], received.headers["authorization"]) == ("7-Zoë", "Bearer k")
    assert received.headers["idempotency-key"] == received.headers["webhook-id"] == "msg_5f2c_7_1029"


def test_form_is_sent_with_its_content_type_and_no_signature():
    with Target() as target:
        call(
            target,
            body='{"to": "{{id}}"}',
            content_type="application/x-www-form-urlencoded",
            secret=SECRET,
            sign=False,
        )
    [received] = target.requests
    assert (received.body, received.headers["content-type"]) == (
        b"to=1029",
        "application/x-www-form-urlencoded",
    )
    assert not {name for name in received.headers if name.startswith("webhook-")}
    assert received.headers["idempotency-key"] == "msg_5f2c_7_1029"


@pytest.mark.parametrize(("method", "length"), [("GET", None), ("DELETE", None), ("POST", "0")])
def test_empty_body_is_none(method, length):
    with Target() as target:
        call(target, method=method, body="", path="/warm/{{id}}")
    [received] = target.requests
    assert (received.path, received.body) == ("/warm/1029", b"")
    assert received.headers.get("content-length") == length
    assert "content-type" not in received.headers


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"body": '"{{data.x}}"'}, "The request can't be made: data.x is missing."),
        ({"path": "/a/{{data.dots}}"}, "The request can't be made: a segment of the path would be '..'."),
        (
            {"headers": {"X-A": "{{data.break}}"}},
            "The request can't be made: a header would contain a line break",
        ),
        ({"path": "/{{nope}}"}, "there is no placeholder {{nope}}"),
        ({"body": "{"}, "the template is not JSON"),
    ],
)
def test_id_whose_request_cannot_be_made_fails_without_a_request(options, error):
    with Target() as target:
        [outcome] = call(target, request(data={"dots": "..", "break": "a\nb"}), **options)
    assert (outcome.verdict, outcome.status, target.requests) == (Verdict.FAILED, None, [])
    assert error in outcome.error


def test_id_without_a_template_value_stops_no_other():
    with Target() as target:
        outcomes = call(
            target, *(request(n, data={"x": "a"} if n % 2 else {}) for n in range(1, 7)), body='"{{data.x}}"'
        )
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED, Verdict.FAILED] * 3
    assert len(target.requests) == 3


def test_statuses_of_the_queue_decide():
    with Target(lambda received: status(received.user_id)) as target:
        outcomes = call(
            target,
            *(request(code) for code in (201, 404, 409, 503, 400, 401)),
            success_statuses="200-299,404",
            retry_statuses="409",
        )
    S, R, F = Verdict.SUCCEEDED, Verdict.RETRY, Verdict.FAILED
    assert [outcome.verdict for outcome in outcomes] == [S, S, R, F, F, R]


def test_condition_on_the_json_of_a_response():
    bodies = {1: b'{"data": {}}', 2: b'{"errors": [{"message": "no"}]}', 3: b"<html>", 4: b'{"errors": null}'}
    rule = {"pointer": "/errors", "equals": None, "otherwise": "fail"}
    with Target(lambda received: status(200, bodies[received.user_id])) as target:
        outcomes = call(target, *(request(n) for n in bodies), when=rule)
    assert [outcome.verdict for outcome in outcomes] == [
        Verdict.SUCCEEDED,
        Verdict.FAILED,
        Verdict.FAILED,
        Verdict.SUCCEEDED,
    ]
    assert outcomes[1].error == '/errors of the response is [{"message":"no"}], not null'
    assert outcomes[2].error == "the response is not JSON"
    assert outcomes[1].answer == '{"errors": [{"message": "no"}]}'


@pytest.mark.parametrize(
    ("keep", "answer", "kept_rows"),
    [
        ("unexpected", '{"message": {"id": "m-1"}}', False),
        ("all", '{"message": {"id": "m-1"}}', True),
        ("/message/id", "m-1", True),
        ("/message", '{"id":"m-1"}', True),
        ("/nothing", "", True),
    ],
)
def test_answers_of_successes_are_stored_as_the_queue_is_set(keep, answer, kept_rows):
    with Target(lambda received: status(202, b'{"message": {"id": "m-1"}}')) as target:
        [outcome] = call(target, keep_answers=keep)
    assert (outcome.answer, outcome.keep_answer, outcome.error) == (answer, kept_rows, "")


def test_answer_that_is_nested_too_deep_is_stored_empty():
    with Target(lambda received: status(202, b"[" * 600 + b"]" * 600)) as target:
        [outcome] = call(target, keep_answers="/0")
    assert (outcome.verdict, outcome.answer, outcome.keep_answer) == (Verdict.SUCCEEDED, "", True)


def test_failed_request_always_stores_its_answer():
    with Target(lambda received: status(400, b'{"message": {"id": "m-1"}}')) as target:
        [outcome] = call(target, keep_answers="/message/id")
    assert (outcome.answer, outcome.keep_answer) == ('{"message": {"id": "m-1"}}', False)
