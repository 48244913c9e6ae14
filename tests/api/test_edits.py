"""PUT, PATCH and DELETE of tasks."""

import pytest

from scheduling import models

pytestmark = pytest.mark.django_db


@pytest.fixture
def task_id(api, write_lists) -> int:
    number = api.list([1, 2, 3], query="?task_name=before").json()["task_id"]
    write_lists()
    return number


def name_of(api, task_id) -> str:
    return api.get(f"/celery_ids_tasks/{task_id}/").json()["task_name"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("rest", [{}, {"payload": None}])
def test_rename_cancels_nothing(api, task_id, method, rest):
    answer = api.send(method, f"/celery_ids_tasks/{task_id}/", {"task_name": "after", **rest})
    assert answer.status_code == 200
    assert answer.json()["task_name"] == "after"
    task = api.get(f"/celery_ids_tasks/{task_id}/").json()
    assert task["task_name"] == "after"
    assert task["counts"]["waiting"] == 3


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_edit_accepts_the_id_in_the_body(api, task_id, method):
    answer = api.send(method, "/celery_ids_tasks/", {"id": task_id, "task_name": "after"})
    assert answer.status_code == 200
    assert name_of(api, task_id) == "after"


def test_edit_without_an_id_is_refused(api, task_id):
    answer = api.send("PUT", "/celery_ids_tasks/", {"task_name": "after"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "id"


def test_put_accepts_the_whole_get_while_placing_and_after_cancel(api):
    number = api.list("1 2 3", type="application/x-www-form-urlencoded", query="?task_name=x")
    assert number.status_code == 422
    number = api.send("POST", "/celery_ids_tasks/", {"task_name": "x", "payload": "1 2 3"}).json()["task_id"]
    whole = api.get(f"/celery_ids_tasks/{number}/").json()
    assert whole["payload"] == "1 2 3"
    answer = api.send("PUT", f"/celery_ids_tasks/{number}/", whole | {"task_name": "y"})
    assert answer.status_code == 200, answer.content
    api.send("DELETE", f"/celery_ids_tasks/{number}/")
    whole = api.get(f"/celery_ids_tasks/{number}/").json()
    assert whole["state"] == "cancelled"
    answer = api.send("PUT", f"/celery_ids_tasks/{number}/", whole | {"task_name": "z"})
    assert answer.status_code == 200, answer.content
    assert name_of(api, number) == "z"


def test_edit_to_another_queue_is_refused(api, task_id):
    answer = api.send("PUT", f"/celery_ids_tasks/{task_id}/", {"task_name": "after", "queue": "other"})
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":other-queue")
    assert name_of(api, task_id) == "before"


def test_cancel_keeps_the_record_and_is_repeatable(api, task_id):
    first = api.send("DELETE", f"/celery_ids_tasks/{task_id}/")
    assert first.status_code == 200
    assert first.json() == {"cancelled": 3, "already_sent": 0, "in_flight": 0}
    assert api.send("DELETE", f"/celery_ids_tasks/{task_id}").json() == first.json()
    task = api.get(f"/celery_ids_tasks/{task_id}/").json()
    assert task["state"] == "cancelled"
    assert task["counts"]["cancelled"] == 3
    places = api.get(f"/celery_ids_tasks/{task_id}/ids/").json()
    assert {place["status"] for place in places} == {"cancelled"}


def test_etag_changes_with_edits_not_progress(api, task_id):
    tag = api.get(f"/celery_ids_tasks/{task_id}/")["ETag"]
    models.Task.objects.filter(pk=task_id).update(waiting_count=2, succeeded_count=1)
    assert api.get(f"/celery_ids_tasks/{task_id}/")["ETag"] == tag
    assert api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"task_name": "a"})["ETag"] != tag


@pytest.mark.parametrize("as_proxies_make_it", ["{}", "W/{}", '"nosuch", {}', "W/{gzip}", "{gzip}", "*"])
def test_if_match_with_the_current_tag_edits(api, task_id, as_proxies_make_it):
    tag = api.get(f"/celery_ids_tasks/{task_id}/")["ETag"]
    header = as_proxies_make_it.format(tag, gzip=f'{tag[:-1]}-gzip"')
    answer = api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"task_name": "a"}, If_Match=header)
    assert answer.status_code == 200, answer.content


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_with_a_stale_tag_changes_nothing(api, task_id, method):
    tag = api.get(f"/celery_ids_tasks/{task_id}/")["ETag"]
    api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"task_name": "meanwhile"})
    answer = api.send(method, f"/celery_ids_tasks/{task_id}/", {"task_name": "late"}, If_Match=tag)
    assert answer.status_code == 412
    task = api.get(f"/celery_ids_tasks/{task_id}/").json()
    assert (task["task_name"], task["state"]) == ("meanwhile", "placed")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("number", ["999999", "0", "9223372036854775808", "abc", "1e3", "-1", "1_0", "٣"])
def test_tasks_that_do_not_exist_are_404(api, method, number):
    answer = api.send(method, f"/celery_ids_tasks/{number}/", {"task_name": "x"})
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"


