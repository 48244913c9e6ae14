"""Deadlines of lists, and when one ID is sent."""

import json
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from scheduling import models, store
from scheduling.core import clock
from scheduling.dispatch import overdue

pytestmark = pytest.mark.django_db


def end_of(plan: dict) -> datetime:
    return datetime.fromisoformat(plan["last_at"]) + clock.MINUTE


def submit(api, ids, query="", **fields):
    return api.send("POST", f"/celery_ids_tasks/{query}", {"task_name": "x", "payload": ids, **fields})


def test_deadline_is_met_by_a_list_whose_last_minute_ends_with_it(api, queue):
    plan = submit(api, list(range(1, 301))).json()["plan"]

    made = submit(api, [1], deadline=end_of(plan).isoformat()).json()["task"]

    assert datetime.fromisoformat(made["deadline"]) == end_of(plan)
    assert made["misses_deadline"] is False


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_deadline_refuses_a_list_that_would_end_later_with_its_plan(api, queue, query):
    plan = submit(api, list(range(1, 301))).json()["plan"]
    ids, deadline = list(range(1, 601)), (end_of(plan) + clock.MINUTE).isoformat()

    refused = api.send(
        "POST", f"/celery_ids_tasks/{query}", {"task_name": "x", "payload": ids, "deadline": deadline}
    )

    assert (refused.status_code, refused.json()["type"]) == (409, "urn:quarterdeck:problem:past-deadline")
    assert sum(sum(window["added"]) for window in refused.json()["plan"]["windows"]) == 600
    assert models.Task.objects.count() == 1


def test_deadline_distinguishes_requests_with_one_key(api, queue):
    first, second = ("2059-01-01T00:00:00Z", "2059-01-02T00:00:00Z")
    body, header = {"task_name": "x", "payload": [1]}, {"Idempotency_Key": "k"}

    assert api.send("POST", "/celery_ids_tasks/", body | {"deadline": first}, **header).status_code == 201
    assert api.send("POST", "/celery_ids_tasks/", body | {"deadline": second}, **header).status_code == 422


def test_deadline_stays_when_the_task_is_sent_back_and_holds_for_edits(api, queue, write_lists):
    task = submit(api, [1, 2]).json()
    number = submit(api, [1, 2], deadline=end_of(task["plan"]).isoformat()).json()["task_id"]
    write_lists()
    address = f"/celery_ids_tasks/{number}/"

    assert api.send("PUT", address, api.get(address).json()).status_code == 200
    assert api.send("PATCH", address, {"deadline": "2059-01-01T00:00:00Z"}).status_code == 422
    longer = api.send("PATCH", address, {"payload": list(range(1, 1_000))})
    assert longer.json()["type"].endswith(":past-deadline")


def test_deadline_is_missed_once_late_ids_have_moved_past_it(api, queue, write_lists, monkeypatch):
    past = store.now() - timedelta(hours=1)
    with monkeypatch.context() as earlier:
        earlier.setattr(store, "now", lambda: past)
        deadline = (past + timedelta(minutes=45)).isoformat()
        number = submit(api, [1, 2], deadline=deadline).json()["task_id"]
        write_lists()
        assert api.get(f"/celery_ids_tasks/{number}/").json()["misses_deadline"] is False
    overdue.run(store.now)

    task = api.get(f"/celery_ids_tasks/{number}/").json()

    assert task["misses_deadline"] is True
    assert datetime.fromisoformat(task["last_at"]) > past + timedelta(hours=1)


@pytest.mark.parametrize("is_written", [True, False])
def test_eta_is_the_minute_of_the_next_request(api, queue, write_lists, is_written):
    later = submit(api, [5, 7], not_before="2027-03-01T08:00:00Z").json()["task_id"]
    sooner = submit(api, [7, 8]).json()
    if is_written:
        write_lists()

    assert api.get("/ids/7/eta/").json() == {
        "user_id": 7,
        "user_id_str": "7",
        "task_id": sooner["task_id"],
        "minute": sooner["plan"]["first_at"],
    }
    api.delete(f"/celery_ids_tasks/{sooner['task_id']}/")
    assert api.get("/ids/7/eta/").json()["task_id"] == later
    api.delete(f"/celery_ids_tasks/{later}/")
    assert api.get("/ids/7/eta/").status_code == 404
    assert api.get("/ids/9/eta/").status_code == 404


