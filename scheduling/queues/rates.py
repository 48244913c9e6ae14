"""Another rpm, other hours or another ramp: what they would do, what they do, and what moves as it no longer fits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import F, Q, QuerySet

from scheduling import models, store
from scheduling.core import allocator, clock, keys, limits
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import cluster
from scheduling.models import MoveReason, Status
from scheduling.placement import moves, quotas, reservations, shapes

log = structlog.get_logger(__name__)

# The IDs that one transaction moves: some 30 ms, of which each bucket costs two.
SLICE_IDS = 5_000
SLICE_BUCKETS = 15
# A job ends after this long, so that other jobs of the cluster get their turn.
JOB_SECONDS = 5.0


@dataclass(frozen=True)
class Load:
    """The load of a queue's open and future minutes: the fullest, the IDs past rpm, and the end of the last
    minute with an ID.
    """

    peak: int
    over_count: int
    ends_at: datetime | None


@dataclass(frozen=True)
class Effect:
    """The effect of a change of rpm; `moved_count` IDs get a later minute."""

    rpm_before: int
    rpm_after: int
    before: Load
    after: Load
    moved_count: int


# The capacity of a minute, by its bucket.
Capacity = Callable[[int], int]
# The fields that determine how many requests a minute may make.
SHAPE = frozenset({"rpm", "hours", "ramp"})


def effect_of_rpm(queue: models.Queue, rpm: int, *, at: datetime) -> Effect:
    """Return what another rpm would do to what is planned from the open window on; nothing is stored."""
    return effect_of(queue, {"rpm": rpm}, at=at)


def effect_of(queue: models.Queue, changes: Mapping[str, Any], *, at: datetime) -> Effect:
    """Return what other fields of a queue would do to what is planned from the open window on; nothing is stored.

    Under `disperse` every ID keeps its minute, as long as that is open. Under `carry_over` what no longer fits
    moves on.
    """
    changed = copy(queue)
    for name, value in changes.items():
        setattr(changed, name, value)
    planned = list(_planned(queue, at).values_list("pk", "filled_count", "capacity"))
    filled = {bucket: count for bucket, count, _ in planned if count}
    stored = {bucket: capacity for bucket, _, capacity in planned}
    # Windows that are open keep the hours that they were created with.
    kept = {} if changes.keys().isdisjoint({"hours", "ramp"}) else _of_open_window(queue, stored, at)
    before = _capacities(queue, stored)
    now = _capacities(changed, kept)
    after, moved = _fitted(filled, now, closed_only=changed.overflow != models.Overflow.CARRY_OVER)
    if changed.quotas and changed.quotas != queue.quotas:
        after, moved_by_quotas = _within_quotas(changed, after, at)
        moved += moved_by_quotas
    return Effect(queue.rpm, changed.rpm, _load(filled, before), _load(after, now), moved)


def _within_quotas(queue: models.Queue, filled: dict[int, int], at: datetime) -> tuple[dict[int, int], int]:
    """Let what is past a period's quota take the first free places of later ones, as `refit` does."""
    filled, moved = dict(filled), 0
    for number, quota in enumerate(shapes.of(queue).quotas):
        for period in quotas.periods(queue, at):
            if period.number != number:
                continue
            planned = [b for b in filled if period.begins_at <= keys.minute_of_bucket(b) < period.ends_at]
            started = period.booked - sum(filled[b] for b in planned)
            excess = max(0, started + sum(filled[b] for b in planned) - quota.limit)
            for bucket in sorted(planned, reverse=True):
                taken = min(excess, filled[bucket])
                filled[bucket] -= taken
                excess, moved = excess - taken, moved + taken
    first = keys.window_id(queue.pk, clock.open_window_start(at))
    fills = {
        window - first: fill for window, fill in keys.by_window(filled.items()).items() if window >= first
    }
    left = quotas.Left(shapes.of(queue), {})
    for offset, fill in fills.items():
        left.book(sum(fill), first + offset)
    for run in allocator.runs_within(shapes.stretches(queue, first), moved, fills=fills, quotas=left):
        for offset in range(run.first, run.first + run.windows):
            for bucket, count in zip(keys.buckets_of_window(first + offset), run.added, strict=True):
                filled[bucket] = filled.get(bucket, 0) + count
    return {bucket: count for bucket, count in filled.items() if count}, moved


