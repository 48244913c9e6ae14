"""Batches whose owner has gone: a seat that was killed, or that froze, gives up what it held with its lease."""

from collections.abc import Callable
from datetime import datetime, timedelta

from . import bucket_slots, claims, keys, leaving, models, placement, store
from .models import Status


def take_up(now: Callable[[], datetime], *, at_most: int = 100) -> int:
    """Give back what dead seats had claimed; return how many IDs.

    What may have been started is named as a possible repeat; all of it waits again: in its minute, while
    that runs, it gets free slots.
    """
    taken = 0
    dead = models.Batch.objects.filter(lease_until__lt=now()).order_by("pk")[:at_most]
    for batch in list(dead):
        taken += _take_up(batch, now)
    return taken


def _take_up(batch: models.Batch, now: Callable[[], datetime]) -> int:
    with store.write():
        placement.lock_queue(keys.queue_of_bucket(batch.bucket_id))
        bucket = models.Bucket.objects.select_for_update().get(pk=batch.bucket_id)
        at = now()
        # Its owner may have woken up and renewed it, or another may have been faster.
        dead = models.Batch.objects.select_for_update().filter(pk=batch.pk, lease_until__lt=at).first()
        if dead is None:
            return 0
        dead.delete()
        pairs = claims.contents(dead)
        rows = models.Assignment.objects.filter(pk__in=[key for key, _ in pairs], status=Status.IN_FLIGHT)
        found = {row[0]: row for row in rows.values_list("pk", "user_id", "task_id", "attempts")}
        tasks = claims.lock_tasks({row[2] for row in found.values()})
        left = leaving.have_left(tasks)
        counters, cancelled, repeats = claims.Counters(), 0, []
        outcomes, plan = [], bucket_slots.plan_of(bucket)
        for key, slot in pairs:
            if key not in found:
                continue
            _, user_id, task_id, attempts = found[key]
            if plan.offset_of(slot) * 1000 <= dead.may_start_until_ms:
                repeats.append(_possible_repeat(bucket, user_id, task_id, attempts, plan.offset_of(slot)))
            gone = tasks[task_id].cancelled_at is not None or (task_id, user_id) in left
            status = Status.CANCELLED if gone else Status.WAITING
            cancelled += gone
            outcomes.append((key, int(status), attempts, None))
            counters.change(task_id, bucket.pk, Status.IN_FLIGHT, status)
            if not gone:
                bucket_slots.come_back(bucket, key)
        claims.must_be(len(outcomes), store.set_outcomes(outcomes, was=Status.IN_FLIGHT))
        counters.buckets[bucket.pk]["waiting_count"] += cancelled
        counters.buckets[bucket.pk]["repeats_count"] += len(repeats)
        counters.write()
        store.set_on_buckets({bucket.pk: bucket_slots.cursors_of(bucket)})
        if cancelled:
            claims.give_back(bucket.pk, cancelled, at=at)
        models.Attempt.objects.bulk_create(repeats)
    return len(outcomes)


def _possible_repeat(
    bucket: models.Bucket, user_id: int, task_id: int, attempts: int, offset: float
) -> models.Attempt:
    return models.Attempt(
        task_id=task_id,
        user_id=user_id,
        number=attempts + 1,
        bucket_id=bucket.pk,
        started_at=bucket.minute_at + timedelta(seconds=offset),
        error="its process ended before the answer was kept: it may have gone out, and goes out again",
        unknown=True,
    )
