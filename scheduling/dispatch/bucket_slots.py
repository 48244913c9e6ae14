"""A bucket's slots while its minute runs: sealed once, then taken in order under the lock of its row."""

from datetime import datetime
from typing import Any

from scheduling import models
from scheduling.core import keys, pacing, sharing
from scheduling.store import later

# A slot that passed this long before its tolerance ends can still be met.
_LEAD_SECONDS = 0.02


def seal_alone(
    bucket: models.Bucket, queue: models.Queue, at: datetime, *, target_id: int | None = None
) -> bool:
    """Fix the minute's plan, if nobody has; the caller has locked the row. False where nothing may be sent.

    Where a target has a budget, `shared_minutes.seal` does so.
    """
    if bucket.sealed_at is not None:
        return True
    most = queue.brake_per_minute
    # Nothing is sent in a closed minute, whatever waits there: it is late, and moves.
    if most == 0 or bucket.capacity == 0:
        return False
    ids = bucket.waiting_count
    slots = max(bucket.capacity, ids)
    if most is not None:
        slots = min(slots, most)
    fix(bucket, ids, slots, at, target_id=target_id)
    return True


def fix(
    bucket: models.Bucket,
    ids: int,
    slots: int,
    at: datetime,
    *,
    target_id: int | None,
    target_slots: dict[str, Any] | None = None,
) -> None:
    """Seal a bucket with this many slots. target_slots: how its target's minute is shared, where that has a budget."""
    values = {"sealed_at": at, "sealed_count": ids, "slot_count": slots}
    if target_id is not None:
        values |= {"target_id": target_id, "target_slots": target_slots}
    later.update(models.Bucket.objects.filter(pk=bucket.pk, sealed_at=None), **values)
    for name, value in values.items():
        setattr(bucket, name, value)


def may_send(bucket: models.Bucket, queue: models.Queue) -> bool:
    """Whether a sealed bucket has slots where its queue sends to: not one that has come to a target with a budget."""
    return queue.target_id is None or bucket.target_id == queue.target_id


def plan_of(bucket: models.Bucket) -> pacing.MinutePlan:
    """Return the slots of a sealed bucket: under a brake they are fewer than its IDs. ValueError if it isn't."""
    if bucket.slot_count is None or bucket.sealed_count is None:
        raise ValueError(f"bucket {bucket.pk} is sealed without slots")
    if bucket.target_slots is not None:
        queue_ids, parts = zip(*bucket.target_slots["parts"], strict=True)
        number = queue_ids.index(keys.queue_of_bucket(bucket.pk))
        return sharing.plan(bucket.target_slots["slots"], parts, number, bucket.sealed_count)
    return pacing.MinutePlan(capacity=bucket.slot_count, n=min(bucket.sealed_count, bucket.slot_count))


def next_slots(bucket: models.Bucket, *, elapsed: float, until: float, at_most: int | None) -> pacing.Slots:
    """Take the slots that begin before `until` and can still be met, and move the bucket's cursors past them.

    Planned ones, and free ones for what is left over; what has passed unused makes its ID a leftover.
    """
    plan = plan_of(bucket)
    from_seconds = elapsed - plan.tolerance_seconds + _LEAD_SECONDS
    start = max(bucket.planned_cursor, plan.slots_between(0, from_seconds).stop)
    end = max(start, plan.slots_between(0, until).stop)
    if at_most is not None:
        end = min(end, start + at_most)
    bucket.leftover_count += start - bucket.planned_cursor
    bucket.planned_cursor = end
    planned, free = range(start, end), range(0)
    most = bucket.leftover_count if at_most is None else min(bucket.leftover_count, at_most - len(planned))
    if most > 0:
        free = plan.free_between(max(0.0, from_seconds), until, bucket.cursor)[:most]
    if free:
        bucket.cursor = free.stop
        bucket.leftover_count -= len(free)
    return plan.slots(planned, free)


def return_to_waiting(bucket: models.Bucket, key: int) -> None:
    bucket.leftover_count += 1
    if bucket.claimed_to_id is not None and bucket.claimed_to_id >= key:
        bucket.claimed_to_id = key - 1


def cursors_of(bucket: models.Bucket) -> dict[str, int | None]:
    return {
        "planned_cursor": bucket.planned_cursor,
        "cursor": bucket.cursor,
        "leftover_count": bucket.leftover_count,
        "claimed_to_id": bucket.claimed_to_id,
    }
