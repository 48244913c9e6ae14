"""Actions on IDs, targets and queues, and the activity log."""

from datetime import timedelta

import pytest

from scheduling import models, store
from scheduling.models import Status

from .conftest import ApiClient
from .test_reading import walk

pytestmark = pytest.mark.django_db


def counts(api, number: int) -> dict[str, int]:
    return api.get(f"/celery_ids_tasks/{number}/").json()["counts"]


@pytest.mark.parametrize(("action", "status"), [("retry", Status.FAILED), ("resend", Status.SUCCEEDED)])
def test_retry_and_resend_send_the_ids_of_a_task_again(api, submit_past, finish, action, status):
    number = submit_past([1, 2, 3])
    finish(number, status, 404 if status == Status.FAILED else 200)
    path = f"/celery_ids_tasks/{number}/{action}/"
    refused = api.send("POST", f"{path}?expect=2")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith(":count-changed")
    assert refused.json()["found"] == 3
    response = api.send("POST", f"{path}?expect=3")
    assert response.status_code == 200, response.content
    assert response.json() == {"ids": 3, "done": 3, "is_finished": True}
    assert counts(api, number)["waiting"] == 3
    again = api.send("POST", path)
    assert again.json() == {"ids": 0, "done": 0, "is_finished": True}


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize(("action", "status"), [("retry", Status.FAILED), ("resend", Status.SUCCEEDED)])
def test_idempotency_key_retries_and_resends_once(api, submit_past, finish, action, status, is_stored):
    number = submit_past([1, 2, 3])
    http_status = 404 if status == Status.FAILED else 200
    finish(number, status, http_status)
    path, key = f"/celery_ids_tasks/{number}/{action}/", {"Idempotency_Key": "again-1"}
    first = api.send("POST", path, **key)
    assert first.json() == {"ids": 3, "done": 3, "is_finished": True}
    assert "Idempotent-Replayed" not in first.headers
    # Sent and finished once more, before the sender asks again since it never saw the first response.
    finish(number, status, http_status)
    if not is_stored:
        # The process died between the beginning of the operation and the response.
        models.IdempotentAnswer.objects.all().delete()
    again = api.send("POST", path, **key)

    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    assert counts(api, number)["waiting"] == 0
    assert api.send("POST", f"{path}?expect=3", **key).status_code == 422


def test_idempotency_key_retries_failures_once(api, submit_past, finish):
    number = submit_past([1, 2, 3])
    finish(number, Status.FAILED, 404)
    key = {"Idempotency_Key": "failures-1"}
    assert api.send("POST", "/failures/retry/", {"task": number}, **key).json()["ids"] == 3
    finish(number, Status.FAILED, 404)
    assert api.send("POST", "/failures/retry/", {"task": number}, **key).json()["ids"] == 3
    assert counts(api, number)["waiting"] == 0
    assert api.send("POST", "/failures/retry/", {"status": 404}, **key).status_code == 422


@pytest.mark.parametrize("action", ["retry", "resend"])
def test_retry_and_resend_of_a_cancelled_or_missing_task_are_refused(api, action):
    number = api.list([1]).json()["task_id"]
    api.send("DELETE", f"/celery_ids_tasks/{number}/")
    refused = api.send("POST", f"/celery_ids_tasks/{number}/{action}/")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith(":task-cancelled")
    assert api.send("POST", f"/celery_ids_tasks/999/{action}/").status_code == 404


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({}, 5),
        ({"queue": "default"}, 3),
        ({"status": 404}, 3),
        ({"status": "503"}, 2),
        ({"status": "none"}, 0),
        ({"message": "busy"}, 2),
        ({"user": 2}, 1),
        ({"task": "$second"}, 2),
        ({"last": "24h"}, 5),
        ({"queue": "mail", "status": 404}, 0),
    ],
)
def test_failures_are_retried_by_the_filter_of_their_page(api, submit_past, finish, body, ids):
    api.send("POST", "/queues/", {"name": "mail"})
    first, second = submit_past([1, 2, 3]), submit_past([4, 5], query="?task_name=y&queue=mail")
    finish(first, Status.FAILED, 404, "no such customer")
    finish(second, Status.FAILED, 503, "busy")
    body = {name: second if value == "$second" else value for name, value in body.items()}
    refused = api.send("POST", f"/failures/retry/?expect={ids + 1}", body)
    assert (refused.status_code, refused.json()["found"]) == (409, ids)
    response = api.send("POST", "/failures/retry/", body)
    assert response.status_code == 200, response.content
    assert response.json()["ids"] == ids
    assert counts(api, first)["waiting"] + counts(api, second)["waiting"] == ids


