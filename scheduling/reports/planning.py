"""What was planned for a window stays visible: from the log of reservations, whatever has moved since."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import Group, ReservationKind, Status

FINISHED = [
    status.counter
    for status in Status
    if Group.UNFINISHED not in status.groups and status != Status.CANCELLED
]
FINISHED_SUMS = [f"all_{name}" for name in FINISHED]


@dataclass(frozen=True)
class Planning:
    """IDs of one window, or of the same quarter-hour of several queues.

    first_planned: by lists, when they were placed. What is there is that, less what was cancelled and moved out, and
    what moved in. requests_made: an ID that was retried within the window counts once for each.
    """

    first_planned: int = 0
    cancelled: int = 0
    moved_in: int = 0
    moved_out: int = 0
    requests_made: int = 0
    finished: int = 0

    @property
    def now(self) -> int:
        """How many IDs have a place there now."""
        return self.first_planned - self.cancelled + self.moved_in - self.moved_out

    @property
    def rows(self) -> list[tuple[str, int]]:
        """By the names that every page uses."""
        return [
            ("first planned", self.first_planned),
            ("cancelled", self.cancelled),
            ("moved in", self.moved_in),
            ("moved out", self.moved_out),
            ("requests made", self.requests_made),
            ("finished", self.finished),
        ]


_NAMES = {
    ReservationKind.RESERVE: "first_planned",
    ReservationKind.CANCEL: "cancelled",
    ReservationKind.MOVE_IN: "moved_in",
    ReservationKind.MOVE_OUT: "moved_out",
}


def of_windows(queues: Sequence[models.Queue], *, begin: datetime, end: datetime) -> dict[datetime, Planning]:
    """Return what was planned, by the time at which windows run, from `begin` until `end`. Two queries."""
    windows = models.Window.objects.filter(
        queue__in=[queue.pk for queue in queues],
        starts_at__gte=begin - clock.QUARTER,
        starts_at__lt=end - clock.QUARTER,
    )
    sums: dict[datetime, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    lines = models.Reservation.objects.filter(window__in=windows).order_by()
    grouped = lines.values("window_id", "kind").annotate(ids=Sum("ids_count"))
    for row in grouped:
        sums[_runs_at(row["window_id"])][_NAMES[ReservationKind(row["kind"])]] += row["ids"]
    buckets = models.Bucket.objects.filter(window__in=windows).order_by().values("window_id")
    counted = buckets.annotate(
        started=Sum("started_count"), **{f"all_{name}": Sum(name) for name in FINISHED}
    )
    for window_id, started, *finished in counted.values_list("window_id", "started", *FINISHED_SUMS):
        at = sums[_runs_at(window_id)]
        at["requests_made"] += started
        at["finished"] += sum(finished)
    return {at: Planning(**counts) for at, counts in sums.items()}


def _runs_at(window_id: int) -> datetime:
    return clock.runs_at(keys.starts_at_of_window(window_id))
