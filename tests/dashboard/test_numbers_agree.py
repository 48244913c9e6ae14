"""Every number agrees: the same IDs, counted by every page in the middle of a running window."""

import csv
import io
import re
from datetime import datetime, timedelta

import pytest

from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.dispatch import overdue
from scheduling.jobqueue import cluster
from scheduling.queues import operations
from scheduling.reports import planning
from scheduling.tasks import cancellation, holds, resend
from scheduling.upkeep import quarter_hour
from tests.dashboard.conftest import squeezed
from tests.dashboard.test_history import numbers

pytestmark = pytest.mark.django_db
KINDS = ("succeeded", "failed", "in_flight", "waiting", "late", "cancelled", "moved")


@pytest.fixture
def running(queue, place, fail, sign_in, monkeypatch):
    """A window in its eighth minute: with successes, failures that were retried, a cancel, a brake, late IDs."""
    start = clock.quarter_start(store.now())
    intake, now = start - clock.QUARTER + clock.MINUTE, start + timedelta(minutes=7, seconds=20)
    first = place(range(1, 481), at=intake, name="first")
    second = place(range(2001, 2101), at=intake, name="second")
    third = place(range(3001, 3301), at=intake, name="third")
    fourth = place(range(4001, 4501), at=intake, name="fourth")
    demo.catch_up(start, at=start + 3 * clock.MINUTE)
    fail(second)
    monkeypatch.setattr(store, "now", lambda: now)
    cancellation.cancel(third, by=Actor.system(), now=store.now)
    operations.brake(queue, 30, by=Actor.system(), at=now)
    client = sign_in("operator")
    page = client.get(f"/dashboard/failures/?task={second.pk}")
    form = {name: page.context[name] for name in ("number", "up_to")} | {"shown": page.context["count"]}
    left_out = [row.key for row in page.context["rows"]][:20]
    posted = {
        "at": page.context["at"].isoformat(),
        "left_out": left_out,
        **form,
        "number": form["number"] - 20,
    }
    client.post(f"/dashboard/failures/?task={second.pk}", posted)
    for number, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        signs = {"host": "a", "pid": 1, "started_at": start, "seen_at": now}
        models.Heartbeat.objects.create(owner=number, cluster=name, **signs)
    return client, start, [first, second, third, fourth]


def buckets(start) -> list[models.Bucket]:
    window = models.Window.objects.get(starts_at=start - clock.QUARTER)
    return list(models.Bucket.objects.filter(window=window).order_by("pk"))


def truth(start) -> dict[str, int]:
    """What the rows say, kind by kind."""
    now = clock.minute_start(store.now())
    result = buckets(start)
    counts = {
        kind: sum(getattr(each, f"{kind}_count") for each in result) for kind in KINDS if kind != "late"
    }
    late = sum(each.waiting_count for each in result if each.minute_at < now)
    return counts | {"late": late, "waiting": counts["waiting"] - late}


def test_comparison_covers_every_kind(running):
    """Else the comparison would compare nothing."""
    _, start, _ = running
    counts = truth(start)
    assert all(counts[kind] for kind in KINDS if kind != "in_flight"), counts


def test_board_lists_exports_and_minutes_count_the_same_ids(running):
    client, start, _ = running
    board = client.get("/dashboard/").content.decode()
    window = f"queue=default&window={start - clock.QUARTER:%Y-%m-%dT%H:%MZ}"
    counts = truth(start)
    by_minute = dict.fromkeys(KINDS, 0)
    for minute in range(15):
        page = client.get(
            f"/dashboard/minutes/{start + minute * clock.MINUTE:%Y-%m-%dT%H:%MZ}/?queue=default"
        )
        for address, number in numbers(page.content.decode()):
            for kind in KINDS:
                by_minute[kind] += number if address.endswith(f"kind={kind}") else 0
    for kind in KINDS:
        if not counts[kind]:
            continue
        page = client.get(f"/dashboard/drill-down/?{window}&kind={kind}")
        export = client.get(f"/dashboard/drill-down/?{window}&kind={kind}&format=csv")
        lines = b"".join(export.streaming_content).decode().splitlines()
        assert page.context["count"] == counts[kind], kind
        assert len(lines) - 1 == counts[kind], kind
        assert by_minute[kind] == counts[kind], kind
        if kind != "cancelled":
            on_board = re.search(rf'id="running-of-{kind}" href="[^"]+">([\d,]+) ', board)
            assert on_board, kind
            assert int(on_board[1].replace(",", "")) == counts[kind], kind