def test_failures_of_an_id_that_is_text_are_retried(api, submit_past, finish):
    texts = ["ann@example.com", "bo@example.com", "007", "1001", "+4917"]
    finish(submit_past(texts, query="?task_name=x&id_type=text"), Status.FAILED, 404, "no such customer")
    for user, ids in (
        ("bo@example.com", 1),
        ("nobody@example.com", 0),
        ("007", 1),
        ("+4917", 1),
        (1001, 0),
        # Digits are a number, unless only the text was received.
        ("1001", 1),
    ):
        response = api.send("POST", "/failures/retry/", {"user": user})
        assert response.status_code == 200, response.content
        assert response.json()["ids"] == ids


@pytest.mark.parametrize(
    "body",
    [
        {"user": 0},
        {"user": "0"},
        {"user": ""},
        {"user": True},
        {"queue": "nosuch"},
        {"status": "ok"},
        {"status": 99},
        {"last": "2h"},
        {"quue": "default"},
    ],
)
def test_invalid_failure_filters_are_refused(api, body):
    response = api.send("POST", "/failures/retry/", body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].split(".")[0] == next(iter(body))


def test_release_unblocks_the_target_of_a_queue(api):
    models.Queue.objects.update(handler="webhook", webhook_url="https://hook.test/in")
    assert api.send("POST", "/queues/default/release/").status_code == 409
    models.Target.objects.create(origin="https://hook.test:443", opened_at=store.now(), failures_count=20)
    assert api.send("POST", "/queues/default/release/").status_code == 200
    assert models.Target.objects.get().opened_at is None
    assert api.send("POST", "/queues/nosuch/release/").status_code == 404


def test_queue_without_tasks_is_deleted(api):
    api.send("POST", "/queues/", {"name": "mail"})
    assert api.send("POST", "/queues/mail/test/").status_code == 200
    assert api.send("DELETE", "/queues/mail/", If_Match='"0"').status_code == 412
    assert api.send("DELETE", "/queues/mail/").status_code == 204
    assert api.get("/queues/mail/").status_code == 404
    assert not models.Window.objects.filter(queue__name="mail").exists()
    assert api.send("POST", "/queues/", {"name": "mail"}).status_code == 201


def test_queue_with_tasks_and_the_default_one_stay(api):
    api.send("POST", "/queues/", {"name": "mail"})
    api.list([1], query="?task_name=x&queue=mail")
    for name in ("mail", "default"):
        refused = api.send("DELETE", f"/queues/{name}/")
        assert refused.status_code == 409
        assert refused.json()["type"].endswith(":conflict")


def test_activity_lists_who_did_what(api, reader):
    api.send("POST", "/queues/", {"name": "mail"})
    number = api.list([1, 2]).json()["task_id"]
    api.send("POST", "/queues/mail/pause/")
    rows = reader.get("/activity/").json()
    assert [row["verb"] for row in rows[:3]] == ["paused", "submitted", "created"]
    assert rows[0].keys() == {"id", "at", "actor", "face", "verb", "object", "count", "before", "after"}
    assert (rows[0]["object"], rows[0]["actor"], rows[0]["face"]) == ("queue mail", "a test", "api")
    assert (rows[1]["object"], rows[1]["count"]) == (f"task {number}", 2)
    assert rows[0]["at"].endswith("Z")
    assert walk(reader, "/activity/?limit=1") == rows


