"""What integrations build on: filters of several values, references, results in bulk, calls of a callback_url."""

import csv
import io
import ipaddress
import json

import pytest

from operators.actor import Actor
from scheduling import models, store
from scheduling.tasks import callbacks
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db
LARGE = 9007199254740993


@pytest.fixture
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


def submit(api, task_name="x", **fields) -> dict:
    return api.send(
        "POST", "/celery_ids_tasks/", {"task_name": task_name, "payload": [1, 2], **fields}
    ).json()


# --- Several at once ---


def test_users_are_read_in_bulk_with_their_ids_as_strings(api, queue):
    for user_id in (LARGE, 5, 6):
        api.send("POST", "/users/", {"id": user_id, "name": f"user {user_id}"})

    body = api.get(f"/users/?id={LARGE},5,77").json()

    assert {user["id_str"]: user["name"] for user in body} == {str(LARGE): f"user {LARGE}", "5": "user 5"}


def test_user_as_get_returns_it_may_be_sent_back(api, queue):
    api.send("POST", "/users/", {"id": 5, "name": "Ann"})
    user = api.get("/users/5/").json()

    assert api.send("PUT", "/users/5/", user | {"name": "Bo"}).json()["name"] == "Bo"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[
            (path, value)
            for path in ("/users/", "/celery_ids_tasks/")
            for value in ("0", "1,,2", "1;2", "x", "1,9223372036854775808")
        ],
        # A user whose ID is text has a negative number.
        ("/celery_ids_tasks/", "-1"),
    ],
)
def test_filter_by_ids_refuses_what_is_no_id(api, queue, path, value):
    answer = api.get(f"{path}?id={value}")

    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "id")


def test_tasks_are_read_by_several_ids_and_states(api, queue):
    first, second, third = (submit(api, name)["task_id"] for name in "abc")
    api.delete(f"/celery_ids_tasks/{second}/")

    def tasks_found(query: str) -> list[int]:
        return [task["id"] for task in api.get(f"/celery_ids_tasks/?{query}").json()]

    assert tasks_found(f"id={first},{third},999") == [third, first]
    assert tasks_found("state=placing,cancelled") == [third, second, first]
    assert tasks_found("state=cancelled") == [second]
    assert api.get("/celery_ids_tasks/?state=placed,gone").status_code == 400


# --- References ---


def test_reference_is_kept_with_the_task_and_is_a_filter(api, queue):
    made = submit(api, reference="campaign 7")["task"]
    submit(api, "another", reference="campaign 8")
    submit(api, "none")

    (body,) = api.get("/celery_ids_tasks/?reference=campaign 7").json()

    assert (body["id"], body["reference"]) == (made["id"], "campaign 7")
    assert api.get(f"/celery_ids_tasks/{made['id'] + 2}/").json()["reference"] is None


def test_reference_stays_when_the_task_is_sent_back_and_cannot_be_changed(api, queue):
    task = submit(api, reference="campaign 7")["task"]
    address = f"/celery_ids_tasks/{task['id']}/"

    assert api.send("PUT", address, api.get(address).json()).status_code == 200
    assert api.send("PATCH", address, {"reference": "campaign 8"}).status_code == 422


def test_reference_tells_requests_with_one_key_apart(api, queue):
    body = {"task_name": "x", "payload": [1]}
    header = {"Idempotency_Key": "k"}

    assert api.send("POST", "/celery_ids_tasks/", body | {"reference": "a"}, **header).status_code == 201
    assert api.send("POST", "/celery_ids_tasks/", body | {"reference": "b"}, **header).status_code == 422


# --- Why IDs failed ---