def test_window_history_and_tasks_count_the_same_ids(running):
    client, start, tasks = running
    counts = truth(start)
    window = client.get(f"/dashboard/windows/default/{start - clock.QUARTER:%Y-%m-%dT%H:%MZ}/")
    day = client.get(f"/dashboard/history/{start:%Y-%m-%d}/?queue=default")
    (_, of_day), *_ = (row.record for row in day.context["queues_table"].rows)
    for task in tasks:
        task.refresh_from_db()
    for kind in ("succeeded", "failed", "cancelled"):
        assert of_day[kind] == counts[kind], kind
        assert sum(getattr(task, f"{kind}_count") for task in tasks) == counts[kind], kind
    assert of_day["moved"] == counts["moved"]
    text = squeezed(window)
    assert f"{counts['failed']} failed" in text
    assert f"{counts['succeeded'] + counts['failed']:,}</a> sent" in text
    board = re.sub(r"<[^>]+>", "", squeezed(client.get("/dashboard/")))
    filled = sum(each.filled_count for each in buckets(start))
    assert f"{counts['succeeded'] + counts['failed']:,} of {filled:,} sent" in board
    assert re.sub(r"<[^>]+>", "", text).count(f"{filled:,} IDs") == 1


def test_board_promises_no_finish_that_the_brake_prevents(running):
    client, _, _ = running
    board = re.sub(r"<[^>]+>", "", squeezed(client.get("/dashboard/")))
    assert "braked to 30 a minute: at most 210 more by" in board
    assert "done at" not in board.split("Filling")[0].split("Running")[1]


def test_cancelled_ids_are_not_counted_as_to_be_sent(running):
    client, _, tasks = running
    page = squeezed(client.get(f"/dashboard/tasks/{tasks[2].pk}/"))
    tasks[2].refresh_from_db()
    live = tasks[2].ids_count - tasks[2].cancelled_count
    assert f"<b>{tasks[2].sent_count}</b> of {live} sent" in page
    assert f'aria-label="{tasks[2].sent_count} of {live} sent, {tasks[2].cancelled_count} cancelled"' in page


def test_original_plan_stays_visible_for_window_and_day(running, queue):
    client, start, tasks = running
    window = client.get(f"/dashboard/windows/default/{start - clock.QUARTER:%Y-%m-%dT%H:%MZ}/")
    day = client.get(f"/dashboard/history/{start:%Y-%m-%d}/?queue=default")
    planned, counts = window.context["planning"], truth(start)

    # All four lists went into this window; nothing that happened since takes that back.
    assert planned.first_planned == sum(task.ids_count for task in tasks)
    assert planned.moved_out == counts["moved"]
    assert planned.cancelled == counts["cancelled"]
    assert planned.now == window.context["card"].filled
    assert planned.finished == counts["succeeded"] + counts["failed"]
    row = next(row for row in day.context["windows_table"].rows if row.record.runs_at == start)
    assert row.get_cell("first_planned") == f"{planned.first_planned:,}"
    assert row.get_cell("moved_in") == f"{planned.moved_in:,}"
    assert f"first planned <b>{planned.first_planned:,}</b>" in squeezed(window)


def test_planning_of_minutes_and_tasks_adds_up_to_that_of_the_window(running, queue):
    client, start, tasks = running
    window = client.get(f"/dashboard/windows/default/{start - clock.QUARTER:%Y-%m-%dT%H:%MZ}/")
    minutes = [
        client.get(f"/dashboard/minutes/{bucket.minute_at:%Y-%m-%dT%H:%MZ}/?queue=default").context[
            "planning"
        ]
        for bucket in buckets(start)
    ]

    assert planning.total(minutes) == window.context["planning"]
    for bucket, minute in zip(buckets(start), minutes, strict=True):
        assert minute.now == bucket.filled_count, bucket.minute_at
        assert minute.cancelled == bucket.cancelled_count, bucket.minute_at
        assert minute.moved_out == bucket.moved_count, bucket.minute_at
        assert minute.requests_made == bucket.started_count, bucket.minute_at
    for task in tasks:
        of_task = client.get(f"/dashboard/tasks/{task.pk}/").context["planning"]
        task.refresh_from_db()
        assert of_task.first_planned == task.ids_count
        assert of_task.now == task.ids_count - task.cancelled_count
        assert of_task.finished == task.sent_count
    requests = [planning.of_task(task).requests_made for task in tasks]
    assert sum(requests) == window.context["planning"].requests_made


def test_exports_use_the_names_of_the_pages(running, queue):
    client, start, _ = running
    address = f"/dashboard/history/{start:%Y-%m-%d}/?queue=default"
    pages = client.get(address).context["windows_table"].rows
    export = client.get(f"{address}&format=csv&list=windows")
    lines = list(csv.DictReader(io.StringIO(b"".join(export.streaming_content).decode())))

    assert [*lines[0]][1:7] == [name.replace(" ", "_") for name, _ in planning.Planning().rows]
    of_start = next(line for line in lines if datetime.fromisoformat(line["runs_at"]) == start)
    row = next(row for row in pages if row.record.runs_at == start)
    for name in ("first_planned", "cancelled", "moved_in", "requests_made", "finished"):
        assert f"{int(of_start[name]):,}" == row.get_cell(name), name


