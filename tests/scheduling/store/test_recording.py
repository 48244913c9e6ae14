"""Rows that are marked where they lie get the slots that pacing says, one each."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling import models
from scheduling.core import keys, pacing
from scheduling.models import Status
from scheduling.store import recording
from tests.scheduling.placed import make_queue, place

pytestmark = pytest.mark.django_db

MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)


def started(bucket_id: int) -> list[int]:
    first, last = keys.range_of_bucket(bucket_id)
    rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, status=Status.SUCCEEDED)
    return sorted(rows.values_list("started_after_ms", flat=True))


def counted(bucket_id: int, at_most: int) -> tuple[int, int, dict[int, int]]:
    rows_now: list[recording.Waiting] = []
    recording.waiting_tasks(*keys.range_of_bucket(bucket_id), at_most=at_most, then=rows_now.extend)
    return (
        min(w.first for w in rows_now),
        max(w.last for w in rows_now),
        {w.task_id: w.count for w in rows_now},
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_recorded_rows_get_one_slot_each(data):
    models.Assignment.objects.all().delete()
    models.TaskBucket.objects.all().delete()
    queue = models.Queue.objects.filter(name="q").first() or make_queue("q", rpm=1_000)
    ids = data.draw(st.integers(1, 60), label="IDs")
    taken = data.draw(st.integers(1, ids), label="taken")
    other_rows = data.draw(
        st.sets(st.integers(0, ids - 1), max_size=ids - 1), label="rows that are somewhere else"
    )
    spare = data.draw(st.integers(0, 40), label="free slots")
    planned = data.draw(st.integers(0, taken), label="of the plan")
    now_ms = data.draw(st.integers(0, 60_000), label="now")
    place(queue, {MINUTE: range(1, ids + 1)}, at=MINUTE)
    bucket_id = keys.bucket_at(queue.pk, MINUTE)
    rows_now = list(models.Assignment.objects.order_by("pk").values_list("pk", flat=True))
    models.Assignment.objects.filter(pk__in=[rows_now[n] for n in other_rows]).delete()
    plan = pacing.MinutePlan(capacity=ids + spare, n=ids)
    free = range(min(spare, taken - planned))
    slots = plan.slots(range(planned), free)
    if not len(slots):
        return
    first, last, of_tasks = counted(bucket_id, len(slots))
    count = sum(of_tasks.values())
    assert count == min(len(slots), ids - len(other_rows))
    recording.succeed(first, last, of_tasks=of_tasks, slots=slots, now_ms=now_ms)
    numbers = [*map(plan.slot_of, slots.planned), *map(plan.free_slot, slots.free)][:count]
    expected = sorted(max(now_ms, slot * 60_000 // plan.slot_count) for slot in numbers)
    assert started(bucket_id) == expected
    late = slots.lateness_ms(count, now_ms)
    assert sum(late.values()) == count
    assert sum(ms * n for ms, n in late.items()) == sum(
        max(0, now_ms - slot * 60_000 // plan.slot_count) for slot in numbers
    )


def test_recording_skips_rows_of_a_cancelled_task():
    queue = make_queue("q", rpm=100)
    own = place(queue, {MINUTE: [1, 2]}, at=MINUTE)
    other_rows = place(queue, {MINUTE: [3, 4]}, at=MINUTE)
    place(queue, {MINUTE: [5]}, at=MINUTE)
    models.Task.objects.filter(pk=other_rows.pk).update(cancelled_at=MINUTE)
    bucket_id = keys.bucket_at(queue.pk, MINUTE)
    first, last, of_tasks = counted(bucket_id, 10)
    assert sum(of_tasks.values()) == 3
    assert own.pk in of_tasks
    assert other_rows.pk not in of_tasks
    slots = pacing.MinutePlan(capacity=100, n=5).slots(range(5), range(0))
    recording.succeed(first, last, of_tasks=of_tasks, slots=slots, now_ms=0)
    waiting = models.Assignment.objects.filter(task_id=other_rows.pk, status=Status.WAITING)
    assert waiting.count() == 2
    assert started(bucket_id) == [0, 12_000, 24_000]


def test_expiry_changes_waiting_rows_of_its_task_only():
    queue = make_queue("q", rpm=100)
    item = place(queue, {MINUTE: [1, 2]}, at=MINUTE)
    place(queue, {MINUTE: [3]}, at=MINUTE)
    first, last = keys.range_of_bucket(keys.bucket_at(queue.pk, MINUTE))
    recording.expire(first, last, task_id=item.pk, count=2)
    with pytest.raises(RuntimeError):
        recording.expire(first, last, task_id=item.pk, count=2)
    assert models.Assignment.objects.filter(status=Status.EXPIRED).count() == 2
