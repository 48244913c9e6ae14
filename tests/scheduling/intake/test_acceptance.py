"""A list comes in whole or not at all, and its answer is the plan that is kept."""

import json
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from operators.actor import Actor
from scheduling import models
from scheduling.core import allocator
from scheduling.core.errors import (
    DraftGone,
    KeyReused,
    NoSuchQueue,
    PastExpiry,
    PastHorizon,
    PastPeak,
    UnexpectedCount,
)
from scheduling.intake import acceptance, idempotency
from tests.scheduling.lists_of_ids import (
    NOON,
    check_counters,
    check_log,
    places,
    shuffled,
    spool_of,
    submit,
    write_all,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "distribution.json").read_text())
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


def nothing_is_left() -> bool:
    tables = (models.Task, models.IdList, models.Chunk, models.User, models.Assignment, models.Segment)
    return not any(table.objects.exists() for table in (*tables, models.Activity, models.IdempotentAnswer))


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_golden_cases_are_placed_in_the_tables(case, queue, by, tmp_path):
    queue.rpm = case["rpm"]
    queue.save()
    lower = max(case["rpm"], *case["fill"])
    filler = 10_000_000
    for k, count in enumerate(case["fill"]):
        # Fill minute by minute, each time up to what the case says, whatever the rpm.
        if count:
            fill_one_bucket(queue, k, range(filler, filler + count), by, tmp_path, lower)
            filler += count
    ids = list(range(case["first"], case["last"] + 1))
    accepted = submit(ids, tmp_path, by=by)
    write_all()
    result = places(accepted.task)
    assert [result[i][1] for i in ids] == case["places"]
    window = models.Window.objects.get()
    assert list(window.buckets.order_by("pk").values_list("filled_count", flat=True)) == case["after"]
    check_counters()


def fill_one_bucket(queue, k, ids, by, folder, lower):
    """A list whose plan is one bucket: by closing the others for the moment."""
    from scheduling import store
    from scheduling.placement import reservations

    with store.write():
        locked = reservations.lock_queue(queue.pk)
        plan = reservations.plan(locked, 1, at=NOON)
        window = plan.windows[0].window_id
        before = reservations.fills([window]).get(window, reservations.EMPTY)
        added = tuple(len(ids) if i == k else 0 for i in range(15))
        item = reservations.Plan(queue.rpm, (reservations.WindowPlan(window, before, added, 0),))
        with spool_of(ids, folder) as spool:
            task = make_task(queue, spool, by)
        reservations.reserve(locked, item, task_id=task.pk, list_id=task.list_id, at=NOON)
        from scheduling.core import keys

        first = store.take_ordinals({keys.bucket_id(window, k): len(ids)})[keys.bucket_id(window, k)]
        store.insert_assignments(
            task.pk,
            [(keys.assignment_id(keys.bucket_id(window, k), first), list(ids))],
            status=models.Status.WAITING,
        )


def make_task(queue, spool, by):
    id_list = models.IdList.objects.create(created_at=NOON, accepted_at=NOON, ids_count=spool.ids_count)
    return models.Task.objects.create(
        name="filler",
        queue=queue,
        list=id_list,
        ids_count=spool.ids_count,
        waiting_count=spool.ids_count,
        first_minute_at=NOON,
        last_minute_at=NOON,
        created_at=NOON,
        created_by="a test",
        placed_at=NOON,
        same_as_digest="",
    )


def test_plan_in_the_response_is_where_each_id_goes(queue, by, tmp_path):
    ids = shuffled(5_000)
    accepted = submit(ids, tmp_path, by=by)
    write_all()
    plan = accepted.plan.windows[0]
    expected = dict(zip(ids, islice(allocator.places(plan.before, 120), len(ids)), strict=True))
    assert {user: k for user, (_, k) in places(accepted.task).items()} == expected
    check_counters()
    check_log()


