"""Another rpm, other hours or another ramp: what they would do, what they do, and what moves as it no longer fits."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from datetime import datetime
from typing import Any, TypeVar

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import F, Q, QuerySet

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.batches import batches
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import targets
from scheduling.jobqueue import cluster
from scheduling.models import MoveReason, Status
from scheduling.placement import budgets, moves, quotas, reservations, shapes

log = structlog.get_logger(__name__)

# The IDs that one transaction moves: some 30 ms, of which each bucket costs two.
SLICE_IDS = 5_000
SLICE_BUCKETS = 15
# A job ends after this long, so that other jobs of the cluster get their turn.
JOB_SECONDS = 5.0


# The capacity of a minute, by its bucket.
Capacity = Callable[[int], int]
# The fields that determine how many requests a minute may make.
SHAPE = frozenset({"rpm", "hours", "ramp", "target_id"})
Row = TypeVar("Row", models.Queue, models.Target)


def target_of(queue: models.Queue) -> models.Target | None:
    """Return the target that a queue sends to, if that one has a budget."""
    origin = targets.origin_of_queue(queue)
    return budgets.budgeted().filter(origin=origin).first() if origin else None


def changed_copy(row: Row, changes: Mapping[str, Any]) -> Row:
    """Return a queue or a target as it would be with other values, unsaved."""
    changed = copy(row)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def check_open(queue_ids: Collection[int], *, at: datetime) -> None:
    """Raise BadFields where a queue, as it is stored now, would never be open for lists."""
    for queue in models.Queue.objects.filter(pk__in=queue_ids).select_related("target"):
        shapes.check_opens(queue, at=at)


def smaller(first: Capacity, second: Capacity) -> Capacity:
    return lambda bucket: min(first(bucket), second(bucket))


def hard_cap(queue: models.Queue, capacity: Capacity, room: Capacity) -> Capacity:
    """Return what no minute may hold more of: under `disperse` only the budget, and nothing in what is closed."""
    if queue.overflow == models.Overflow.CARRY_OVER:
        return smaller(capacity, room)
    return lambda bucket: room(bucket) if capacity(bucket) else 0


def kept_capacity(queue: models.Queue, changed: models.Queue, bucket_id: int, stored: int) -> int:
    """Return the capacity of a minute of the open window once the queue is changed. stored: what it is now.

    The window keeps the hours and the ramp that it was created with, which may be older than the queue's; another rpm
    acts on it.
    """
    minute = keys.minute_of_bucket(bucket_id)
    is_same_shape = (queue.hours, queue.ramp) == (changed.hours, changed.ramp)
    if is_same_shape and stored == shapes.capacity_at(queue, minute):
        return shapes.capacity_at(changed, minute)
    return changed.rpm if stored >= queue.rpm else min(stored, changed.rpm)


def planned(queue: models.Queue, at: datetime) -> QuerySet[models.Bucket]:
    """The buckets of the open window and of future ones, as far as they aren't sealed."""
    first = max(clock.runs_at(clock.open_window_start(at)), clock.next_unsealed_minute(at))
    return models.Bucket.objects.filter(
        pk__gte=keys.bucket_at(queue.pk, first), pk__lte=keys.range_of_queue(queue.pk)[1], sealed_at=None
    )


def follow(
    queue: models.Queue, changed: Iterable[str], *, before: models.Queue | None = None, at: datetime
) -> None:
    """Let the minutes that are planned follow a change of the queue, whose row the caller holds.

    before: the queue as it was; None if only the budget of its target has changed, which acts on the open window.
    """
    if SHAPE & set(changed):
        _resize(queue, before, at)
    is_crowded = {*SHAPE, "overflow"} & set(changed) and _is_crowded(queue, at)
    if is_crowded or ("quotas" in changed and _is_over_quota(queue, at)):
        cluster.enqueue("scheduling.jobs.refit")


def keep_open_windows(queue: models.Queue, *, at: datetime) -> None:
    """Let the windows that run and take lists in keep their capacities, whatever the queue becomes.

    For a queue with hours or a ramp they are created, if nobody has: what shows them reads their rows.
    """
    running = keys.window_id(queue.pk, clock.running_window_start(at))
    shapes.create_windows(queue, [running, running + 1])