def test_results_of_failed_ids_come_with_their_rows(api, queue, write_lists):
    task_id = submit(api)["task_id"]
    write_lists()
    for number, answer in ((1, "busy"), (2, "=gone()")):
        models.Attempt.objects.create(
            task_id=task_id, user_id=1, number=number, bucket_id=1, started_at=store.now(),
            http_status=400 + number, answer=answer, error="refused",
        )  # fmt: skip
    address = f"/celery_ids_tasks/{task_id}/ids/"

    first, second = api.get(f"{address}?results=true").json()
    lines = b"".join(api.get(f"{address}?results=true", headers={"Accept": "text/csv"}).streaming_content)

    assert (first["http_status"], first["error"], first["answer"]) == (402, "refused", "=gone()")
    assert (second["http_status"], second["error"], second["answer"]) == (None, "", "")
    (row, _) = csv.DictReader(io.StringIO(lines.decode()))
    assert (row["http_status"], row["answer"]) == ("402", "'=gone()")
    assert "answer" not in api.get(address).json()[0]


def test_results_cost_one_query_more(api, queue, write_lists, django_assert_max_num_queries):
    task_id = submit(api, payload=list(range(1, 301)))["task_id"]
    write_lists()

    with django_assert_max_num_queries(12):
        api.get(f"/celery_ids_tasks/{task_id}/ids/?results=true")


# --- The call that a task is done ---


def done(api, queue, target, **fields) -> models.Task:
    models.Queue.objects.filter(pk=queue.pk).update(callback_url=f"{target.url}", **fields)
    task = models.Task.objects.get(pk=submit(api)["task_id"])
    models.Task.objects.filter(pk=task.pk).update(finished_at=store.now())
    task.refresh_from_db()
    return task


def test_callback_of_a_task_is_shown_and_called_again_when_asked(api, queue, loopback):
    with Target() as target:
        task = done(api, queue, target)
        address = f"/celery_ids_tasks/{task.pk}/"
        assert api.get(address).json()["callback"]["state"] == "due"
        assert api.post(f"{address}call_back/").status_code == 409

        assert callbacks.call_back(task.pk, store.now)
        called = api.get(address).json()["callback"]
        assert (called["state"], called["attempts"], bool(called["at"])) == ("succeeded", 1, True)

        assert api.post(f"{address}call_back/").json()["callback"]["state"] == "due"
        assert callbacks.call_back(task.pk, store.now)
        assert len(target.requests) == 2


def test_callback_that_was_given_up_says_so(api, queue, loopback):
    with Target(lambda request: status(410)) as target:
        task = done(api, queue, target)
        callbacks.call_back(task.pk, store.now)

    assert api.get(f"/celery_ids_tasks/{task.pk}/").json()["callback"]["state"] == "given_up"
    assert api.post(f"/celery_ids_tasks/{task.pk}/call_back/").status_code == 200


def test_callback_is_null_without_an_address_or_before_the_task_is_done(api, queue):
    task = submit(api)["task"]

    assert task["callback"] is None
    assert api.post(f"/celery_ids_tasks/{task['id']}/call_back/").status_code == 409


def test_callback_is_tested_without_a_task(api, queue, loopback):
    assert api.post("/queues/default/test_callback/").status_code == 409
    with Target() as target:
        models.Queue.objects.filter(pk=queue.pk).update(callback_url=f"{target.url}")

        answer = api.post("/queues/default/test_callback/").json()

    assert (answer["verdict"], answer["http_status"]) == ("succeeded", 200)
    assert json.loads(target.requests[0].body)["task_id"] == 0
    assert models.Activity.objects.filter(verb="tested_callback", object_id=queue.pk).exists()


def test_callback_gets_the_queues_headers_at_the_same_origin_only(api, queue, loopback):
    headers = {"X-Gateway": "key", "X-Name": "{{data.name}}"}
    with Target() as target, Target() as other:
        for to in (target, other):
            fields = {"webhook_url": f"{target.url}", "callback_url": f"{to.url}"}
            models.Queue.objects.filter(pk=queue.pk).update(webhook_headers=headers, **fields)
            queue.refresh_from_db()
            callbacks.test(queue, by=Actor.system(), at=store.now())

    assert target.requests[0].headers["x-gateway"] == "key"
    assert "x-name" not in target.requests[0].headers
    assert "x-gateway" not in other.requests[0].headers