def test_consecutive_lists_fill_like_one_list(queue, by, tmp_path):
    for start in range(0, 3_000, 300):
        submit(range(start + 1, start + 301), tmp_path, by=by)
    write_all()
    fill = list(models.Bucket.objects.order_by("pk").values_list("filled_count", flat=True))
    assert fill == list(allocator.fill_after((0,) * 15, 120, 3_000))
    check_log()


def test_list_counts_as_waiting_before_its_rows_exist(queue, by, tmp_path):
    task = submit(range(1, 31), tmp_path, by=by).task
    assert not models.Assignment.objects.exists()
    assert models.Task.objects.get(pk=task.pk).waiting_count == 30
    assert models.Bucket.objects.order_by("pk").first().waiting_count == 30


def test_window_closes_to_lists_five_seconds_before_its_quarter_ends(queue, by, tmp_path):
    end = NOON.replace(minute=15, second=0)
    in_time = submit([1], tmp_path, by=by, at=end - timedelta(seconds=5.001))
    too_late = submit([2], tmp_path, by=by, at=end - timedelta(seconds=4.999))
    assert in_time.plan.first_at == end
    assert too_late.plan.first_at == end + timedelta(minutes=15)


def test_clock_is_read_after_taking_the_lock(queue, by, tmp_path):
    before = NOON.replace(minute=14, second=50)
    # Read before the key is looked up, before it is taken, and once the queue's lock is held.
    times = iter([before, before, NOON.replace(minute=15, second=1)])
    with spool_of([1], tmp_path) as spool:
        accepted = acceptance.submit(
            acceptance.Submission("x"),
            spool,
            by=by,
            now=lambda: next(times),
            render=lambda a: None,
            key=idempotency.IdempotencyKey("s", "k", "f"),
        )
    assert accepted.plan.first_at.minute == 30


def test_not_before_selects_the_first_window_that_runs_no_earlier(queue, by, tmp_path):
    accepted = submit([1], tmp_path, by=by, not_before=NOON.replace(hour=15, minute=1, second=0))
    assert accepted.plan.first_at == NOON.replace(hour=15, minute=15, second=0, microsecond=0)


def test_refused_list_leaves_nothing_behind(queue, by, tmp_path):
    queue.max_peak = 200
    queue.save()
    end = NOON.replace(minute=20, second=0)
    with pytest.raises(PastPeak) as past_peak:
        submit(range(1, 3_002), tmp_path, by=by)
    assert past_peak.value.plan.peak_per_minute == 201
    with pytest.raises(PastExpiry):
        submit(range(1, 700), tmp_path, by=by, expires_at=end)
    with pytest.raises(UnexpectedCount, match="holds 3 IDs, not the 4"):
        submit([1, 2, 3], tmp_path, by=by, expect=4)
    with pytest.raises(NoSuchQueue):
        submit([1], tmp_path, by=by, queue_name="nosuch")
    assert nothing_is_left()
    assert list(tmp_path.iterdir()) == []


def test_long_refused_list_leaves_nothing_behind(queue, by, tmp_path):
    queue.overflow = models.Overflow.CARRY_OVER
    queue.rpm = 1
    queue.save()
    with pytest.raises(PastHorizon, match="2031"):
        submit(range(1, 60_001), tmp_path, by=by)
    assert nothing_is_left()


def test_list_past_max_peak_is_placed_if_allowed(queue, by, tmp_path):
    queue.max_peak = 120
    queue.save()
    accepted = submit(range(1, 2_001), tmp_path, by=by, allow_peak=True)
    assert accepted.plan.peak_per_minute == 134