def _resize(queue: models.Queue, before: models.Queue | None, at: datetime) -> None:
    """Give the minutes that are planned the capacities of the queue as it is now. before: see `follow`."""
    buckets = planned(queue, at)
    if not shapes.is_shaped(queue) and (before is None or not shapes.is_shaped(before)):
        buckets.update(capacity=queue.rpm)
        return
    open_window = keys.window_id(queue.pk, clock.open_window_start(at))
    by_capacity: dict[int, list[int]] = {}
    for bucket_id, stored in buckets.values_list("pk", "capacity"):
        if before is not None and keys.window_of_bucket(bucket_id) == open_window:
            capacity = kept_capacity(before, queue, bucket_id, stored)
        else:
            capacity = shapes.capacity_at(queue, keys.minute_of_bucket(bucket_id))
        if capacity != stored:
            by_capacity.setdefault(capacity, []).append(bucket_id)
    for capacity, bucket_ids in by_capacity.items():
        for batch in batches(bucket_ids):
            models.Bucket.objects.filter(pk__in=batch).update(capacity=capacity)


def _crowded(queue: models.Queue, at: datetime) -> QuerySet[models.Bucket]:
    """Minutes that hold more than they may: closed ones, and under `carry_over`, where rpm is a hard cap, all."""
    crowded = planned(queue, at).filter(filled_count__gt=F("capacity"), waiting_count__gt=0)
    return crowded if queue.overflow == models.Overflow.CARRY_OVER else crowded.filter(capacity=0)


def _is_crowded(queue: models.Queue, at: datetime) -> bool:
    return _first_crowded(queue, 0, at) is not None


def _first_crowded(queue: models.Queue, after: int, at: datetime) -> int | None:
    """Return the first bucket after another that holds more than its hard cap."""
    if queue.target_id is None:
        return _crowded(queue, at).filter(pk__gt=after).order_by("pk").values_list("pk", flat=True).first()
    budget = budgets.Room(queue, keys.window_id(queue.pk, clock.running_window_start(at)))
    waiting = planned(queue, at).filter(pk__gt=after, waiting_count__gt=0).order_by("pk")
    over = (bucket.pk for bucket in waiting if _excess(queue, bucket, budget))
    return next(over, None)


def _excess(queue: models.Queue, bucket: models.Bucket, budget: budgets.Room) -> int:
    """Return how many IDs are past the hard cap of a bucket."""
    most = hard_cap(queue, lambda _: bucket.capacity, budget.at)
    return max(0, bucket.filled_count - most(bucket.pk))


def wake(*, at: datetime) -> bool:
    """Queue a job where a queue that isn't paused has minutes past its hard cap; return whether."""
    if not any(_is_crowded(queue, at) or _is_over_quota(queue, at) for queue in _capped()):
        return False
    cluster.enqueue("scheduling.jobs.refit")
    return True


def _capped() -> QuerySet[models.Queue]:
    """The queues with minutes that IDs have to leave: of a hard cap, or closed."""
    is_capped = Q(overflow=models.Overflow.CARRY_OVER) | Q(hours__isnull=False) | Q(ramp__isnull=False)
    is_capped |= Q(target__isnull=False)
    return models.Queue.objects.filter(is_capped | ~Q(quotas=[]), paused_at=None)


def _is_over_quota(queue: models.Queue, at: datetime) -> bool:
    return any(
        period.excess and _last_waiting(queue, period, at).exists() for period in quotas.periods(queue, at)
    )


def _last_waiting(queue: models.Queue, period: quotas.Period, at: datetime) -> QuerySet[models.Bucket]:
    """The minutes of a period, the last one first, from which IDs can still go to a later one."""
    first = max(period.begins_at, clock.next_unsealed_minute(at))
    if first >= period.ends_at:
        return models.Bucket.objects.none()
    return models.Bucket.objects.filter(
        pk__gte=keys.bucket_at(queue.pk, first),
        pk__lt=keys.bucket_at(queue.pk, period.ends_at),
        waiting_count__gt=0,
        sealed_at=None,
    ).order_by("-pk")


