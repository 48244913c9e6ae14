"""A minute at a target with a budget: it is sealed for all queues of the target at once, which share its slots.

The caller has locked the target's row, and the rows of these queues' buckets.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from scheduling import models
from scheduling.core import clock, keys, sharing
from scheduling.dispatch import bucket_slots
from scheduling.placement import budgets


def buckets_of(target_ids: Collection[int], number: int) -> list[int]:
    """Return the buckets of a minute (in minutes since 1970) of all queues that send to some targets."""
    queues = models.Queue.objects.filter(target_id__in=target_ids).values_list("pk", flat=True)
    return [keys.bucket_at_number(queue_id, number) for queue_id in queues]


def seal(
    bucket: models.Bucket, queue: models.Queue, locked: Mapping[int, models.Bucket], at: datetime
) -> bool:
    """Fix a bucket's plan, and those of the other buckets in which something waits. False where nothing may be sent.

    locked: by key, the buckets of the minute.
    """
    if bucket.sealed_at is not None:
        return True
    number = keys.minute_number_of_bucket(bucket.pk)
    target = models.Target.objects.get(queues=queue)
    queues = list(models.Queue.objects.filter(target=target).order_by("pk"))
    of_queue = {row.pk: locked.get(keys.bucket_at_number(row.pk, number)) for row in queues}
    if target.rpm is None or _is_served_without(of_queue.values(), target):
        return bucket_slots.seal_alone(bucket, queue, at, target_id=target.pk)
    planned = next(
        (row.target_slots for row in of_queue.values() if row and row.target_id == target.pk), None
    )
    if planned is None:
        planned = _planned(target, queues, of_queue, clock.minute_of(number))
    for queue_id, part in planned["parts"]:
        waiting = of_queue.get(queue_id)
        if (
            waiting
            and part
            and waiting.sealed_at is None
            and (waiting.waiting_count or waiting.pk == bucket.pk)
        ):
            bucket_slots.fix(
                waiting, waiting.waiting_count, part, at, target_id=target.pk, target_slots=planned
            )
    return bucket.sealed_at is not None


def _is_served_without(buckets: Collection[models.Bucket | None], target: models.Target) -> bool:
    """Whether the minute was sealed before the target had its budget, so that its slots aren't shared."""
    return any(bucket and bucket.target_id == target.pk and bucket.target_slots is None for bucket in buckets)


def _planned(
    target: models.Target,
    queues: Sequence[models.Queue],
    of_queue: Mapping[int, models.Bucket | None],
    minute: datetime,
) -> dict[str, Any]:
    """Return how the slots of the minute are shared: how many there are, and how many each queue has."""
    slots = budgets.shape_of(target).capacity_at(minute)
    slot_requests = [_slot_request(queue, of_queue[queue.pk]) for queue in queues]
    parts = sharing.shares(slots, slot_requests)
    return {"slots": slots, "parts": [[q.pk, part] for q, part in zip(queues, parts, strict=True)]}


def _slot_request(queue: models.Queue, bucket: models.Bucket | None) -> tuple[int, int]:
    """How many slots a queue needs, and how many it may have. One without a row has no IDs, but may test."""
    ids, capacity = (bucket.waiting_count, bucket.capacity) if bucket else (0, queue.rpm)
    most = max(ids, capacity) if capacity else 0
    if queue.brake_per_minute is not None:
        most = min(most, queue.brake_per_minute)
    # Sealed elsewhere, it sends nothing to this target.
    if bucket is not None and bucket.sealed_at is not None:
        most = 0
    return min(ids, most), most
