"""A queue's request and its rules for responses are checked when they are saved, each fault with its position."""

from datetime import timedelta
from ipaddress import ip_network

import pytest

from operators.actor import Actor
from scheduling import models, store
from scheduling.core.errors import BadFields
from scheduling.dispatch import test_request as trial
from scheduling.handlers.shown_request import MASK
from scheduling.queues import operations, validation
from scheduling.tasks import callbacks
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE
from tests.scheduling.target import Target, status

AFTER = MINUTE + timedelta(minutes=2)

pytestmark = pytest.mark.django_db


def check(fields: dict) -> None:
    validation.check(fields)
    validation.check_together(models.Queue(), fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"webhook_url": "https://1.1.1.1/users/{{id}}?n={{data.First Name}}"},
        {"webhook_headers": {"X-Name": "{{data.name|'there'}}", "X-City": "Zürich 東京"}},
        {"webhook_body": None},
        {"webhook_body": ""},
        {"webhook_body": '{"id": "{{id}}"}'},
        {"webhook_body": "id={{id}}", "webhook_content_type": "text/plain; charset=utf-8"},
        {"webhook_sign": False},
        {"success_statuses": "200-299,404"},
        {"success_statuses": "200-399", "retry_statuses": "500-599"},
        {"success_when": {"pointer": "/errors", "equals": None}},
        {"success_when": None},
        {"retry_delays_minutes": [1, 60, 10_080]},
        {"keep_answers": "all"},
        {"keep_answers": "/message/id"},
    ],
)
def test_fields_of_a_request_are_accepted(fields):
    check(fields)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        (
            {"webhook_url": "https://1.1.1.1/{{user}}"},
            "webhook_url",
            "At position 16: there is no",
        ),
        (
            {"webhook_url": "https://{{data.host}}/"},
            "webhook_url",
            "At position 8: the scheme, host and port",
        ),
        ({"webhook_url": "http://127.0.0.1/{{id}}"}, "webhook_url", "not allowed"),
        ({"callback_url": "https://1.1.1.1/{{data.First Name}}"}, "callback_url", "blank"),
        ({"webhook_headers": {"X-A": "a {{nope}}"}}, "webhook_headers", "At position 2"),
        ({"webhook_headers": {"X-A": "a\nb"}}, "webhook_headers", "X-A"),
        ({"webhook_headers": {"X-A": "1", "x-a": "2"}}, "webhook_headers", "X-A and x-a are the same header"),
        ({"webhook_body": '{"id": {{id}}}'}, "webhook_body", "At position 8: the template is not JSON"),
        ({"webhook_body": "x" * 70_000}, "webhook_body", "at most"),
        ({"webhook_body": 5}, "webhook_body", "text"),
        (
            {"webhook_body": "[1]", "webhook_content_type": "application/x-www-form-urlencoded"},
            "webhook_body",
            "form",
        ),
        ({"webhook_content_type": "json"}, "webhook_content_type", "media type"),
        ({"webhook_content_type": "a/b\r\nX: 1"}, "webhook_content_type", "media type"),
        ({"webhook_sign": "yes"}, "webhook_sign", "true or false"),
        ({"success_statuses": "2xx"}, "success_statuses", "'2xx'"),
        ({"success_statuses": "200,503"}, "retry_statuses", "503 can't both"),
        ({"success_when": {"pointer": "errors"}}, "success_when", "doesn't begin with /"),
        ({"success_when": []}, "success_when", "object"),
        ({"retry_delays_minutes": []}, "retry_delays_minutes", "1 to 30 whole numbers"),
        ({"retry_delays_minutes": [0]}, "retry_delays_minutes", "from 1 to 10080"),
        ({"retry_delays_minutes": "1,2"}, "retry_delays_minutes", "list"),
        ({"keep_answers": "everything"}, "keep_answers", "doesn't begin with /"),
        ({"keep_answers": ""}, "keep_answers", "a pointer such as"),
    ],
)
def test_bad_field_of_a_request_is_refused_and_says_where(fields, field, words):
    with pytest.raises(BadFields) as caught:
        check(fields)
    assert words in caught.value.reasons[field]


def test_default_fields_give_the_standard_request():
    queue = operations.create(name="plain", by=Actor.system(), at=store.now())
    assert (queue.webhook_body, queue.webhook_content_type, queue.webhook_sign) == (
        None,
        "application/json",
        True,
    )
    assert (queue.success_statuses, queue.retry_statuses) == ("200-299", "408,425,429,500-599")
    assert (queue.success_when, queue.keep_answers) == (None, "unexpected")


def test_test_request_shows_the_filled_request_and_no_secret(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with Target() as target:
        queue = make_queue(
            rpm=6_000,
            handler="webhook",
            webhook_url=f"http://127.0.0.1:{target.port}/users/{{{{id}}}}",
            webhook_headers={"Authorization": "Bearer hush", "X-Id": "{{id}}"},
            webhook_body='{"id": "{{id}}"}',
        )
        sent = trial.send_one(queue, by=Actor.system(), now=store.now).sent
    assert sent.url == f"http://127.0.0.1:{target.port}/users/1"
    assert sent.body == '{"id":1}'
    assert (sent.headers["Authorization"], sent.headers["X-Id"]) == (MASK, MASK)
    assert target.requests[0].headers["authorization"] == "Bearer hush"


def test_callback_ignores_the_request_templates_of_the_queue(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with Target(lambda request: status(204)) as target:
        queue = make_queue(
            handler="webhook",
            callback_url=target.url,
            webhook_url="https://1.1.1.1/{{id}}",
            webhook_method="GET",
            webhook_body="",
            success_statuses="404",
        )
        task = place(queue, {MINUTE: [1]}, at=BEFORE)
        models.Task.objects.filter(pk=task.pk).update(finished_at=AFTER)
        assert callbacks.call_back(task.pk, lambda: AFTER)
    [request] = target.requests
    assert (request.method, request.path, request.headers["content-type"]) == (
        "POST",
        "/in",
        "application/json",
    )
    assert b'"task.done"' in request.body