def test_eta_of_a_late_id_is_a_minute_that_is_still_to_come(api, submit_past):
    submit_past([7])

    minute = datetime.fromisoformat(api.get("/ids/7/eta/").json()["minute"])

    assert timedelta(0) < minute - store.now() < timedelta(minutes=2)


def test_error_budget_is_read_from_body_query_and_form_and_kept(api, queue):
    made = submit(api, [1], max_failed_percent=2.5, min_finished=200).json()["task"]
    body = api.list([2], query="?task_name=x&max_failed_percent=2.5").json()["task"]
    sent = api.send(
        "POST",
        "/celery_ids_tasks/",
        "task_name=x&payload=3&max_failed_percent=2.5&min_finished=200",
        type="application/x-www-form-urlencoded",
    ).json()["task"]

    budgets = [(task["max_failed_percent"], task["min_finished"]) for task in (made, body, sent)]
    assert budgets == [(2.5, 200), (2.5, None), (2.5, 200)]


@pytest.mark.parametrize(
    "fields",
    [
        {"min_finished": 5},
        {"max_failed_percent": 100},
        {"max_failed_percent": -1},
        {"max_failed_percent": True},
        {"max_failed_percent": "many"},
        {"max_failed_percent": 2, "min_finished": 0},
    ],
)
def test_invalid_error_budget_is_refused(api, queue, fields):
    assert submit(api, [1], **fields).status_code == 422


CANARY = {"ids": 2, "min_succeeded_percent": 98.5}


def test_canary_is_read_from_body_query_and_form_and_shown(api, queue):
    text = json.dumps(CANARY)
    made = submit(api, [1, 2, 3], canary=CANARY).json()
    body = api.list([2], query=f"?task_name=x&canary={quote(text)}").json()["task"]
    sent = api.send(
        "POST",
        "/celery_ids_tasks/",
        f"task_name=x&payload=3&canary={quote(text)}",
        type="application/x-www-form-urlencoded",
    ).json()["task"]

    shown = {**CANARY, "state": "running", "count": 2, "succeeded": 0, "needed": 2, "decided_at": None}
    assert made["task"]["canary"] == shown
    assert [task["canary"]["count"] for task in (body, sent)] == [1, 1]
    first_at = datetime.fromisoformat(made["plan"]["first_at"])
    ends_at = (first_at + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    assert made["canary"] == {"ids": 2, "needed": 2, "ends_at": ends_at}
    # What GET shows may be sent back, and nothing changes.
    address = f"/celery_ids_tasks/{made['task_id']}/"
    assert api.send("PUT", address, api.get(address).json()).status_code == 200
    assert (
        api.send("PATCH", address, {"canary": {"ids": 3, "min_succeeded_percent": 98.5}}).status_code == 422
    )
    assert submit(api, [7], canary=CANARY, query="?dry_run=true").json()["canary"]["ids"] == 1
    assert submit(api, [7]).json()["canary"] is None


def test_continue_lets_a_list_go_on_without_waiting_for_its_canary(api, queue):
    number = submit(api, [1, 2, 3], canary=CANARY).json()["task_id"]

    assert (
        api.send("POST", f"/celery_ids_tasks/{number}/continue/", {}).json()["canary"]["state"] == "skipped"
    )


@pytest.mark.parametrize(
    "canary",
    [
        {"ids": 0, "min_succeeded_percent": 98},
        {"ids": 10_001, "min_succeeded_percent": 98},
        {"ids": True, "min_succeeded_percent": 98},
        {"ids": 100, "min_succeeded_percent": 0},
        {"ids": 100, "min_succeeded_percent": 101},
        {"ids": 100},
        {"ids": 100, "min_succeeded_percent": 98, "max": 1},
        "98",
        [100, 98],
    ],
)
def test_invalid_canary_is_refused(api, queue, canary):
    refused = submit(api, [1], canary=canary)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "canary"