def refit(now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> int:
    """Move on what is past a hard cap, in slices; return how many IDs.

    IDs whose rows aren't written yet stay until they are: the sweep comes back.
    """
    limit = TimeLimit(seconds)
    moved = 0
    # Of a target's budget, the queue that was created last gives up its places first.
    for queue in list(_capped().order_by("-pk")):
        try:
            for count in _refit_queue(queue.pk, now):
                moved += count
                if limit.is_over:
                    cluster.enqueue("scheduling.jobs.refit")
                    return moved
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # An error in one queue must not delay the others.
            log.exception("queue_not_refitted", queue=queue.name)
    return moved


def _refit_queue(queue_id: int, now: Callable[[], datetime]) -> Iterator[int]:
    """Refit a queue, slice by slice; yield how many IDs each moved."""
    after: int | None = 0
    while after is not None:
        count, after = _refit_slice(queue_id, after, now)
        yield count
    while count := _refit_quotas(queue_id, now):
        yield count


def _refit_quotas(queue_id: int, now: Callable[[], datetime]) -> int:
    """Move on the last IDs of a period that has more than its quota: one transaction; return how many."""
    with store.bulk_write():
        queue = reservations.lock_queue(queue_id)
        at = now()
        if queue.paused:
            return 0
        for period in quotas.periods(queue, at):
            rows: list[moves.Row] = []
            most_ids = min(SLICE_IDS, period.excess)
            buckets = _last_waiting(queue, period, at)[:SLICE_BUCKETS] if most_ids else ()
            for bucket in sorted(buckets, key=lambda bucket: -bucket.pk):
                rows += reversed(_last_rows(bucket, most_ids - len(rows)))
            if rows:
                list(
                    models.Bucket.objects.select_for_update()
                    .filter(pk__in={row.bucket_id for row in rows})
                    .order_by("pk")
                )
                # In the order of their places.
                moves.move(
                    queue,
                    rows[::-1],
                    from_minute=max(period.ends_at, clock.next_unsealed_minute(at)),
                    reason=MoveReason.RPM,
                    was=Status.WAITING,
                    at=at,
                )
                return len(rows)
    return 0


def _refit_slice(queue_id: int, after: int, now: Callable[[], datetime]) -> tuple[int, int | None]:
    """Move what exceeds the limit in a few minutes; return how many, and the bucket to continue after, or None."""
    with store.bulk_write():
        queue = reservations.lock_queue(queue_id)
        at = now()
        if queue.paused:
            return 0, None
        first = _first_crowded(queue, after, at)
        if first is None:
            return 0, None
        rows: list[moves.Row] = []
        last = first
        budget = budgets.Room(queue, keys.window_of_bucket(first))
        for bucket in _full_run(queue, first, budget):
            rows += _last_rows(bucket, min(SLICE_IDS - len(rows), _excess(queue, bucket, budget)))
            last = bucket.pk
            if len(rows) >= SLICE_IDS:
                break
        # After minutes that are all full, so each gets just the place that it would get alone.
        from_minute = keys.minute_of_bucket(last) + clock.MINUTE
        moves.move(queue, rows, from_minute=from_minute, reason=MoveReason.RPM, was=Status.WAITING, at=at)
    # A bucket that the slice's end divided is read again.
    return len(rows), last - 1 if len(rows) >= SLICE_IDS else last


def _full_run(queue: models.Queue, first: int, budget: budgets.Room) -> list[models.Bucket]:
    """The bucket and the ones after it, minute by minute, as long as none has a free place; rows locked."""
    rows = models.Bucket.objects.filter(pk__gte=first, pk__lte=keys.range_of_queue(queue.pk)[1])
    run: list[models.Bucket] = []
    for bucket in rows.select_for_update().order_by("pk")[:SLICE_BUCKETS]:
        follows = not run or (
            keys.minute_number_of_bucket(bucket.pk) == keys.minute_number_of_bucket(run[-1].pk) + 1
        )
        if not follows or bucket.filled_count < min(bucket.capacity, budget.at(bucket.pk)):
            break
        run.append(bucket)
    return run


def _last_rows(bucket: models.Bucket, count: int) -> list[moves.Row]:
    """The last `count` of what waits in a bucket and has its row, in the order of their places."""
    if count <= 0:
        return []
    first, last = keys.range_of_bucket(bucket.pk)
    waiting = models.Assignment.objects.filter(pk__gte=first, pk__lte=last).with_status(Status.WAITING)
    rows = waiting.order_by("-pk").values_list("pk", "user_id", "task_id", "attempts")[:count]
    return [moves.Row(*row) for row in reversed(rows)]
