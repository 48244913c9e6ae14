"""A day's minutes: what was planned and sent, by window, for heat maps and as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Sum

from . import clock, keys, models


@dataclass(frozen=True)
class Cell:
    """One minute of a day, over the queues that are shown."""

    minute: datetime
    capacity: int
    filled: int
    sent: int
    failed: int


@dataclass(frozen=True)
class Column:
    """One window of a day: its minutes, by the time in which they run."""

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
    def peak(self) -> int:
        return max(cell.filled for cell in self.cells)


def columns(queues: Sequence[models.Queue], *, begin: datetime, end: datetime) -> list[Column]:
    """The windows that run from `begin` until `end`, both on a quarter; empty ones too. One query a queue."""
    counts: dict[int, list[int]] = {}
    for queue in queues:
        first, last = (keys.bucket_at(queue.pk, at) for at in (begin, end))
        rows = models.Bucket.objects.filter(pk__gte=first, pk__lt=last)
        sent = F("succeeded_count") + F("failed_count")
        for pk, filled, capacity, done, failed in rows.values_list(
            "pk", "filled_count", "capacity", sent, "failed_count"
        ):
            row = counts.setdefault(keys.minute_number_of_bucket(pk), [0, 0, 0, 0, 0])
            row[:] = [
                row[0] + filled, row[1] + capacity, row[2] + done, row[3] + failed, row[4] + queue.rpm
            ]  # fmt: skip
    rpm = sum(queue.rpm for queue in queues)
    found = []
    runs_at = begin
    while runs_at < end:
        found.append(
            Column(
                runs_at, tuple(_cell(runs_at + k * clock.MINUTE, counts, rpm) for k in range(clock.BUCKETS))
            )
        )
        runs_at += clock.QUARTER
    return found


def _cell(minute: datetime, counts: dict[int, list[int]], rpm: int) -> Cell:
    number = (minute - clock.EPOCH) // clock.MINUTE
    filled, capacity, sent, failed, rpm_there = counts.get(number, (0, 0, 0, 0, 0))
    # Queues without a window there would have had their rpm.
    return Cell(minute, capacity + rpm - rpm_there, filled, sent, failed)


@dataclass(frozen=True)
class Ahead:
    """A window to come that already holds something."""

    queue: str
    starts_at: datetime
    filled: int
    peak: int
    capacity: int


def windows_ahead(queues: Sequence[models.Queue], *, at: datetime, count: int = 12) -> list[Ahead]:
    """The next windows behind the one that fills which hold something, the earliest first."""
    first = clock.open_window_start(at) + clock.QUARTER
    found: list[Ahead] = []
    for queue in queues:
        begin = keys.window_id(queue.pk, first)
        rows = (
            models.Bucket.objects.filter(
                window_id__gte=begin, window_id__lt=(queue.pk + 1) << 22, filled_count__gt=0
            )
            .order_by("pk")
            .values_list("window_id", "filled_count", "capacity")[: count * clock.BUCKETS]
        )
        sums: dict[int, list[int]] = {}
        for window, filled, capacity in rows:
            row = sums.setdefault(window, [0, 0, capacity])
            row[0], row[1] = row[0] + filled, max(row[1], filled)
        found += [Ahead(queue.name, keys.starts_at_of_window(window), *row) for window, row in sums.items()]
    return sorted(found, key=lambda ahead: (ahead.starts_at, ahead.queue))[:count]


def sums_by_queue(
    queues: Sequence[models.Queue], *, begin: datetime, end: datetime
) -> list[tuple[str, dict]]:
    """A day as numbers: what each queue planned and what became of it."""
    names = ("filled", "started", "succeeded", "failed", "expired", "cancelled", "moved")
    found = []
    for queue in queues:
        first, last = (keys.bucket_at(queue.pk, at) for at in (begin, end))
        rows = models.Bucket.objects.filter(pk__gte=first, pk__lt=last)
        found.append(
            (queue.name, rows.aggregate(**{name: Sum(f"{name}_count", default=0) for name in names}))
        )
    return found
