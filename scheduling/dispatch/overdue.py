"""IDs that could not run in their minute take the first free places from the next minute on, never in a burst.

They move in slices, oldest first: one transaction moves as many as are written in about 30 ms. IDs of a queue that is
paused, or braked to 0, move when the queue continues. No ID moves to a minute that would pass unused because its target
is blocked: after a Retry-After, all IDs move once, to minutes after it; while a circuit breaker is open, they wait
until it closes, except for one, which becomes the next probe.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from django.db.models import Sum

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import bad_rows, recovery, targets
from scheduling.dispatch.claims import PROBE_CANDIDATES
from scheduling.jobqueue import cluster
from scheduling.models import MoveReason, Status
from scheduling.placement import canaries, late_ids, moves, reservations

log = structlog.get_logger(__name__)

SLICE_IDS = 2_000
# A job ends after this long, far below the cluster's time-out.
JOB_SECONDS = 15.0
# A minute worker may still use slots of its minute for as long as the largest tolerance, at 1 rpm.
SETTLED = timedelta(seconds=2)


def run(now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> int:
    """Move or end what is late in every queue that isn't paused; return how many IDs.

    seconds: if there is more by then, a job goes on. What dead workers had claimed waits again first.
    """
    total, limit = 0, TimeLimit(seconds)
    while recovery.recover(now, seconds=1.0) and not limit.is_over:
        continue
    for bucket_id in overdue_buckets(now()):
        while moved := _move_slice_or_end_bad_rows(bucket_id, now):
            total += moved
            if limit.is_over:
                cluster.enqueue("scheduling.jobs.place_late")
                return total
    return total


def wake(*, at: datetime) -> bool:
    """Queue a job where something is late or a batch has no living owner; return whether."""
    dead = models.Batch.objects.filter(lease_until__lt=at).exists()
    overdue = overdue_buckets(at)
    queue_ids = {keys.queue_of_bucket(bucket_id) for bucket_id in overdue}
    moving = {queue_id for queue_id in queue_ids if movable_count(queue_id, at)}
    movable = [bucket_id for bucket_id in overdue if keys.queue_of_bucket(bucket_id) in moving][:20]
    if not dead and not store.waiting_rows([(*keys.range_of_bucket(b), 1) for b in movable]):
        return False
    if cluster.is_queued("scheduling.jobs.place_late", at=at):
        return False
    cluster.enqueue("scheduling.jobs.place_late")
    return True


def overdue_buckets(at: datetime) -> list[int]:
    """Buckets whose minute is over and in which something waits, of queues that go on, oldest first.

    A place whose row isn't written yet waits too; the worker that writes the row places it again. If only tasks on hold
    wait, or IDs that wait for a canary, nothing moves until they continue.
    """
    over = clock.minute_start(at - SETTLED) - clock.MINUTE
    running = models.Queue.objects.filter(paused_at=None).exclude(brake_per_minute=0)
    queue_ids = running.values_list("pk", flat=True)
    ranges = [(keys.range_of_queue(queue_id)[0], keys.bucket_at(queue_id, over)) for queue_id in queue_ids]
    waiting = set(store.waiting_buckets(ranges))
    if not waiting:
        return []
    return sorted(waiting - buckets_of_stopped_tasks_alone(), key=keys.minute_number_of_bucket)


def buckets_of_stopped_tasks_alone() -> set[int]:
    """Buckets in which nothing waits but tasks on hold, and what waits for a canary. One query where there are none."""
    stopped = models.Task.objects.on_hold() | models.Task.objects.with_canary()
    is_on_hold = {pk: held_at is not None for pk, held_at in stopped.values_list("pk", "held_at")}
    if not is_on_hold:
        return set()
    placed = models.TaskBucket.objects.filter(task__in=is_on_hold, waiting_count__gt=0).order_by()
    counts = Counter(dict(placed.values_list("bucket_id").annotate(Sum("waiting_count"))))
    movable = canaries.waiting_by_bucket(pk for pk, held in is_on_hold.items() if not held)
    buckets = models.Bucket.objects.filter(pk__in=placed.values("bucket_id"))
    return {
        pk
        for pk, waiting in buckets.values_list("pk", "waiting_count")
        if waiting <= counts[pk] - movable[pk]
    }


def _move_slice_or_end_bad_rows(bucket_id: int, now: Callable[[], datetime]) -> int:
    """Move or end a slice; where a row is to blame for an error, that one ends and the others move."""
    try:
        return move_slice(bucket_id, now)
    except Exception as error:
        if store.is_unavailable(error):
            raise
        log.warning("bad_rows_looked_for", bucket=bucket_id, exc_info=True)
        if not bad_rows.end_bad_rows(bucket_id, now):
            # All other buckets go on; this one is tried again by the next job.
            log.exception("slice_not_moved", bucket=bucket_id)
            return 0
    return move_slice(bucket_id, now)


def move_slice(bucket_id: int, now: Callable[[], datetime]) -> int:
    """Move or end a slice of a bucket whose minute is over: one transaction; return how many IDs."""
    with store.bulk_write():
        queue = reservations.lock_queue(keys.queue_of_bucket(bucket_id))
        if queue.paused or queue.brake_per_minute == 0:
            return 0
        bucket = models.Bucket.objects.select_for_update().get(pk=bucket_id)
        at = now()
        movable = movable_count(queue.pk, at)
        if not movable:
            return 0
        if movable == 1:
            candidates = [row for row in [_next_probe(queue, at)] if row and row[0] in _keys_of(bucket_id)]
        else:
            candidates = store.waiting_rows([(*keys.range_of_bucket(bucket_id), movable)])
        if not candidates:
            return 0
        rows = [moves.Row(*row) for row in candidates]
        is_short = bucket.slot_count is not None and bucket.slot_count < bucket.capacity
        # Of a target's slots it may have fewer as well, since others have them.
        braked = is_short and bucket.target_slots is None
        places = moves.move(
            queue,
            rows,
            from_minute=targets.first_minute(queue, at),
            reason=MoveReason.BRAKE if braked else MoveReason.LATE,
            was=Status.WAITING,
            at=at,
            latest=_latest(queue, bucket, rows),
        )
    moved = sum(place.count for place in places)
    log.warning(
        "ids_late",
        queue=queue.name,
        minute=bucket.minute_at.isoformat(),
        count=moved,
        ended=len(rows) - moved,
        late_seconds=round((at - bucket.minute_at).total_seconds()),
    )
    return len(rows)


def movable_count(queue_id: int, at: datetime) -> int:
    """Return how many of a queue's late IDs may move now, at most a slice."""
    queue = models.Queue.objects.get(pk=queue_id)
    target = targets.target_of(queue)
    if target is None or target.opened_at is None:
        return SLICE_IDS
    # A probe is one of the IDs of the minute that runs.
    coming = clock.next_unsealed_minute(at)
    minutes = [keys.bucket_at(queue_id, minute) for minute in (coming - clock.MINUTE, coming)]
    waiting = models.Bucket.objects.filter(pk__in=minutes, waiting_count__gt=0).values_list("pk", flat=True)
    candidates = store.waiting_rows([(*keys.range_of_bucket(b), PROBE_CANDIDATES) for b in waiting])
    if not candidates:
        return 0 if waiting else 1
    return int(not any(_has_spare(row, queue) for row in candidates) and has_spare_probe(queue, at))


