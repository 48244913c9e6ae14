"""Batches whose owner has gone: a seat that was killed, or that froze, gives up what it held with its lease."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import InterfaceError, OperationalError

from scheduling import models, store
from scheduling.core import keys
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import bucket_slots, claims
from scheduling.models import Status
from scheduling.placement import ledger, removals, reservations

log = structlog.get_logger(__name__)

# What one transaction takes up: some 30 ms.
SLICE_IDS = 2_000
# So long after the start of its minute no seat of it lives.
UNCLAIMED_AFTER = timedelta(minutes=4)


def recover(now: Callable[[], datetime], *, at_most: int = 100, seconds: float = math.inf) -> int:
    """Give back what dead seats had claimed; return how many IDs.

    What may have been started is named as a possible repeat; all of it waits again: in its minute, while
    that runs, it gets free slots. at_most: so many batches. seconds: what isn't begun by then is left.
    """
    taken, limit = 0, TimeLimit(seconds)
    dead = models.Batch.objects.filter(lease_until__lt=now()).order_by("pk")[:at_most]
    slices = _slices(dead.values_list("bucket_id", "pk", "ids_count"))
    # All seats look at the same time: each begins elsewhere, so that none waits for another.
    random.shuffle(slices)
    for bucket_id, batch_ids in slices:
        try:
            taken += _take_up(bucket_id, batch_ids, now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # What is wrong with one keeps no other back.
            log.exception("not_taken_up", bucket=bucket_id)
        if limit.is_over:
            break
    return taken


def _slices(batches: Iterable[tuple[int, int, int]]) -> list[tuple[int, list[int]]]:
    """(bucket, batches of it): as many as one short transaction takes up."""
    by_bucket: dict[int, list[list[int]]] = defaultdict(lambda: [[]])
    ids: Counter[int] = Counter()
    for bucket_id, batch_id, count in batches:
        if ids[bucket_id] + count > SLICE_IDS and by_bucket[bucket_id][-1]:
            by_bucket[bucket_id].append([])
            ids[bucket_id] = 0
        by_bucket[bucket_id][-1].append(batch_id)
        ids[bucket_id] += count
    return [(bucket_id, some) for bucket_id, parts in by_bucket.items() for some in parts]


def _take_up(bucket_id: int, batch_ids: Sequence[int], now: Callable[[], datetime]) -> int:
    dead = models.Batch.objects.filter(pk__in=batch_ids, lease_until__lt=now())
    if not dead.exists():
        return 0
    with store.write():
        reservations.lock_queue(keys.queue_of_bucket(bucket_id))
        bucket = models.Bucket.objects.select_for_update().get(pk=bucket_id)
        at = now()
        # Its owner may have woken up and renewed it, or another may have been faster.
        dead = models.Batch.objects.select_for_update().filter(pk__in=batch_ids, lease_until__lt=at)
        dead = list(dead.order_by("pk"))
        models.Batch.objects.filter(pk__in=[batch.pk for batch in dead]).delete()
        started: dict[int, float | None] = {}
        plan = bucket_slots.plan_of(bucket)
        for batch in dead:
            for key, slot in claims.keys_and_slots(batch):
                offset = plan.offset_of(slot)
                started[key] = offset if offset * 1000 <= batch.may_start_until_ms else None
        return _come_back(bucket, started, at)


def recover_unclaimed(now: Callable[[], datetime]) -> int:
    """Give back what is in flight in a minute that is long over, and in no batch; return how many IDs.

    There should be none. But if there is one, nobody will ever say what came of it.
    """
    at, taken = now(), 0
    in_flight = models.Assignment.objects.filter(status=Status.IN_FLIGHT).values_list("pk", flat=True)
    for bucket_id in sorted({keys.bucket_of_assignment(key) for key in in_flight}):
        if keys.minute_of_bucket(bucket_id) + UNCLAIMED_AFTER < at:
            taken += _take_up_unclaimed(bucket_id, now)
    return taken


def _take_up_unclaimed(bucket_id: int, now: Callable[[], datetime]) -> int:
    first, last = keys.range_of_bucket(bucket_id)
    with store.write():
        reservations.lock_queue(keys.queue_of_bucket(bucket_id))
        bucket = models.Bucket.objects.select_for_update().get(pk=bucket_id)
        held = {
            key
            for batch in models.Batch.objects.filter(bucket_id=bucket_id)
            for key, _ in claims.keys_and_slots(batch)
        }
        rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, status=Status.IN_FLIGHT)
        loose = [key for key in rows.order_by("pk").values_list("pk", flat=True) if key not in held]
        count = _come_back(bucket, dict.fromkeys(loose[:SLICE_IDS], 0.0), now())
    if count:
        log.error("unclaimed_taken_up", bucket=bucket_id, count=count)
    return count


def _come_back(bucket: models.Bucket, started: Mapping[int, float | None], at: datetime) -> int:
    """Let IDs in flight wait again; return how many. The caller holds the rows of the queue and the bucket.

    started: by key, when its request may have started, in seconds from the minute's start; None: it did not.
    """
    rows = models.Assignment.objects.filter(pk__in=list(started), status=Status.IN_FLIGHT).order_by("pk")
    found = list(rows.values_list("pk", "user_id", "task_id", "attempts"))
    tasks = ledger.lock_tasks({row[2] for row in found})
    left = removals.have_left(tasks)
    counters, cancelled, repeats, outcomes = ledger.Counters(), 0, [], []
    for key, user_id, task_id, attempts in found:
        offset = started[key]
        if offset is not None:
            repeats.append(_possible_repeat(bucket, user_id, task_id, attempts, offset))
        gone = tasks[task_id].cancelled_at is not None or (task_id, user_id) in left
        status = Status.CANCELLED if gone else Status.WAITING
        cancelled += gone
        outcomes.append((key, int(status), attempts, None))
        counters.change(task_id, bucket.pk, Status.IN_FLIGHT, status)
        if not gone:
            bucket_slots.come_back(bucket, key)
    ledger.must_be(len(outcomes), store.set_outcomes(outcomes, was=Status.IN_FLIGHT))
    counters.buckets[bucket.pk]["waiting_count"] += cancelled
    counters.buckets[bucket.pk]["repeats_count"] += len(repeats)
    counters.write()
    store.set_on_buckets({bucket.pk: bucket_slots.cursors_of(bucket)})
    if cancelled:
        ledger.give_back(bucket.pk, cancelled, at=at)
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
