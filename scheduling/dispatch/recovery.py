"""Batches whose owner died or froze: once their lease has ended, their IDs wait again."""

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.db.models import Q, QuerySet

from scheduling import models, store
from scheduling.core import keys, limits
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import bad_rows, bucket_slots, claims
from scheduling.models import Status
from scheduling.placement import ledger, quotas, removals, reservations

log = structlog.get_logger(__name__)

# What one transaction recovers: some 30 ms.
SLICE_IDS = 2_000
# How long after the start of a minute the last of its workers has ended.
UNCLAIMED_AFTER = timedelta(minutes=4)
# No lease that is taken now ends so late.
FAR_AHEAD = 8 * limits.LEASE


def recover(
    now: Callable[[], datetime],
    *,
    at_most: int = 100,
    seconds: float = math.inf,
    monotonic: Callable[[], float] = time.monotonic,
) -> int:
    """Let what dead workers had claimed wait again; return how many IDs.

    What may have been started is named as a possible repeat. In its minute, while that runs, an ID gets a free
    slot; in a queue with quotas, what may have been started gets a later minute. at_most: this many batches. seconds:
    nothing is begun later than that.
    """
    recovered, limit = 0, TimeLimit(seconds, monotonic)
    dead = _dead(now()).order_by("pk")[:at_most]
    slices = _slices(dead.values_list("bucket_id", "pk", "ids_count"))
    # All workers look at the same time: each begins elsewhere, so that none waits for another.
    random.shuffle(slices)
    for bucket_id, batch_ids in slices:
        try:
            recovered += _recover(bucket_id, batch_ids, now)
        except Exception as error:
            if store.is_unavailable(error):
                raise
            if bad_rows.end_bad_rows(bucket_id, now):
                # The others are recovered by the next look.
                continue
            # What is wrong with one batch delays no other.
            log.exception("batches_not_recovered", bucket=bucket_id)
        if limit.is_over:
            break
    return recovered


def _dead(at: datetime) -> QuerySet[models.Batch]:
    """Return the batches whose lease has ended, or ends so far ahead that a clock was wrong when it was taken."""
    return models.Batch.objects.filter(Q(lease_until__lt=at) | Q(lease_until__gt=at + FAR_AHEAD))


def _slices(batches: Iterable[tuple[int, int, int]]) -> list[tuple[int, list[int]]]:
    """Return (bucket, some of its batches): as many as one short transaction recovers."""
    by_bucket: dict[int, list[list[int]]] = defaultdict(lambda: [[]])
    ids: Counter[int] = Counter()
    for bucket_id, batch_id, count in batches:
        if ids[bucket_id] + count > SLICE_IDS and by_bucket[bucket_id][-1]:
            by_bucket[bucket_id].append([])
            ids[bucket_id] = 0
        by_bucket[bucket_id][-1].append(batch_id)
        ids[bucket_id] += count
    return [(bucket_id, batch_ids) for bucket_id, slices in by_bucket.items() for batch_ids in slices]


def _recover(bucket_id: int, batch_ids: Sequence[int], now: Callable[[], datetime]) -> int:
    dead = _dead(now()).filter(pk__in=batch_ids)
    if not dead.exists():
        return 0
    with store.write():
        queue = reservations.lock_queue(keys.queue_of_bucket(bucket_id))
        bucket = models.Bucket.objects.select_for_update().get(pk=bucket_id)
        at = now()
        # Its owner may have woken up and renewed it, or another may have been faster.
        ended = list(_dead(at).filter(pk__in=batch_ids).select_for_update().order_by("pk"))
        models.Batch.objects.filter(pk__in=[batch.pk for batch in ended]).delete()
        started: dict[int, float | None] = {}
        plan = bucket_slots.plan_of(bucket)
        for batch in ended:
            for key, slot in claims.keys_and_slots(batch):
                offset = plan.offset_of(slot)
                started[key] = offset if offset * 1000 <= batch.may_start_until_ms else None
        return _let_wait(queue, bucket, started, at)


def buckets_in_flight() -> list[int]:
    """Return the buckets in which something is in flight, by key."""
    buckets = models.Bucket.objects.filter(in_flight_count__gt=0).order_by("pk")
    return list(buckets.values_list("pk", flat=True))


def recover_unclaimed(now: Callable[[], datetime]) -> int:
    """Let wait again what is in flight in a minute that is long over, and in no batch; return how many IDs.

    There should be none. But if there is one, nobody else will ever record its result.
    """
    at, recovered = now(), 0
    for bucket_id in buckets_in_flight():
        if keys.minute_of_bucket(bucket_id) + UNCLAIMED_AFTER < at:
            recovered += _recover_unclaimed(bucket_id, now)
    return recovered


def _recover_unclaimed(bucket_id: int, now: Callable[[], datetime]) -> int:
    first, last = keys.range_of_bucket(bucket_id)
    with store.write():
        queue = reservations.lock_queue(keys.queue_of_bucket(bucket_id))
        bucket = models.Bucket.objects.select_for_update().get(pk=bucket_id)
        claimed = {
            key
            for batch in models.Batch.objects.filter(bucket_id=bucket_id)
            for key, _ in claims.keys_and_slots(batch)
        }
        rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, status=Status.IN_FLIGHT)
        unclaimed = [key for key in rows.order_by("pk").values_list("pk", flat=True) if key not in claimed]
        count = _let_wait(queue, bucket, dict.fromkeys(unclaimed[:SLICE_IDS], 0.0), now())
    if count:
        log.error("unclaimed_recovered", bucket=bucket_id, count=count)
    return count


def _let_wait(
    queue: models.Queue, bucket: models.Bucket, started: Mapping[int, float | None], at: datetime
) -> int:
    """Let IDs in flight wait again; return how many. The caller has locked the queue and the bucket.

    started: by key, when its request may have started, in seconds from the minute's start; None: it did not.
    """
    # Nobody has booked another start: with a quota, it needs a minute whose period has room, as a late ID.
    keeps_minute = not quotas.has_any(queue)
    rows = models.Assignment.objects.filter(pk__in=list(started), status=Status.IN_FLIGHT).order_by("pk")
    started_rows = list(rows.values_list("pk", "user_id", "task_id", "attempts"))
    tasks = ledger.lock_tasks({row[2] for row in started_rows})
    removed = removals.removed_in_flight(tasks)
    counters, cancelled, repeats, outcomes = ledger.Counters(), 0, [], []
    for key, user_id, task_id, attempts in started_rows:
        offset = started[key]
        if offset is not None:
            repeats.append(_possible_repeat(bucket, user_id, task_id, attempts, offset))
        ended = tasks[task_id].cancelled_at is not None or (task_id, user_id) in removed
        status = Status.CANCELLED if ended else Status.WAITING
        cancelled += ended
        outcomes.append((key, int(status), attempts, None))
        counters.change(task_id, bucket.pk, Status.IN_FLIGHT, status)
        if not ended and (keeps_minute or offset is None):
            bucket_slots.return_to_waiting(bucket, key)
    store.set_outcomes(outcomes, was=Status.IN_FLIGHT)
    counters.buckets[bucket.pk]["waiting_count"] += cancelled
    counters.buckets[bucket.pk]["repeats_count"] += len(repeats)
    counters.write()
    store.set_on_buckets({bucket.pk: bucket_slots.cursors_of(bucket)})
    if cancelled:
        ledger.log_release(bucket.pk, cancelled, at=at)
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
        error="its process ended before the response was recorded: it may have been sent, and is sent again",
        unknown=True,
    )