def test_activity_shows_no_number_of_a_user_whose_id_is_text(api):
    number = api.send("POST", "/users/", {"external_id": "ann@x", "name": "Ann"}).json()["id"]
    assert api.get("/activity/").json()[0]["object"] == "user ann@x"
    assert api.delete(f"/users/{number}/?erase=true").status_code == 204
    assert [row["object"] for row in api.get("/activity/").json()[:2]] == ["user (erased)", "user (erased)"]
    api.send("POST", "/users/", {"id": 7})
    assert api.get("/activity/").json()[0]["object"] == "user 7"


def test_activity_is_filtered(api):
    api.send("POST", "/queues/", {"name": "mail"})
    number = api.list([1, 2]).json()["task_id"]
    at = store.now()
    for query, verbs in (
        ("verb=submitted", ["submitted"]),
        (f"object=task {number}", ["submitted"]),
        ("object=queue mail", ["created"]),
        ("object=queue", ["created"]),
        ("object=task 999", []),
        ("actor=nobody", []),
        (f"until={(at - timedelta(hours=1)).isoformat()}".replace("+", "%2B"), []),
        (
            f"actor=a test&since={(at - timedelta(hours=1)).isoformat()}".replace("+", "%2B"),
            ["submitted", "created"],
        ),
    ):
        response = api.get(f"/activity/?{query}")
        assert response.status_code == 200, response.content
        assert [row["verb"] for row in response.json()] == verbs, query


BODYLESS = (
    "/celery_ids_tasks/{task}/retry/",
    "/celery_ids_tasks/{task}/resend/",
    "/celery_ids_tasks/{task}/continue/",
    "/celery_ids_tasks/{task}/call_back/",
    "/queues/default/test_callback/",
    "/queues/default/release/",
    "/queues/default/resume/",
    "/webhooks/{webhook}/test/",
    "/webhooks/{webhook}/deliveries/1/resend/",
)


@pytest.mark.parametrize("path", BODYLESS)
def test_field_of_an_action_without_fields_is_refused_by_name(api, make_operator, make_token, path):
    admin_api = ApiClient(make_token("write", operator=make_operator("admin")))
    path = path.format(task=api.list([1]).json()["task_id"], webhook=1)
    refused = admin_api.send("POST", path, {"expect": 3})
    assert refused.status_code == 422, refused.content
    assert [place["field"] for place in refused.json()["errors"]] == ["expect"]
    for body in ({}, None):
        assert admin_api.send("POST", path, body).status_code != 422
    assert admin_api.send("POST", f"{path}?unknown_fields=ignore", {"expect": 3}).status_code != 422


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("?reason=wrong+text", None, "wrong text"),
        ("", {"reason": "wrong text"}, "wrong text"),
        ("?reason=wrong+text", {"reason": "wrong list"}, "wrong list"),
        ("?reason=wrong+text", {"reason": None}, "wrong text"),
        ("", {}, ""),
    ],
)
def test_reason_of_a_hold_and_a_pause_is_a_parameter_or_a_field(api, query, body, reason):
    number = api.list([1]).json()["task_id"]
    held = api.send("POST", f"/celery_ids_tasks/{number}/hold/{query}", body)
    assert held.status_code == 200, held.content
    assert held.json()["hold"]["reason"] == reason
    assert api.send("POST", f"/queues/default/pause/{query}", body).status_code == 200
    assert models.Queue.objects.get().pause_reason == reason


@pytest.mark.parametrize("path", ["/celery_ids_tasks/{number}/hold/", "/queues/default/pause/"])
def test_misspelt_reason_is_refused_with_the_nearest_name(api, path):
    number = api.list([1]).json()["task_id"]
    refused = api.send("POST", path.format(number=number), {"raeson": "wrong text"})
    assert refused.status_code == 422
    assert "reason" in refused.json()["detail"]