def _capacities(queue: models.Queue, kept: Mapping[int, int]) -> Capacity:
    def capacity(bucket: int) -> int:
        if bucket in kept:
            return kept[bucket]
        return shapes.capacity_at(queue, keys.minute_of_bucket(bucket))

    return capacity


def _of_open_window(queue: models.Queue, stored: Mapping[int, int], at: datetime) -> dict[int, int]:
    window = keys.window_id(queue.pk, clock.open_window_start(at))
    capacities = zip(keys.buckets_of_window(window), shapes.capacities(queue, window), strict=True)
    return {bucket: stored.get(bucket, capacity) for bucket, capacity in capacities}


def _load(filled: dict[int, int], capacity: Capacity) -> Load:
    return Load(
        peak=max(filled.values(), default=0),
        over_count=sum(max(0, count - capacity(bucket)) for bucket, count in filled.items()),
        ends_at=keys.minute_of_bucket(max(filled)) + clock.MINUTE if filled else None,
    )


def _fitted(filled: dict[int, int], capacity: Capacity, *, closed_only: bool) -> tuple[dict[int, int], int]:
    """Let what is past capacity take the first free places behind it. Time grows with the minutes, not the IDs.

    closed_only: only what is in minutes that take nothing at all moves.
    """
    fitted: dict[int, int] = {}
    carried = moved = 0
    for bucket in _minutes(sorted(filled)):
        if not carried and bucket > max(filled):
            break
        count, most = filled.get(bucket, 0), capacity(bucket)
        out, room = max(0, count - most), max(0, most - count)
        out = 0 if closed_only and most else out
        moved += out
        taken = min(carried, room)
        carried += out - taken
        if count - out + taken:
            fitted[bucket] = count - out + taken
    return fitted, moved


def _minutes(buckets: list[int]) -> Iterator[int]:
    """Yield the keys of all minutes from the first of the buckets on, without end."""
    if not buckets:
        return
    queue_id, number = keys.queue_of_bucket(buckets[0]), keys.minute_number_of_bucket(buckets[0])
    while True:
        yield keys.bucket_at_number(queue_id, number)
        number += 1


def _planned(queue: models.Queue, at: datetime, *, from_next_window: bool = False) -> QuerySet[models.Bucket]:
    """The buckets of the open window and of future ones, as far as they aren't sealed.

    from_next_window: of those that aren't open yet.
    """
    open_window = clock.open_window_start(at) + (clock.QUARTER if from_next_window else timedelta())
    first = max(clock.runs_at(open_window), clock.next_unsealed_minute(at))
    return models.Bucket.objects.filter(
        pk__gte=keys.bucket_at(queue.pk, first), pk__lte=keys.range_of_queue(queue.pk)[1], sealed_at=None
    )


def follow(queue: models.Queue, changed: Iterable[str], *, at: datetime) -> None:
    """Let the minutes that are planned follow a change of the queue, whose row the caller holds."""
    if SHAPE & set(changed):
        _resize(queue, at, from_next_window=bool({"hours", "ramp"} & set(changed)))
    is_crowded = {*SHAPE, "overflow"} & set(changed) and _crowded(queue, at).exists()
    if is_crowded or ("quotas" in changed and _is_over_quota(queue, at)):
        cluster.enqueue("scheduling.jobs.refit")


def keep_open_windows(queue: models.Queue, *, at: datetime) -> None:
    """Let the windows that run and take lists in keep their capacities, whatever the queue becomes.

    For a queue with hours or a ramp they are created, if nobody has: what shows them reads their rows.
    """
    running = keys.window_id(queue.pk, clock.running_window_start(at))
    shapes.create_windows(queue, [running, running + 1])


def _resize(queue: models.Queue, at: datetime, *, from_next_window: bool) -> None:
    """Give the minutes that are planned the capacities of the queue as it is now."""
    planned = _planned(queue, at, from_next_window=from_next_window)
    if not shapes.is_shaped(queue):
        planned.update(capacity=queue.rpm)
        return
    by_capacity: dict[int, list[int]] = {}
    for bucket_id, before in planned.values_list("pk", "capacity"):
        capacity = shapes.capacity_at(queue, keys.minute_of_bucket(bucket_id))
        if capacity != before:
            by_capacity.setdefault(capacity, []).append(bucket_id)
    for capacity, bucket_ids in by_capacity.items():
        for start in range(0, len(bucket_ids), limits.IDS_PER_QUERY):
            some = models.Bucket.objects.filter(pk__in=bucket_ids[start : start + limits.IDS_PER_QUERY])
            some.update(capacity=capacity)


