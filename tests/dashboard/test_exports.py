"""Every list as a file: of all that the page counts, and visibly cut where it isn't whole."""

import csv
import json
import re
from zoneinfo import ZoneInfo

import pytest

from dashboard import exports
from dashboard.views import failures, ids, queues, tasks
from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import clock, keys
from scheduling.upkeep import quarter_hour
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db


def lines(client, address: str) -> list[str]:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return b"".join(answer.streaming_content).decode().splitlines()


def objects(client, address: str) -> list[dict]:
    return [json.loads(line) for line in lines(client, address)]


def records(client, address: str) -> list[dict]:
    return list(csv.DictReader(lines(client, address)))


def test_broken_export_says_so_in_its_last_line():
    def rows():
        yield from ([n] for n in range(700))
        raise RuntimeError

    last = {"csv": "# CUT: the export broke here", "ndjson": '{"cut": "the export broke here"}'}
    for form, error in last.items():
        result = []
        with pytest.raises(RuntimeError):
            result.extend(exports.named(form, "a", ["n"], rows()).streaming_content)
        written = b"".join(result).decode().splitlines()
        assert written[-1] == error
        assert len([line for line in written if "69" in line]) == 17


def test_times_in_files_are_in_utc_with_z(place, fail, sign_in):
    task = place(range(1, 4), at=store.now() - 3 * clock.QUARTER)
    fail(task)
    client = sign_in("viewer", time_zone="Asia/Kathmandu")
    minute = f"{task.first_minute_at:%Y-%m-%dT%H:%MZ}"
    models.Queue.objects.update(paused_at=store.now())
    day = f"{task.first_minute_at.astimezone(ZoneInfo('Asia/Kathmandu')):%Y-%m-%d}"

    for page in (
        "tasks/",
        f"tasks/{task.pk}/",
        f"minutes/{minute}/",
        f"drill-down/?minute={minute}&queue=default",
        "failures/?queue=default",
        "failures/?list=groups",
        f"history/{day}/",
        f"history/{day}/?list=windows",
        "ids/1/",
        "activity/",
        "queues/",
    ):
        joined = "&" if "?" in page else "?"
        text = b"".join(client.get(f"/dashboard/{page}{joined}format=csv").streaming_content).decode()
        assert re.search(r"\d{2}:\d{2}:\d{2}(\.\d+)?Z", text), page
        assert "+00:00" not in text, page
        assert "+05:45" not in text, page


def test_export_of_an_unknown_list_is_refused_by_name(db, sign_in):
    answer = sign_in("viewer").get("/dashboard/failures/?format=csv&list=grops")

    assert answer.status_code == 400
    assert "grops" in answer.content.decode()


def test_export_of_failure_groups_has_the_counts_of_the_page(place, fail, sign_in, monkeypatch):
    then = store.now() - 3 * clock.QUARTER
    fail(place(range(1, 8), at=then), 404, "=no such customer")
    fail(place(range(10, 13), at=then + clock.QUARTER), 410, "gone")
    client = sign_in("viewer")

    result = records(client, "/dashboard/failures/?format=csv&list=groups")

    assert [(each["http_status"], each["message"], each["ids"]) for each in result] == [
        ("404", "'=no such customer", "7"),
        ("410", "gone", "3"),
    ]
    of_one = objects(client, "/dashboard/failures/?status=410&format=ndjson&list=groups")
    assert [each["ids"] for each in of_one] == [3]
    assert len(records(client, "/dashboard/failures/?format=csv")) == 10
    monkeypatch.setattr(failures, "GROUPS_AT_MOST", 1)
    assert objects(client, "/dashboard/failures/?format=ndjson&list=groups")[1:] == [
        {"cut": "the largest 1 groups"}
    ]


def test_failures_page_says_that_it_shows_the_largest_groups(place, fail, sign_in, monkeypatch):
    monkeypatch.setattr(failures.failing, "GROUPS_SHOWN", 1)
    for quarters, status in ((3, 404), (4, 410)):
        fail(place([status], at=store.now() - quarters * clock.QUARTER), status, "gone")

    page = sign_in("viewer").get("/dashboard/failures/").content.decode()

    assert "The largest 1 groups; more as" in page


