"""A day's minutes: what was planned and sent, by window, for heat maps and as numbers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import add
from typing import Any

from django.db.models import Max, Min, QuerySet, Sum

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import Group, MoveReason, Status

LATE_NOTES = MoveReason.what_made_late()


@dataclass(frozen=True)
class Cell:
    """One minute of a day, over the queues that are shown."""

    minute: datetime
    capacity: int
    filled: int
    sent: int
    failed: int
    # IDs that moved to a later minute.
    moved: int = 0


@dataclass(frozen=True)
class Column:
    """One window of a day: its minutes, at the time when they run."""

    runs_at: datetime
    cells: tuple[Cell, ...]

    @property
    def starts_at(self) -> datetime:
        return self.runs_at - clock.QUARTER

    @property
    def filled(self) -> int:
        return sum(cell.filled for cell in self.cells)

    @property
    def sent(self) -> int:
        return sum(cell.sent for cell in self.cells)

    @property
    def failed(self) -> int:
        return sum(cell.failed for cell in self.cells)

    @property
    def moved(self) -> int:
        return sum(cell.moved for cell in self.cells)

    @property
    def peak(self) -> int:
        return max(cell.filled for cell in self.cells)


def _buckets(queues: Sequence[models.Queue], begin: datetime, end: datetime) -> QuerySet[models.Bucket]:
    """Return the buckets that run from `begin` until `end`, both on a quarter."""
    return models.Bucket.objects.filter(
        window__queue__in=[queue.pk for queue in queues],
        window__starts_at__gte=begin - clock.QUARTER,
        window__starts_at__lt=end - clock.QUARTER,
    ).order_by()


def columns(queues: Sequence[models.Queue], *, begin: datetime, end: datetime) -> list[Column]:
    """Return the windows that run from `begin` until `end`, both on a quarter; also empty ones."""
    rpms = {queue.pk: queue.rpm for queue in queues}
    counts: dict[int, tuple[int, ...]] = {}
    rows = _buckets(queues, begin, end).values_list(
        "pk", "filled_count", "capacity", "succeeded_count", "failed_count", "moved_count"
    )
    for pk, filled, capacity, succeeded, failed, moved in rows:
        number = keys.minute_number_of_bucket(pk)
        row = (filled, capacity, succeeded + failed, failed, moved, rpms[keys.queue_of_bucket(pk)])
        known = counts.get(number)
        counts[number] = row if known is None else tuple(map(add, known, row))
    rpm = sum(rpms.values())
    found = []
    runs_at = begin
    while runs_at < end:
        cells = tuple(_cell(runs_at + k * clock.MINUTE, counts, rpm) for k in range(clock.BUCKETS))
        found.append(Column(runs_at, cells))
        runs_at += clock.QUARTER
    return found


def _cell(minute: datetime, counts: dict[int, tuple[int, ...]], rpm: int) -> Cell:
    number = (minute - clock.EPOCH) // clock.MINUTE
    filled, capacity, sent, failed, moved, rpm_there = counts.get(number, (0, 0, 0, 0, 0, 0))
    # Queues without a window then would have had their rpm.
    return Cell(minute, capacity + rpm - rpm_there, filled, sent, failed, moved)


@dataclass(frozen=True)
class UpcomingWindow:
    """A future window that already has IDs."""

    queue: str
    starts_at: datetime
    filled: int
    peak: int
    capacity: int


def upcoming_windows(
    queues: Sequence[models.Queue], *, at: datetime, count: int = 12
) -> list[UpcomingWindow]:
    """Return the next windows after the open one that have IDs, the earliest first."""
    later = models.Window.objects.filter(
        queue__in=[queue.pk for queue in queues], starts_at__gt=clock.open_window_start(at)
    )
    filled = later.annotate(
        filled=Sum("buckets__filled_count"),
        peak=Max("buckets__filled_count"),
        capacity=Max("buckets__capacity"),
    ).filter(filled__gt=0)
    rows = filled.order_by("starts_at", "pk").values_list(
        "queue__name", "starts_at", "filled", "peak", "capacity"
    )
    return [UpcomingWindow(*row) for row in rows[:count]]


def sums_by_queue(
    queues: Sequence[models.Queue], *, begin: datetime, end: datetime
) -> list[tuple[str, dict[str, int]]]:
    """Return each queue's planned IDs and their outcomes from `begin` until `end`."""
    finished = (status.word for status in Status if Group.UNFINISHED not in status.groups)
    names = ("filled", "started", *finished, "moved")
    rows = (
        _buckets(queues, begin, end)
        .values("window__queue")
        .annotate(**{name: Sum(f"{name}_count", default=0) for name in names})
    )
    known: dict[int, Any] = {row["window__queue"]: row for row in rows}
    none = dict.fromkeys(names, 0)
    return [(queue.name, {name: known.get(queue.pk, none)[name] for name in names}) for queue in queues]


@dataclass(frozen=True)
class ReplannedIds:
    """Late IDs that have another minute, which is still to come: how many, and the first and last such minute.

    since: the first of the minutes in which they had been planned.
    """

    queue: str
    count: int
    since: datetime
    first_at: datetime
    last_at: datetime


def replanned_late_ids(queues: Sequence[models.Queue], *, at: datetime) -> list[ReplannedIds]:
    """Return the late IDs that have another minute by now, from the log of reservations."""
    names = {queue.pk: queue.name for queue in queues}
    came_in = models.Reservation.objects.filter(
        window__queue__in=list(names),
        window__starts_at__gte=clock.running_window_start(at),
        note__in=LATE_NOTES,
        kind=models.ReservationKind.MOVE_IN,
    ).order_by()
    current = clock.minute_start(at)
    minutes: dict[int, dict[datetime, int]] = {}
    for window_id, deltas in came_in.values_list("window_id", "deltas"):
        counts = minutes.setdefault(keys.queue_of_window(window_id), {})
        for minute, delta in zip(clock.minutes(keys.starts_at_of_window(window_id)), deltas, strict=True):
            if delta > 0 and minute >= current:
                counts[minute] = counts.get(minute, 0) + delta
    since = _late_since(list(minutes), at)
    return [
        ReplannedIds(
            names[queue], sum(counts.values()), since.get(queue, min(counts)), min(counts), max(counts)
        )
        for queue, counts in sorted(minutes.items())
        if counts
    ]


def _late_since(queue_ids: Collection[int], at: datetime) -> dict[int, datetime]:
    """Return, by queue, since when those of its IDs that will still run are late that have been late for longest."""
    running, current = clock.running_window_start(at), clock.minute_start(at)
    over = [minute for minute in clock.minutes(running) if minute < current]
    late = models.Bucket.objects.filter(
        window__queue__in=queue_ids,
        window__starts_at__gte=running,
        waiting_count__gt=0,
        late_since_bucket_id__isnull=False,
    ).exclude(pk__in=[keys.bucket_at(queue_id, minute) for queue_id in queue_ids for minute in over])
    oldest = late.order_by().values_list("window__queue").annotate(Min("late_since_bucket_id"))
    return {queue_id: keys.minute_of_bucket(bucket_id) for queue_id, bucket_id in oldest}