# An assignment that waits: its key, user and task, and how many requests were made for it.
Waiting = tuple[int, int, int, int]


def has_spare_probe(queue: models.Queue, at: datetime) -> bool:
    """Whether a late ID of a queue can be the next probe without the risk that its failure is permanent."""
    row = _next_probe(queue, at)
    return row is not None and _has_spare(row, queue)


def _next_probe(queue: models.Queue, at: datetime) -> Waiting | None:
    """Return the late ID that is the next probe: the one that was moved last, while it has attempts to spare.

    Then the oldest that has. If none has, the one that was moved last.
    """
    buckets = [b for b in overdue_buckets(at) if keys.queue_of_bucket(b) == queue.pk]
    fallback: Waiting | None = None
    for bucket_id in [*buckets[-1:], *buckets[:-1]]:
        rows = store.waiting_rows([(*keys.range_of_bucket(bucket_id), PROBE_CANDIDATES)])
        for row in rows:
            if _has_spare(row, queue):
                return row
        fallback = fallback or next(iter(rows), None)
    return fallback


def _has_spare(row: Waiting, queue: models.Queue) -> bool:
    """Whether a request for an ID may fail without being its last one."""
    return row[3] + 1 < queue.max_attempts


def _keys_of(bucket_id: int) -> range:
    first, last = keys.range_of_bucket(bucket_id)
    return range(first, last + 1)


def _latest(queue: models.Queue, bucket: models.Bucket, rows: Sequence[moves.Row]) -> dict[int, datetime]:
    """By key, the last minute in which each of the rows may still run; none by a policy that lets them all."""
    if queue.late_policy != models.LatePolicy.EXPIRE:
        return {}
    # What is late counts from the first place.
    first = late_ids.late_since({row.task_id for row in rows}, [row.user_id for row in rows])
    due = {row.key: first.get((row.task_id, row.user_id), bucket.pk) for row in rows}
    return {key: moves.last_minute(queue, keys.minute_of_bucket(bucket_id)) for key, bucket_id in due.items()}