def test_read_only_fields_are_ignored(api, task_id):
    answer = api.send(
        "PATCH",
        f"/celery_ids_tasks/{task_id}/",
        {
            "id": 5,
            "task_status": False,
            "state": "done",
            "counts": {},
            "finished_at": "now",
            "task_name": "after",
        },
    )
    assert answer.status_code == 200
    assert answer.json()["id"] == task_id
    assert answer.json()["state"] == "placed"


def test_task_name_that_is_too_long_is_refused(api, task_id):
    answer = api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"task_name": "n" * 201})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "task_name"


def test_merge_patch_is_accepted(api, task_id):
    answer = api.send(
        "PATCH", f"/celery_ids_tasks/{task_id}/", {"task_name": "after"}, type="application/merge-patch+json"
    )
    assert answer.status_code == 200
    assert name_of(api, task_id) == "after"


# --- another list ---------------------------------------------------------------------------------------


def buckets_of(api, task_id) -> dict[int, tuple[str, int]]:
    places = api.get(f"/celery_ids_tasks/{task_id}/ids/").json()
    return {place["user_id"]: (place["window"], place["bucket"]) for place in places}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_new_payload_keeps_cancels_and_places(api, task_id, write_lists, method):
    models.Queue.objects.update(rpm=1)
    before = buckets_of(api, task_id)
    answer = api.send(method, f"/celery_ids_tasks/{task_id}/", {"task_name": "after", "payload": [4, 3, 2]})
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert {"kept": 2, "added": 1, "cancelled": 1, "already_sent": 0, "in_flight": 0}.items() <= body.items()
    assert body["task"]["task_name"] == "after"
    assert body["task"]["payload"] == [4, 3, 2]
    planned = buckets_of(api, task_id)
    write_lists()
    assert buckets_of(api, task_id) == planned
    assert {user: planned[user] for user in (2, 3)} == {user: before[user] for user in (2, 3)}
    places = api.get(f"/celery_ids_tasks/{task_id}/ids/").json()
    assert [(place["user_id"], place["status"]) for place in places] == [
        (4, "waiting"),
        (3, "waiting"),
        (2, "waiting"),
        (1, "cancelled"),
    ]
    assert planned[4][0] == body["plan"]["windows"][0]["starts_at"]
    assert body["plan"]["windows"][0]["added"][planned[4][1]] == 1
    assert api.get("/ids/4/").json()[0]["status"] == "waiting"


def test_put_of_the_whole_get_keeps_everything(api, task_id):
    whole = api.get(f"/celery_ids_tasks/{task_id}/").json()
    answer = api.send("PUT", f"/celery_ids_tasks/{task_id}/", whole)
    assert answer.status_code == 200
    assert {"kept": 3, "added": 0, "cancelled": 0}.items() <= answer.json().items()
    assert answer.json()["task"] == whole


def test_put_accepts_a_raw_list(api, task_id):
    answer = api.send(
        "PUT", f"/celery_ids_tasks/{task_id}/?task_name=raw", "user_id\n3\n9\n", type="text/csv"
    )
    assert answer.status_code == 200, answer.content
    assert {"kept": 1, "added": 1, "cancelled": 2}.items() <= answer.json().items()
    assert name_of(api, task_id) == "raw"


def test_new_payload_while_placing_is_409(api, write_lists):
    number = api.list([1, 2]).json()["task_id"]
    answer = api.send("PUT", f"/celery_ids_tasks/{number}/", {"payload": [3]})
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":still-placing")
    assert int(answer["Retry-After"]) >= 1
    write_lists()
    assert api.send("PUT", f"/celery_ids_tasks/{number}/", {"payload": [3]}).status_code == 200


def test_new_payload_for_a_cancelled_task_is_409(api, task_id):
    api.send("DELETE", f"/celery_ids_tasks/{task_id}/")
    answer = api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"payload": [3, 4]})
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":task-cancelled")


@pytest.mark.parametrize("payload", [[1, "x"], [], "", {}, True, "1 2 zwei"])
def test_invalid_payload_changes_nothing(api, task_id, payload):
    answer = api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"task_name": "after", "payload": payload})
    assert answer.status_code == 422, answer.content
    task = api.get(f"/celery_ids_tasks/{task_id}/").json()
    assert (task["task_name"], task["counts"]["waiting"]) == ("before", 3)


def test_new_payload_with_a_stale_tag_is_412(api, task_id):
    tag = api.get(f"/celery_ids_tasks/{task_id}/")["ETag"]
    good = api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"payload": [1, 5]}, If_Match=tag)
    assert good.status_code == 200
    stale = api.send("PATCH", f"/celery_ids_tasks/{task_id}/", {"payload": [1, 6]}, If_Match=tag)
    assert stale.status_code == 412


def test_fields_that_an_edit_cannot_change_are_refused(api, task_id):
    when = "2031-03-05T12:00:00Z"
    answer = api.send("PUT", f"/celery_ids_tasks/{task_id}/", {"task_name": "after", "not_before": when})
    assert answer.status_code == 422
    assert name_of(api, task_id) == "before"
    body = {"task_name": "x", "payload": [1], "not_before": when}
    number = api.send("POST", "/celery_ids_tasks/", body).json()["task_id"]
    assert api.send("PUT", f"/celery_ids_tasks/{number}/", body | {"task_name": "y"}).status_code == 200
