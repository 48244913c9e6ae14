"""GET: filters, pages, one ID, windows, and invalid requests."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from django.utils import timezone

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.tasks import cancellation

from .conftest import ids_of

pytestmark = pytest.mark.django_db


def walk(api, path, *, between=lambda: None) -> list[dict]:
    """Follow the next links to the end."""
    rows = []
    for _ in range(500):
        answer = api.get(path)
        assert answer.status_code == 200, answer.content
        rows += answer.json()
        if "Link" not in answer:
            return rows
        address, _, relation = answer["Link"].partition(">; ")
        assert relation == 'rel="next"'
        path = urljoin(path, address.removeprefix("<"))
        between()
    raise AssertionError("the walk never ends")


def make_tasks(queue, count, *, name="many") -> list[int]:
    """Tasks of one transaction, all with the same times."""
    at = timezone.now()
    lists = models.IdList.objects.bulk_create(
        [models.IdList(created_at=at, accepted_at=at, ids_count=0) for _ in range(count)]
    )
    facts = {"name": name, "queue": queue, "created_at": at, "created_by": "a test", "placed_at": at}
    counts = {"ids_count": 0, "waiting_count": 0, "same_as_digest": ""}
    minutes = dict.fromkeys(("first_minute_at", "last_minute_at"), at + clock.QUARTER)
    tasks = models.Task.objects.bulk_create(
        models.Task(list=id_list, **facts, **counts, **minutes) for id_list in lists
    )
    return [task.pk for task in tasks]


@pytest.mark.parametrize("filters", ["state=placed", "queue=default", "task_name=many"])
def test_paging_shows_every_task_once_during_changes(api, queue, filters):
    existing = make_tasks(queue, 500)
    by = Actor.command_line()
    to_cancel = iter(existing)

    def others():
        make_tasks(queue, 10)
        for number in [next(to_cancel) for _ in range(5)]:
            cancellation.cancel(models.Task.objects.get(pk=number), by=by, now=store.now)

    result = [task["id"] for task in walk(api, f"/celery_ids_tasks/?{filters}&limit=40", between=others)]
    assert result == sorted(existing, reverse=True)


def test_next_link_keeps_filters_and_limit(api, queue):
    make_tasks(queue, 3)
    answer = api.get(
        "/celery_ids_tasks/?task_name=many&limit=2",
        headers={"X-Forwarded-Host": "evil.example", "Host": "testserver"},
    )
    address = answer["Link"].partition(">")[0].removeprefix("<")
    assert address.startswith("http://testserver/celery_ids_tasks/?")
    assert dict(parse_qsl(urlsplit(address).query)).keys() == {"task_name", "limit", "cursor"}
    assert b"evil" not in answer.serialize()


def test_cursor_that_was_changed_or_is_of_another_list_is_refused(api, queue):
    make_tasks(queue, 3)
    answer = api.get("/celery_ids_tasks/?task_name=many&limit=1")
    cursor = dict(parse_qsl(urlsplit(answer["Link"].partition(">")[0].removeprefix("<")).query))["cursor"]
    good = {"task_name": "many", "limit": "2", "cursor": cursor}
    assert api.get("/celery_ids_tasks/", good).status_code == 200
    for n in range(len(cursor)):
        changed = cursor[:n] + ("x" if cursor[n] != "x" else "y") + cursor[n + 1 :]
        assert api.get("/celery_ids_tasks/", good | {"cursor": changed}).status_code == 400
    for path, query in (
        ("/celery_ids_tasks/", {"cursor": cursor}),
        ("/celery_ids_tasks/", {"task_name": "other", "cursor": cursor}),
        ("/windows/", {"cursor": cursor}),
    ):
        answer = api.get(path, query)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["parameter"] == "cursor"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/celery_ids_tasks/?queu=default", "queu"),
        ("/celery_ids_tasks/?queue=nosuch", "queue"),
        ("/celery_ids_tasks/?queue=", "queue"),
        ("/celery_ids_tasks/?state=finished", "state"),
        ("/celery_ids_tasks/?state=", "state"),
        ("/celery_ids_tasks/?state=done&state=placed", "state"),
        ("/celery_ids_tasks/?task_name=a%00b", "task_name"),
        ("/celery_ids_tasks/?limit=0", "limit"),
        ("/celery_ids_tasks/?limit=1001", "limit"),
        ("/celery_ids_tasks/?limit=1e2", "limit"),
        ("/celery_ids_tasks/?limit=", "limit"),
        ("/celery_ids_tasks/?limit=-1", "limit"),
        ("/celery_ids_tasks/?created_after=yesterday", "created_after"),
        ("/celery_ids_tasks/?created_after=2026-11-25T12:00:00", "created_after"),
        ("/celery_ids_tasks/?created_before=0001-01-01T00:00:00%2B12:00", "created_before"),
        ("/celery_ids_tasks/?cursor=x", "cursor"),
        ("/celery_ids_tasks/?cursor=", "cursor"),
        ("/windows/?queue=nosuch", "queue"),
        ("/windows/?state=open", "state"),
        ("/ids/5/?status=waiting", "status"),
    ],
)
def test_unknown_parameters_and_values_are_named(api, path, name):
    answer = api.get(path)
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["parameter"] == name


def test_thousands_of_parameters_are_a_problem(api):
    answer = api.get("/celery_ids_tasks/?" + "&".join(f"a{n}=1" for n in range(2000)))
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_unknown_parameters_of_an_action_are_named_and_nothing_happens(api):
    for query in ("dryrun=true", "on_error=ignore", "expect=many", "dry_run=maybe", "allow_peak=2"):
        answer = api.list([1], query=f"?task_name=x&{query}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]
    assert not models.Task.objects.exists()


def test_task_filter_by_creation_time(api):
    first, second = (api.list([n], query=f"?task_name={n}").json()["task"] for n in (1, 2))
    after = api.get("/celery_ids_tasks/", {"created_after": second["date_created"]}).json()
    before = api.get("/celery_ids_tasks/", {"created_before": second["date_created"]}).json()
    assert [task["id"] for task in after] == [second["id"]]
    assert [task["id"] for task in before] == [first["id"]]
    # As it arrives when a client didn't escape the +.
    plus = second["date_created"].replace("Z", "+00:00")
    assert len(api.get(f"/celery_ids_tasks/?created_after={plus}").json()) == 1


def test_task_list_omits_payloads(api):
    api.list([1, 2])
    (task,) = api.get("/celery_ids_tasks/").json()
    assert "payload" not in task
    assert api.get(f"/celery_ids_tasks/{task['id']}/").json() == task | {"payload": [1, 2]}


def test_payload_of_more_than_1000_ids_is_null(api):
    short, long = (api.list(list(range(1, count + 1))).json()["task"] for count in (1000, 1001))
    assert short["payload"] == list(range(1, 1001))
    assert long["payload"] is None
    raw = api.list("5\n9007199254740993\n", type="text/plain").json()["task"]
    assert raw["payload"] == [5, "9007199254740993"]


# --- a task's IDs -----------------------------------------------------------------------------------------


def test_ids_are_paged_in_list_order_while_being_written(api, write_lists):
    users = list(range(3000, 0, -1))
    number = api.list(users).json()["task_id"]
    rows = walk(api, f"/celery_ids_tasks/{number}/ids/?limit=700", between=write_lists)
    assert [row["user_id"] for row in rows] == users


def test_id_written_while_its_page_is_read_is_included(api, write_lists, monkeypatch):
    def written_meanwhile(*args):
        write_lists()
        return {}

    number = api.list([3, 1, 2]).json()["task_id"]
    monkeypatch.setattr("scheduling.reports.id_history._reserved", written_meanwhile)
    assert ids_of(api, number) == [3, 1, 2]


@pytest.mark.parametrize("kind", ["text/csv", "application/x-ndjson"])
def test_stream_contains_all_ids_and_can_be_uploaded_again(api, write_lists, kind):
    users = [*range(20_000, 0, -1), 9007199254740993, 9223372036854775807]
    number = api.list("\n".join(map(str, users)), type="text/plain").json()["task_id"]
    for same_as in (number, number + 1):
        answer = api.get(f"/celery_ids_tasks/{number}/ids/", headers={"Accept": kind})
        assert answer["Content-Type"] == kind
        body = answer.getvalue()
        assert len(body.splitlines()) == len(users) + (kind == "text/csv")
        again = api.list(body, type=kind).json()
        assert again["same_as"] == same_as
        assert again["column"] == "user_id"
        write_lists()


def test_stream_that_fails_is_recognizably_incomplete(api, write_lists, monkeypatch):
    number = api.list(list(range(1, 12_001))).json()["task_id"]
    answer = api.get(f"/celery_ids_tasks/{number}/ids/", headers={"Accept": "application/x-ndjson"})
    lines = iter(answer.streaming_content)
    next(lines)
    models.Chunk.objects.all().update(ids=b"broken")
    rest = []
    with pytest.raises(ValueError, match="bytes length"):
        rest.extend(lines)
    assert "cut off" in json.loads(rest[-1])["error"]


def test_media_types_that_are_not_available_are_406(api):
    number = api.list([1]).json()["task_id"]
    assert (
        api.get(f"/celery_ids_tasks/{number}/ids/", headers={"Accept": "application/xml"}).status_code == 406
    )
    assert api.get(f"/celery_ids_tasks/{number}/ids/", headers={"Accept": "*/*"}).json()[0]["user_id"] == 1


def test_ids_filter_by_status(api, write_lists):
    number = api.list(list(range(1, 101))).json()["task_id"]
    write_lists()
    models.Assignment.objects.filter(user_id__in=[7, 70]).update(status=models.Status.FAILED, attempts=6)
    failed = api.get(f"/celery_ids_tasks/{number}/ids/?status=failed").json()
    assert [(place["user_id"], place["attempts"]) for place in failed] == [(7, 6), (70, 6)]
    assert len(walk(api, f"/celery_ids_tasks/{number}/ids/?status=waiting&limit=10")) == 98
    stream = api.get(
        f"/celery_ids_tasks/{number}/ids/?status=failed", headers={"Accept": "application/x-ndjson"}
    )
    assert len(stream.getvalue().splitlines()) == 2


def test_late_seconds_count_from_the_planned_minute(api, write_lists):
    number = api.list([1, 2, 3]).json()["task_id"]
    write_lists()
    row = models.Assignment.objects.get(user_id=2)
    at = store.now()
    long_ago = keys.bucket_at(models.Queue.objects.get().pk, clock.minute_start(at) - timedelta(minutes=11))
    models.Move.objects.create(
        task_id=number,
        user_id=2,
        from_bucket_id=long_ago,
        to_bucket_id=row.bucket_id,
        reason="late",
        moved_at=at,
    )
    late = {
        place["user_id"]: place["late_seconds"]
        for place in api.get(f"/celery_ids_tasks/{number}/ids/").json()
    }
    assert (late[1], late[3]) == (0, 0)
    planned_end = clock.minute_start(at) - timedelta(minutes=10)
    assert late[2] == (row.minute_at - planned_end).total_seconds()


# --- the distribution -------------------------------------------------------------------------------------


def test_distribution_adds_up_to_the_task(api, queue, write_lists):
    models.Queue.objects.update(overflow="carry_over", rpm=10)
    number = api.list(list(range(1, 401))).json()["task_id"]
    windows = api.get(f"/celery_ids_tasks/{number}/distribution/").json()
    assert [sum(bucket["ids"] for bucket in window["buckets"]) for window in windows] == [150, 150, 100]
    assert [window["starts_at"] for window in windows] == sorted(window["starts_at"] for window in windows)
    assert all(bucket["waiting"] == bucket["ids"] for window in windows for bucket in window["buckets"])
    api.send("DELETE", f"/celery_ids_tasks/{number}/")
    windows = api.get(f"/celery_ids_tasks/{number}/distribution/").json()
    assert sum(bucket["cancelled"] for window in windows for bucket in window["buckets"]) == 400


# --- one ID -----------------------------------------------------------------------------------------------


def test_id_history_lists_all_its_tasks_before_and_after_writing(api, write_lists):
    first, second = (api.list([5, 6], query=f"?task_name={name}").json()["task_id"] for name in ("a", "b"))
    for _ in range(2):
        stories = api.get("/ids/5/").json()
        assert [story["task_id"] for story in stories] == [second, first]
        assert [story["task_name"] for story in stories] == ["b", "a"]
        assert stories[0]["user_id_str"] == "5"
        assert stories[0]["status"] == "waiting"
        assert stories[0]["waits_for"].startswith("Its minute, 20")
        assert stories[0]["history"][0]["event"] == "placed"
        write_lists()
    assert len(walk(api, "/ids/5/?limit=1")) == 2
    models.Queue.objects.update(paused_at=timezone.now())
    assert "paused" in api.get("/ids/5/").json()[0]["waits_for"]
    models.Queue.objects.update(paused_at=None, brake_per_minute=0)
    assert api.get("/ids/5/").json()[0]["waits_for"].startswith("The brake of the queue default to be let go")
    models.Queue.objects.update(brake_per_minute=1)
    assert api.get("/ids/5/").json()[0]["waits_for"].startswith("Its minute, 20")
    api.send("DELETE", f"/celery_ids_tasks/{second}/")
    assert "cancelled" in api.get("/ids/5/").json()[0]["waits_for"]


def test_waits_for_names_what_blocks_the_target(api, write_lists):
    models.Queue.objects.update(handler="webhook", webhook_url="https://hook.test/in")
    api.list([5])
    write_lists()
    until = store.now() + timedelta(hours=1)
    target = models.Target.objects.create(origin="https://hook.test:443", blocked_until=until)
    assert f"no requests until {until:%Y-%m-%d %H:%M:%S} UTC" in api.get("/ids/5/").json()[0]["waits_for"]
    target.opened_at, target.failures_count = store.now(), 20
    target.save()
    assert "after 20 failures in a row" in api.get("/ids/5/").json()[0]["waits_for"]
    target.delete()
    assert api.get("/ids/5/").json()[0]["waits_for"].startswith("Its minute")


def test_id_history_orders_moves_and_attempts(api, write_lists):
    number = api.list([5]).json()["task_id"]
    write_lists()
    row = models.Assignment.objects.get()
    at = store.now()
    models.Attempt.objects.create(
        task_id=number,
        user_id=5,
        number=1,
        bucket_id=row.bucket_id,
        started_at=at,
        http_status=503,
        answer="busy",
    )
    models.Move.objects.create(
        task_id=number, user_id=5, from_bucket_id=row.bucket_id, to_bucket_id=row.bucket_id + 1,
        reason="retry", moved_at=at + timedelta(seconds=1),
    )  # fmt: skip
    (story,) = api.get("/ids/5/").json()
    assert [event["event"] for event in story["history"]] == ["placed", "attempt", "moved"]
    assert story["history"][1]["http_status"] == 503
    assert story["history"][2]["reason"] == "it failed and is tried again"


def test_id_that_was_never_received_has_no_history(api):
    assert api.get("/ids/404/").json() == []
    assert api.get("/ids/0/").status_code == 404
    assert api.get("/ids/9223372036854775808/").status_code == 404


def test_ids_beyond_2_53_are_also_strings(api, write_lists):
    users = ["9007199254740993", "154284075601887489"]
    answer = api.list(users).json()
    assert answer["task"]["payload"] == users
    write_lists()
    places = api.get(f"/celery_ids_tasks/{answer['task_id']}/ids/").json()
    assert [place["user_id_str"] for place in places] == users
    assert [place["user_id"] for place in places] == [int(user) for user in users]
    (story,) = api.get("/ids/9007199254740993/").json()
    assert story["user_id_str"] == "9007199254740993"


def test_numbers_that_javascript_may_have_rounded_are_warned_about(api):
    body = api.list('{"task_name": "x", "payload": [9007199254740992, 5]}').json()
    (warning,) = body["warnings"]
    assert (warning["kind"], warning["count"]) == ("past_2_53", 1)
    assert "strings" in warning["message"]
    assert ids_of(api, body["task_id"]) == [9007199254740992, 5]


# --- windows ----------------------------------------------------------------------------------------------


def test_windows_of_now_are_shown_while_empty(api, queue):
    windows = api.get("/windows/?queue=default").json()
    assert [window["state"] for window in windows] == ["open", "running"]
    assert all(len(window["buckets"]) == 15 for window in windows)
    assert {bucket["capacity"] for window in windows for bucket in window["buckets"]} == {120}
    assert api.get(f"/windows/{windows[0]['id']}/").json() == windows[0]
    assert not models.Window.objects.exists()


def test_window_shows_its_contents(api, queue):
    body = api.list(list(range(1, 151))).json()
    starts_at = body["plan"]["windows"][0]["starts_at"]
    window = next(w for w in api.get("/windows/?queue=default").json() if w["starts_at"] == starts_at)
    assert [bucket["filled"] for bucket in window["buckets"]] == [120, 30] + [0] * 13
    assert [bucket["waiting"] for bucket in window["buckets"]] == [120, 30] + [0] * 13
    assert window["queue"] == "default"
    first = datetime.fromisoformat(starts_at)
    assert window["label"] == first.minute + 15
    assert window["buckets"][0]["minute"] == (first + clock.QUARTER).astimezone(UTC).isoformat().replace(
        "+00:00", "Z"
    )
    assert window["receipt"] is None


def test_windows_are_paged_without_repeats(api, queue):
    models.Queue.objects.update(overflow="carry_over", rpm=1)
    api.list(list(range(1, 200)))
    rows = walk(api, "/windows/?limit=3")
    assert len({row["id"] for row in rows}) == len(rows) >= 14
    assert [row["starts_at"] for row in rows] == sorted((row["starts_at"] for row in rows), reverse=True)


@pytest.mark.parametrize("number", [0, 5, 8191 << 22, 1 << 60, 9223372036854775807])
def test_windows_that_cannot_exist_are_404(api, number):
    assert api.get(f"/windows/{number}/").status_code == 404