def test_late_ids_of_an_ended_window_are_listed(queue, place, sign_in, monkeypatch):
    start = clock.quarter_start(store.now())
    task = place(range(1, 31), at=start - clock.QUARTER + clock.MINUTE)
    later = start + 20 * clock.MINUTE
    monkeypatch.setattr(store, "now", lambda: later)
    overdue.run(lambda: later)
    client = sign_in()
    window = f"window={start - clock.QUARTER:%Y-%m-%dT%H:%MZ}"

    page = client.get(f"/dashboard/drill-down/?queue=default&{window}&kind=moved_late")

    assert page.context["count"] == task.ids_count
    assert len(page.context["rows"]) == task.ids_count


def test_each_linked_number_of_a_window_with_moves_for_two_reasons_leads_to_as_many_ids(running, monkeypatch):
    client, start, _ = running
    later = start + 9 * clock.MINUTE
    monkeypatch.setattr(store, "now", lambda: later)
    overdue.run(lambda: later)
    page = client.get(f"/dashboard/windows/default/{start - clock.QUARTER:%Y-%m-%dT%H:%MZ}/")
    assert len({change.note for change in page.context["changes"] if change.list_kind}) > 1

    linked = [
        (address, number) for address, number in numbers(page.content.decode()) if "drill-down" in address
    ]
    assert len(linked) > 1
    for address, number in linked:
        assert client.get(address).context["count"] == number, address


def test_numbers_of_the_last_quarter_hour_on_the_board_lead_to_as_many_ids(running, monkeypatch):
    client, start, _ = running
    later = start + clock.QUARTER + clock.MINUTE
    monkeypatch.setattr(store, "now", lambda: later)
    overdue.run(lambda: later)
    sentence = squeezed(client.get("/dashboard/ahead/?queue=default")).split("The last quarter-hour")[1]

    linked = numbers(sentence.split("</p>")[0])
    assert [address.rpartition("kind=")[2] for address, _ in linked][-2:] == ["failed", "moved"]
    assert len(linked) == 4
    for address, number in linked:
        assert client.get(address).context["count"] == number, address


def test_receipt_stays_in_agreement_with_its_lists_when_ids_are_resent(queue, place, sign_in, monkeypatch):
    start = clock.quarter_start(store.now())
    task = place(range(1, 31), at=start - clock.QUARTER + clock.MINUTE)
    demo.catch_up(start, at=start + clock.QUARTER)
    later = start + clock.QUARTER + 4 * clock.MINUTE
    monkeypatch.setattr(store, "now", lambda: later)
    quarter_hour.total(lambda: later)
    client, window = sign_in(), f"/dashboard/windows/default/{start - clock.QUARTER:%Y-%m-%dT%H:%MZ}/"
    before = numbers(client.get(window).content.decode())
    assert "moved on after" not in squeezed(client.get(window))

    resend.resend(
        task, looked_at=later, number=30, run="a-run", by=Actor.system(), now=lambda: later + clock.MINUTE
    )
    page = client.get(window)

    assert "30 IDs moved on after the receipt was totalled" in squeezed(page)
    first = page.context["receipt_table"].rows[0]
    # The row tells of one moment: what had finished then, and not that it is elsewhere now.
    assert (first.get_cell("finished"), first.get_cell("succeeded"), first.get_cell("moved")) == (
        "30",
        "30",
        "0",
    )
    after = numbers(page.content.decode())
    assert len(before) > len(after)
    for address, number in after:
        assert client.get(address).context["count"] == number, address


@pytest.mark.parametrize(
    ("change", "words"), [("hold", "on hold"), ("pause", "paused"), ("brake", "or later"), ("", "")]
)
def test_tasks_promise_no_end_that_a_hold_a_pause_or_a_brake_prevents(queue, place, sign_in, change, words):
    task, at, by = place(range(1, 31)), store.now(), Actor.system()
    if change == "hold":
        holds.hold(task, "wrong text", by=by, now=store.now)
    if change == "pause":
        operations.pause(queue, by=by, at=at)
    if change == "brake":
        operations.brake(queue, 30, by=by, at=at)
    client = sign_in()

    row = client.get("/dashboard/tasks/").context["table"].rows[0]
    page = squeezed(client.get(f"/dashboard/tasks/{task.pk}/"))

    assert row.get_cell("done").endswith(words)
    assert "&lt;time" not in client.get("/dashboard/tasks/").content.decode()
    assert ("done at" in page) == (change not in ("hold", "pause"))
    assert (" or later" in page) == (change == "brake")