def test_carry_over_takes_as_many_windows_as_it_needs(queue, by, tmp_path):
    queue.overflow = models.Overflow.CARRY_OVER
    queue.save()
    submit(range(1, 101), tmp_path, by=by)
    ids = shuffled(20_000, first=1_000)
    accepted = submit(ids, tmp_path, by=by)
    write_all()
    assert len(accepted.plan.windows) == 12
    assert accepted.plan.peak_per_minute == 120
    minutes = [
        (window.window_id, k)
        for window in accepted.plan.windows
        for k, count in enumerate(window.added)
        for _ in range(count)
    ]
    result = places(accepted.task)
    assert [result[user] for user in ids] == minutes
    check_counters()
    check_log()


def test_repeated_request_gets_the_same_response_and_creates_nothing(queue, by, tmp_path):
    key = idempotency.IdempotencyKey("token 1", "k", "fingerprint")
    first = submit([1, 2], tmp_path, by=by, key=key)
    again = submit([1, 2], tmp_path, by=by, key=key, at=NOON + timedelta(days=6))
    assert again.answer == first.answer
    assert again.repeated
    assert models.Task.objects.count() == 1
    with pytest.raises(KeyReused):
        submit([1, 2], tmp_path, by=by, key=idempotency.IdempotencyKey("token 1", "k", "other"))
    later = submit([1, 2], tmp_path, by=by, key=key, at=NOON + timedelta(days=8))
    assert not later.repeated


def test_idempotency_key_remembers_accepted_requests_only(queue, by, tmp_path):
    key = idempotency.IdempotencyKey("token 1", "k", "fingerprint")
    with pytest.raises(PastExpiry):
        submit([1], tmp_path, by=by, key=key, expires_at=NOON)
    assert not submit([1], tmp_path, by=by, key=key).repeated


def test_draft_becomes_at_most_one_task(queue, by, tmp_path):
    with spool_of(range(1, 101), tmp_path) as spool:
        draft = acceptance.write_draft(spool, at=NOON)
    assert not models.Task.objects.exists()
    take = {"by": by, "now": lambda: NOON, "render": lambda a: None}
    assert acceptance.accept(acceptance.Submission("x"), draft, **take).task.ids_count == 100
    with pytest.raises(DraftGone):
        acceptance.accept(acceptance.Submission("x"), draft, **take)
    acceptance.delete_draft(draft)
    assert models.Chunk.objects.count() == 1


def test_old_drafts_are_deleted_but_neither_lists_nor_fresh_previews(queue, by, tmp_path):
    submit([1], tmp_path, by=by)
    with spool_of(range(1, 101), tmp_path) as spool:
        acceptance.write_draft(spool, at=NOON)
        dead = acceptance.write_draft(spool, at=NOON)
    models.IdList.objects.filter(pk=dead.pk).update(about={"writing": True})
    assert acceptance.sweep_drafts(at=NOON + timedelta(minutes=59)) == 0
    assert acceptance.sweep_drafts(at=NOON + timedelta(minutes=61)) == 1
    assert acceptance.sweep_drafts(at=NOON + timedelta(hours=25)) == 1
    assert models.IdList.objects.count() == 1


def test_same_ids_in_another_order_are_reported(queue, by, tmp_path):
    first = submit([1, 2, 3], tmp_path, by=by)
    assert first.same_as is None
    assert submit([3, 1, 2], tmp_path, by=by).same_as == first.task.pk
    assert submit([3, 1], tmp_path, by=by).same_as is None


def test_same_list_is_found_without_reading_the_queues_other_tasks(queue, by, tmp_path):
    submit([1], tmp_path, by=by)
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL chooses an index by the size of the table, and this one is empty")
    with CaptureQueriesContext(connection) as captured:
        acceptance.find_same_list(queue, "0" * 64, at=NOON)
    (query,) = captured.captured_queries
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + query["sql"])
        assert "(same_as_digest=?)" in str(cursor.fetchall())


def test_lists_leave_headroom_free_until_all_minutes_are_that_full(queue, by, tmp_path):
    queue.headroom = 20
    queue.save()
    accepted = submit(range(1, 1_501), tmp_path, by=by)
    assert accepted.plan.windows[0].added == (100,) * 15