def _crowded(queue: models.Queue, at: datetime) -> QuerySet[models.Bucket]:
    """Minutes that hold more than they may: closed ones, and under `carry_over`, where rpm is a hard cap, all."""
    crowded = _planned(queue, at).filter(filled_count__gt=F("capacity"), waiting_count__gt=0)
    return crowded if queue.overflow == models.Overflow.CARRY_OVER else crowded.filter(capacity=0)


def wake(*, at: datetime) -> bool:
    """Queue a job where a queue that isn't paused has minutes past its hard cap; return whether."""
    if not any(_crowded(queue, at).exists() or _is_over_quota(queue, at) for queue in _capped()):
        return False
    cluster.enqueue("scheduling.jobs.refit")
    return True


def _capped() -> QuerySet[models.Queue]:
    """The queues with minutes that IDs have to leave: of a hard cap, or closed."""
    is_capped = Q(overflow=models.Overflow.CARRY_OVER) | Q(hours__isnull=False) | Q(ramp__isnull=False)
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
    for queue in list(_capped().order_by("pk")):
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
    behind: int | None = 0
    while behind is not None:
        count, behind = _refit_slice(queue_id, behind, now)
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
            wanted = min(SLICE_IDS, period.excess)
            buckets = _last_waiting(queue, period, at)[:SLICE_BUCKETS] if wanted else ()
            for bucket in sorted(buckets, key=lambda bucket: -bucket.pk):
                rows += reversed(_last_rows(bucket, wanted - len(rows)))
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


def _refit_slice(queue_id: int, behind: int, now: Callable[[], datetime]) -> tuple[int, int | None]:
    """Move what is too much in some minutes: how many, and the bucket to go on behind, None at the end."""
    with store.bulk_write():
        queue = reservations.lock_queue(queue_id)
        at = now()
        if queue.paused:
            return 0, None
        first = _crowded(queue, at).filter(pk__gt=behind).order_by("pk").values_list("pk", flat=True).first()
        if first is None:
            return 0, None
        rows: list[moves.Row] = []
        last = first
        for bucket in _full_run(queue, first):
            if bucket.capacity == 0 or queue.overflow == models.Overflow.CARRY_OVER:
                rows += _too_many(bucket, SLICE_IDS - len(rows))
            last = bucket.pk
            if len(rows) >= SLICE_IDS:
                break
        # Behind minutes that are all full, so each gets just the place that it would get alone.
        from_minute = keys.minute_of_bucket(last) + clock.MINUTE
        moves.move(queue, rows, from_minute=from_minute, reason=MoveReason.RPM, was=Status.WAITING, at=at)
    # A bucket that the slice's end divided is read again.
    return len(rows), last - 1 if len(rows) >= SLICE_IDS else last


def _full_run(queue: models.Queue, first: int) -> list[models.Bucket]:
    """The bucket and those behind it, minute by minute, as long as none has a free place; rows locked."""
    rows = models.Bucket.objects.filter(pk__gte=first, pk__lte=keys.range_of_queue(queue.pk)[1])
    run: list[models.Bucket] = []
    for bucket in rows.select_for_update().order_by("pk")[:SLICE_BUCKETS]:
        follows = not run or (
            keys.minute_number_of_bucket(bucket.pk) == keys.minute_number_of_bucket(run[-1].pk) + 1
        )
        if not follows or bucket.filled_count < bucket.capacity:
            break
        run.append(bucket)
    return run


def _too_many(bucket: models.Bucket, at_most: int) -> list[moves.Row]:
    """Return the IDs beyond the bucket's capacity: of the waiting ones that have a row, those in the last places."""
    return _last_rows(bucket, min(at_most, bucket.filled_count - bucket.capacity))


def _last_rows(bucket: models.Bucket, count: int) -> list[moves.Row]:
    """The last `count` of what waits in a bucket and has its row, in the order of their places."""
    if count <= 0:
        return []
    first, last = keys.range_of_bucket(bucket.pk)
    waiting = models.Assignment.objects.filter(pk__gte=first, pk__lte=last).with_status(Status.WAITING)
    rows = waiting.order_by("-pk").values_list("pk", "user_id", "task_id", "attempts")[:count]
    return [moves.Row(*row) for row in reversed(rows)]
