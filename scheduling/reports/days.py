"""A day's minutes: what was planned and sent, by window, for heat maps and as numbers."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import add
from typing import Any

from django.db.models import Max, QuerySet, Sum

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
        total = counts.get(number)
        counts[number] = row if total is None else tuple(map(add, total, row))
    rpm = sum(rpms.values())
    result = []
    runs_at = begin
    while runs_at < end:
        cells = tuple(_cell(runs_at + k * clock.MINUTE, counts, rpm) for k in range(clock.BUCKETS))
        result.append(Column(runs_at, cells))
        runs_at += clock.QUARTER
    return result


def _cell(minute: datetime, counts: dict[int, tuple[int, ...]], rpm: int) -> Cell:
    number = clock.minute_number(minute)
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
    sums: dict[int, Any] = {row["window__queue"]: row for row in rows}
    none = dict.fromkeys(names, 0)
    return [(queue.name, {name: sums.get(queue.pk, none)[name] for name in names}) for queue in queues]


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
    came_in_counts: dict[int, int] = {}
    for window_id, deltas in came_in.values_list("window_id", "deltas"):
        for bucket_id, delta in zip(keys.buckets_of_window(window_id), deltas, strict=True):
            if delta > 0:
                came_in_counts[bucket_id] = came_in_counts.get(bucket_id, 0) + delta
    by_queue: dict[int, dict[int, tuple[int, int]]] = {}
    for bucket_id, waiting, since in _waiting_late(list(names), at) if came_in_counts else ():
        # What came in may have left again, by a cancel or a change of the queue.
        if count := min(waiting, came_in_counts.get(bucket_id, 0)):
            by_queue.setdefault(keys.queue_of_bucket(bucket_id), {})[bucket_id] = count, since
    return [
        ReplannedIds(
            names[queue],
            sum(count for count, _ in places.values()),
            keys.minute_of_bucket(min(since for _, since in places.values())),
            keys.minute_of_bucket(min(places)),
            keys.minute_of_bucket(max(places)),
        )
        for queue, places in sorted(by_queue.items())
    ]


def _waiting_late(queue_ids: Collection[int], at: datetime) -> Iterator[tuple[int, int, int]]:
    """Yield the minutes from now on with IDs that are late: the bucket, how many IDs wait, since which bucket."""
    running, current = clock.running_window_start(at), clock.minute_start(at)
    over = [minute for minute in clock.minutes(running) if minute < current]
    late = models.Bucket.objects.filter(
        window__queue__in=queue_ids,
        window__starts_at__gte=running,
        waiting_count__gt=0,
        late_since_bucket_id__isnull=False,
    ).exclude(pk__in=[keys.bucket_at(queue_id, minute) for queue_id in queue_ids for minute in over])
    for bucket_id, waiting, since in late.values_list("pk", "waiting_count", "late_since_bucket_id"):
        assert since is not None
        yield bucket_id, waiting, since