def test_export_of_a_window_has_its_receipt_and_every_change(place, fail, sign_in, monkeypatch):
    then = store.now() - 4 * clock.QUARTER
    task = place(range(1, 31), at=then, name="=renewals")
    client = sign_in("viewer")
    window = models.Window.objects.get()
    address = f"/dashboard/windows/default/{window.starts_at:%Y-%m-%dT%H:%MZ}/"

    assert client.get(f"{address}?format=csv").status_code == 400
    assert "?format=csv&amp;list=changes" in client.get(address).content.decode()

    fail(task)
    quarter_hour.total(store.now)
    receipt = records(client, f"{address}?format=csv")

    assert len(receipt) == 15
    assert sum(int(minute["failed"]) for minute in receipt) == 30
    assert "?format=ndjson" in client.get(address).content.decode()
    (change,) = objects(client, f"{address}?format=ndjson&list=changes")
    assert (change["ids"], change["task_id"], change["task_name"]) == (30, task.pk, "=renewals")
    assert sum(change["deltas"]) == 30
    (change,) = records(client, f"{address}?format=csv&list=changes")
    assert change["task_name"] == "'=renewals"


def test_exports_of_a_day_by_minute_window_and_queue_have_one_sum(place, fail, sign_in):
    for quarters in (3, 4):
        fail(place(range(quarters * 100, quarters * 100 + 40), at=store.now() - quarters * clock.QUARTER))
    client = sign_in("viewer")
    result = {name: [] for name in ("minutes", "windows", "queues")}
    # The hour may lie on both sides of midnight.
    for day in {keys.starts_at_of_window(window.pk + 1).date() for window in models.Window.objects.all()}:
        for name, rows in result.items():
            rows += objects(client, f"/dashboard/history/{day}/?format=ndjson&list={name}")

    assert [sum(row["failed"] for row in rows) for rows in result.values()] == [80, 80, 80]
    assert [sum(row["ids"] for row in rows) for rows in result.values()] == [80, 80, 80]
    assert sum(row["first_planned"] for row in result["windows"]) == 80
    assert len(result["windows"]) == 2


def test_export_of_an_id_contains_all_its_tasks(place, fail, sign_in, monkeypatch):
    monkeypatch.setattr(ids, "TASKS_SHOWN", 2)
    user_id = 9007199254740993
    first, *others = [
        place([user_id], at=store.now() - quarters * clock.QUARTER) for quarters in (9, 8, 7, 6)
    ]
    fail(first, 404, "no such customer")
    client = sign_in("viewer")
    address = f"/dashboard/ids/{user_id}/"

    rows = objects(client, f"{address}?format=ndjson")

    assert "history in all of them as" in client.get(address).content.decode()
    assert [(row["task_id"], row["event"]) for row in rows] == [
        *((task.pk, "placed") for task in reversed(others)),
        (first.pk, "placed"),
        (first.pk, "attempt"),
    ]
    assert {row["user_id"] for row in rows} == {str(user_id)}
    assert rows[-1]["details"]["answer"] == "no such customer"
    assert len(records(client, f"{address}?format=csv")) == 5


@pytest.mark.parametrize("shown", [3, 4])
def test_activity_list_says_where_it_ends_and_links_to_all_entries(queue, place, sign_in, monkeypatch, shown):
    monkeypatch.setattr(tasks, "ENTRIES_SHOWN", shown)
    monkeypatch.setattr(queues, "ENTRIES_SHOWN", shown)
    task = place([1])
    for thing in (task, queue):
        # The list's line was written when it was placed.
        for _ in range(3 if thing is task else 4):
            activity.record(Actor.system(), "renamed", thing, at=store.now())
    client = sign_in("viewer")
    for address, query in (
        (f"/dashboard/tasks/{task.pk}/", f"?kind=task&amp;id={task.pk}"),
        ("/dashboard/queues/default/", f"?kind=queue&amp;id={queue.pk}"),
    ):
        page = squeezed(client.get(address))
        assert page.count(" renamed ") + page.count(" submitted ") == shown
        assert (f"The latest {shown}. <a " in page) == (query in page) == (shown == 3)
