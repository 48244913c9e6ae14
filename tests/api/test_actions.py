"""Actions on IDs, targets and queues, and the activity log."""

from datetime import timedelta

import pytest

from scheduling import models, store
from scheduling.models import Status

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


@pytest.mark.parametrize(
    "body", [{"queue": "nosuch"}, {"status": "ok"}, {"status": 99}, {"last": "2h"}, {"quue": "default"}]
)
def test_failure_filters_that_mean_nothing_are_refused(api, body):
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
