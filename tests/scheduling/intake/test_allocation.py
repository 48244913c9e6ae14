"""Rows follow reservations: by anyone, in slices, once."""

import itertools
from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import allocator, clock
from scheduling.intake import acceptance, allocation
from scheduling.upkeep import quarter_hour
from tests.scheduling.lists_of_ids import NOON, check_counters, check_log, places, shuffled, submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


def test_task_is_placed_once_all_rows_and_users_are_written(queue, by, tmp_path):
    ids = shuffled(25_000)
    task = submit(ids, tmp_path, by=by).task
    assert task.state_at(NOON) == models.TaskState.PLACING
    write_all()
    task.refresh_from_db()
    assert task.state_at(NOON) == models.TaskState.PLACED
    assert set(places(task)) == set(ids)
    assert models.User.objects.count() == 25_000
    check_counters()


def test_dead_writer_leaves_whole_slices_and_another_continues(queue, by, tmp_path, monkeypatch):
    ids = shuffled(45_000)
    task = submit(ids, tmp_path, by=by).task
    real, calls = allocation.store.insert_users, []

    def die_in_the_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    monkeypatch.setattr(allocation.store, "insert_users", die_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        allocation.write_segments(lambda: NOON)
    monkeypatch.undo()
    assert models.Assignment.objects.count() == 20_000
    allocation.write_segments(lambda: NOON + timedelta(seconds=1))
    assert models.Assignment.objects.count() == 20_000, "the dead one's lease still counts"
    write_all(NOON + timedelta(seconds=16))
    assert set(places(task)) == set(ids)
    check_counters()


def test_frozen_writer_that_wakes_writes_nothing_twice(queue, by, tmp_path):
    submit(shuffled(15_000), tmp_path, by=by)
    segment = allocation._claim(1, NOON)
    groups = allocation.prepare(segment)
    first_ordinals = allocation.take_ordinals(segment, groups)
    users = sorted(user for group in groups for user in group.ids)[: allocation.SLICE_IDS]
    part = [piece for g in groups if (piece := g.between(users[0], users[-1])).ids]
    write_all(NOON + timedelta(seconds=16))
    with pytest.raises(allocation.LeaseLost):
        allocation._write_slice(segment, 1, 0, users, part, first_ordinals, lambda: NOON)
    assert models.Assignment.objects.count() == 15_000


def test_short_list_is_written_between_slices_of_a_long_one(queue, by, tmp_path, monkeypatch):
    long = submit(shuffled(60_000), tmp_path, by=by).task
    short = []
    real = allocation._write_slice

    def one_slice_then_a_short_list_comes(*args, **kwargs):
        real(*args, **kwargs)
        if not short:
            short.append(submit([900_001], tmp_path, by=by).task)

    monkeypatch.setattr(allocation, "_write_slice", one_slice_then_a_short_list_comes)
    allocation.write_segments(lambda: NOON, seconds=0.001)
    rows = models.Assignment.objects.filter
    assert rows(task=short[0]).count() == 1
    write_all()
    assert rows(task=long).count() == 60_000


def test_rows_written_an_hour_late_take_free_places_and_log_the_move(queue, by, tmp_path):
    ids = list(range(1, 2_001))
    task = submit(ids, tmp_path, by=by).task
    before = dict(models.TaskBucket.objects.values_list("bucket_id", "waiting_count"))
    late = NOON + timedelta(hours=1)
    write_all(late)
    rows = list(models.Assignment.objects.filter(task=task).order_by("pk"))
    assert len(rows) == 2_000
    minutes = [row.minute_at for row in rows]
    assert min(minutes) == NOON.replace(hour=13, minute=1, second=0, microsecond=0)
    assert max(models.Bucket.objects.values_list("filled_count", flat=True)) == 120, "late IDs never disperse"
    moves = list(models.Move.objects.values_list("user_id", "from_bucket_id", "reason"))
    assert {user for user, _, _ in moves} == set(ids)
    assert {bucket for _, bucket, _ in moves} == set(before)
    assert {reason for _, _, reason in moves} == {"written_late"}
    assert models.Bucket.objects.filter(moved_count__gt=0).count() == 15
    task.refresh_from_db()
    assert task.last_minute_at == max(minutes)
    check_counters()
    check_log()


@pytest.mark.parametrize("how", ["policy", "expires_at"])
def test_rows_written_too_late_expire_in_place(queue, by, tmp_path, how):
    task = submit(range(1, 1_801), tmp_path, by=by).task
    last = NOON.replace(minute=29, second=0)
    if how == "policy":
        # At 12:40:10 the next minute is 12:41: what was due before 12:21 is more than 1,200 s late.
        models.Queue.objects.update(late_policy="expire", late_after_seconds=1_200)
        late, ended = NOON + timedelta(minutes=40), 6 * 120
    else:
        models.Task.objects.update(expires_at=last + timedelta(minutes=1))
        late, ended = NOON + timedelta(minutes=40), 1_800
    write_all(late)
    expired = models.Assignment.objects.filter(task=task, status=models.Status.EXPIRED)
    assert expired.count() == ended
    assert {row.minute_at for row in expired} == {
        NOON.replace(minute=15 + k, second=0) for k in range(ended // 120)
    }
    task.refresh_from_db()
    assert (task.expired_count, task.waiting_count) == (ended, 1_800 - ended)
    assert (task.finished_at is None) == (how == "policy")
    assert models.Move.objects.count() == 1_800 - ended
    check_counters()
    check_log()
    assert not proof.check(lambda: late)
    quarter_hour.run(lambda: late + clock.QUARTER)
    receipt = models.Window.objects.order_by("pk").first().receipt
    assert receipt["expired"] == ended
    assert sum(minute["expired"] for minute in receipt["minutes"]) == ended


def test_rows_are_not_written_into_a_minute_from_two_seconds_before_it(queue, by, tmp_path):
    submit([1], tmp_path, by=by)
    submit([2], tmp_path, by=by)
    minute = NOON.replace(minute=15, second=0)
    second = models.Segment.objects.latest("pk")
    models.Segment.objects.filter(pk=second.pk).update(owner=5, lease_until=NOON + timedelta(days=1))
    allocation.write_segments(lambda: minute - timedelta(seconds=2.001))
    models.Segment.objects.filter(pk=second.pk).update(owner=None)
    allocation.write_segments(lambda: minute - timedelta(seconds=2))
    result = {row.user_id: row.minute_at for row in models.Assignment.objects.all()}
    assert result == {1: minute, 2: minute + timedelta(minutes=1)}
    check_counters()


def test_sealed_bucket_takes_no_row_whatever_the_clock(queue, by, tmp_path):
    submit([1], tmp_path, by=by)
    minute = NOON.replace(minute=15, second=0)
    models.Bucket.objects.filter(pk__in=models.TaskBucket.objects.values("bucket_id")).update(
        sealed_at=minute
    )
    allocation.write_segments(lambda: minute - timedelta(seconds=10))
    assert models.Assignment.objects.get().minute_at == minute + timedelta(minutes=1)


def test_paused_queue_moves_no_ids(queue, by, tmp_path):
    submit([1], tmp_path, by=by)
    models.Queue.objects.update(paused_at=NOON)
    write_all(NOON + timedelta(hours=1))
    assert models.Assignment.objects.get().minute_at == NOON.replace(minute=15, second=0, microsecond=0)


def test_rest_of_a_cancelled_list_is_written_as_cancelled(queue, by, tmp_path):
    task = submit(range(1, 101), tmp_path, by=by).task
    models.Task.objects.filter(pk=task.pk).update(cancelled_at=NOON, waiting_count=0, cancelled_count=100)
    write_all(NOON + timedelta(hours=1))
    statuses = set(models.Assignment.objects.values_list("status", flat=True))
    assert statuses == {models.Status.CANCELLED}


def test_segments_of_many_windows_touch_few_windows_each(queue, by, tmp_path):
    queue.overflow = models.Overflow.CARRY_OVER
    queue.rpm = 500
    queue.save()
    submit(range(1, 300_001), tmp_path, by=by)
    segments = list(
        models.Segment.objects.order_by("first_position").values_list("first_position", "ids_count")
    )
    assert sum(count for _, count in segments) == 300_000
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(segments))
    assert max(count for _, count in segments) <= acceptance.SEGMENT_WINDOWS * 7_500


def test_wake_queues_one_job_however_many_look(queue, by, tmp_path):
    submit([1], tmp_path, by=by)
    later = NOON + timedelta(seconds=16)
    assert not allocation.wake(at=NOON)
    assert allocation.wake(at=later)
    assert not allocation.wake(at=later)
    write_all(later)


@pytest.mark.parametrize("overflow", models.Overflow)
def test_long_list_is_written_in_ranges_and_keeps_its_places(queue, by, tmp_path, monkeypatch, overflow):
    monkeypatch.setattr(acceptance, "SEGMENT_IDS", 9_000)
    queue.overflow, queue.rpm = overflow, 1000
    queue.save()
    submit(range(5_000_000, 5_000_777), tmp_path, by=by)
    ids = shuffled(50_000)
    accepted = submit(ids, tmp_path, by=by)
    segments = models.Segment.objects.filter(task=accepted.task)
    assert segments.count() == 6
    assert set(segments.values_list("first_position", flat=True)) == {None}
    write_all()
    expected = {}
    for window in accepted.plan.windows:
        own = ids[window.first_position : window.first_position + window.ids_count]
        for user, k in zip(own, allocator.places(window.before, 1000), strict=False):
            expected[user] = (window.window_id, k)
    assert places(accepted.task) == expected
    assert not models.SegmentPart.objects.exists()
    check_counters()
    check_log()


def test_sorted_list_is_split_into_ranges_of_similar_size(queue, by, tmp_path, monkeypatch):
    monkeypatch.setattr(acceptance, "SEGMENT_IDS", 10_000)
    task = submit(range(1, 100_001), tmp_path, by=by).task
    counts = list(models.Segment.objects.filter(task=task).values_list("ids_count", flat=True))
    assert sum(counts) == 100_000
    assert max(counts) < 13_000
