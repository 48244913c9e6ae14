"""The original plan of windows and minutes, from the log of reservations, whatever has moved since."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db.models import (
    Aggregate,
    BigIntegerField,
    Count,
    F,
    IntegerField,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Abs, Cast

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import Group, ReservationKind, Status

FINISHED = [
    status.counter
    for status in Status
    if Group.UNFINISHED not in status.groups and status != Status.CANCELLED
]
FINISHED_SUMS = [f"all_{name}" for name in FINISHED]
# The requests of a task with more IDs take too long to count.
FAILURES_COUNTED = 500_000


@dataclass(frozen=True)
class Planning:
    """IDs of a minute, a window, a task, or of several together.

    first_planned: by lists, when they were placed. What is there is that, less what was cancelled and moved out, and
    what moved in. requests_made: an ID that was retried counts once for each; None where it is not known.
    """

    first_planned: int = 0
    cancelled: int = 0
    moved_in: int = 0
    moved_out: int = 0
    requests_made: int | None = 0
    finished: int = 0

    @property
    def now(self) -> int:
        """Return how many IDs have a place there now."""
        return self.first_planned - self.cancelled + self.moved_in - self.moved_out

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Return the numbers with the names that every page uses."""
        return [
            (name.replace("_", " "), value) for name in NAMES if (value := getattr(self, name)) is not None
        ]

    @property
    def values(self) -> list[int | None]:
        """Return the numbers in the order of NAMES, for a file."""
        return [getattr(self, name) for name in NAMES]


# The one order and the one set of names, for pages and files.
NAMES = tuple(field.name for field in fields(Planning))
_KINDS = {
    ReservationKind.RESERVE: "first_planned",
    ReservationKind.CANCEL: "cancelled",
    ReservationKind.MOVE_IN: "moved_in",
    ReservationKind.MOVE_OUT: "moved_out",
}
Sums = dict[str, int]


def total(parts: Iterable[Planning]) -> Planning:
    """Return the sums of several."""
    every = list(parts)
    return Planning(**{name: sum(getattr(part, name) or 0 for part in every) for name in NAMES})


def of_windows(queues: Sequence[models.Queue], *, begin: datetime, end: datetime) -> dict[datetime, Planning]:
    """Return what was planned, by the time at which windows run, from `begin` until `end`. Two queries."""
    windows = models.Window.objects.filter(
        queue__in=[queue.pk for queue in queues],
        starts_at__gte=begin - clock.QUARTER,
        starts_at__lt=end - clock.QUARTER,
    )
    by_time: dict[datetime, list[Planning]] = defaultdict(list)
    for window_id, planning in by_window(windows).items():
        by_time[clock.runs_at(keys.starts_at_of_window(window_id))].append(planning)
    return {runs_at: total(parts) for runs_at, parts in by_time.items()}


def by_window(windows: QuerySet[models.Window] | Sequence[int]) -> dict[int, Planning]:
    """Return what was planned, by window. Two queries."""
    sums: dict[int, Sums] = defaultdict(lambda: defaultdict(int))
    lines = models.Reservation.objects.filter(window__in=windows).order_by()
    for row in lines.values("window_id", "kind").annotate(ids=Sum("ids_count")):
        sums[row["window_id"]][_KINDS[ReservationKind(row["kind"])]] += row["ids"]
    buckets = models.Bucket.objects.filter(window__in=windows).order_by().values("window_id")
    counted = buckets.annotate(
        started=Sum("started_count"), **{f"all_{name}": Sum(name) for name in FINISHED}
    )
    for window_id, started, *finished in counted.values_list("window_id", "started", *FINISHED_SUMS):
        sums[window_id]["requests_made"] += started
        sums[window_id]["finished"] += sum(finished)
    return {window_id: Planning(**counts) for window_id, counts in sums.items()}


def by_minute(
    window_ids: Sequence[int], indexes: Sequence[int] = range(clock.BUCKETS)
) -> dict[int, Planning]:
    """Return what was planned in minutes of windows, by bucket. Two queries.

    indexes: of the minutes, 0 to 14.
    """
    sums: dict[int, Sums] = defaultdict(lambda: defaultdict(int))
    lines = models.Reservation.objects.filter(window__in=window_ids).order_by().values("window_id", "kind")
    places = {f"in_{k}": Sum(Abs(Cast(F(f"deltas__{k}"), IntegerField()))) for k in indexes}
    for window_id, kind, *counts in lines.annotate(**places).values_list("window_id", "kind", *places):
        for k, count in zip(indexes, counts, strict=True):
            sums[keys.buckets_of_window(window_id)[k]][_KINDS[ReservationKind(kind)]] += count or 0
    for bucket in models.Bucket.objects.filter(
        pk__in=[keys.buckets_of_window(window_id)[k] for window_id in window_ids for k in indexes]
    ):
        sums[bucket.pk]["requests_made"] = bucket.started_count
        sums[bucket.pk]["finished"] = sum(getattr(bucket, name) for name in FINISHED)
    return {bucket_id: Planning(**counts) for bucket_id, counts in sums.items()}


def of_task(task: models.Task) -> Planning:
    """Return what was planned of a task. One query.

    An ID that leaves its minute moves out of it and into another, and counts in both.
    """
    of_task = Value(task.pk, BigIntegerField())
    lines = models.Reservation.objects.filter(task_id=of_task, kind=ReservationKind.RESERVE)
    minutes = models.TaskBucket.objects.filter(task=of_task)
    # The response of a success is stored if it was unusual; that isn't another request.
    attempts = models.Attempt.objects.filter(task_id=of_task)
    failed = attempts.exclude(http_status__range=(200, 299), unknown=False)
    placed, moved, requests = models.Task.objects.filter(pk=task.pk).values_list(
        _summed(lines, Sum("ids_count")),
        _summed(minutes, Sum("moved_count")),
        _summed(failed, Count("pk")) if task.failed_count <= FAILURES_COUNTED else Value(None),
    )[0]
    started = task.succeeded_count + task.in_flight_count
    return Planning(
        first_planned=placed or 0,
        cancelled=task.cancelled_count,
        moved_in=moved or 0,
        moved_out=moved or 0,
        requests_made=None if task.failed_count > FAILURES_COUNTED else started + (requests or 0),
        finished=sum(getattr(task, name) for name in FINISHED),
    )


def _summed(rows: QuerySet[Any], aggregate: Aggregate) -> Subquery:
    """One number over rows, as a column."""
    return Subquery(rows.order_by().annotate(one=Value(1)).values("one").annotate(n=aggregate).values("n"))
