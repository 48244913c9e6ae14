"""Windows and what runs beside them, as the pages read them: frozen, with what one sentence says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from django.conf import settings

from scheduling import models
from scheduling.core import clock, keys, limits

# The board says of clusters and quarters what /healthz/ready says, at the same moment.


class QueueTab(NamedTuple):
    """A queue as the board's tabs name it."""

    id: int
    name: str
    rpm: int
    paused_at: datetime | None
    brake_per_minute: int | None
    webhook_url: str


class Minute(NamedTuple):
    """One minute of a window, over the queues that are shown: counts of IDs. Moved ones have left.

    A tuple, since a board makes thirty of them each second for everybody who looks.
    """

    minute: datetime
    capacity: int
    waiting: int = 0
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    moved: int = 0

    @property
    def filled(self) -> int:
        return self.waiting + self.in_flight + self.succeeded + self.failed + self.expired

    @property
    def over(self) -> int:
        return max(0, self.filled - self.capacity)


@dataclass(frozen=True)
class Card:
    """One window: 15 minutes, and what one sentence says of them."""

    starts_at: datetime
    minutes: tuple[Minute, ...]

    @cached_property
    def sums(self) -> Minute:
        """All its minutes together."""
        _, *counts = zip(*self.minutes, strict=True)
        return Minute(self.minutes[0].minute, *map(sum, counts))

    @property
    def runs_at(self) -> datetime:
        return clock.runs_at(self.starts_at)

    @property
    def ends_at(self) -> datetime:
        return self.runs_at + clock.QUARTER

    @property
    def closes_at(self) -> datetime:
        """When it closes for a short list."""
        return clock.ends_at(self.starts_at) - clock.CLOSING

    @property
    def filled(self) -> int:
        return self.sums.filled

    @property
    def sent(self) -> int:
        return self.sums.succeeded + self.sums.failed

    @property
    def failed(self) -> int:
        return self.sums.failed

    @property
    def waiting(self) -> int:
        return self.sums.waiting

    @property
    def in_flight(self) -> int:
        return self.sums.in_flight

    @property
    def moved(self) -> int:
        return self.sums.moved

    def late(self, at: datetime) -> int:
        """IDs that wait although their minute is over."""
        current = clock.minute_start(at)
        return sum(minute.waiting for minute in self.minutes if minute.minute < current)

    @cached_property
    def peak(self) -> Minute:
        """The fullest minute: by what is past its capacity, then by what it holds."""
        return max(self.minutes, key=lambda minute: (minute.over, minute.filled))

    @cached_property
    def over(self) -> int:
        """IDs past capacity, all minutes together."""
        return sum(minute.over for minute in self.minutes)

    @cached_property
    def last_at(self) -> datetime | None:
        """End of the last minute that still has something to do; None when all is done."""
        busy = [minute.minute for minute in self.minutes if minute.waiting or minute.in_flight]
        return busy[-1] + clock.MINUTE if busy else None


class TaskLine(NamedTuple):
    """A task in progress."""

    id: int
    name: str
    queue: str
    by: str
    ids: int
    waiting: int
    in_flight: int
    succeeded: int
    failed: int
    expired: int
    first_at: datetime
    last_at: datetime
    placed_at: datetime | None
    at: datetime

    @property
    def pk(self) -> int:
        return self.id

    @property
    def sent(self) -> int:
        return self.succeeded + self.failed

    @property
    def done_at(self) -> datetime:
        """End of its last minute."""
        return self.last_at + clock.MINUTE

    @property
    def is_late(self) -> bool:
        return self.waiting > 0 and self.done_at < self.at


class LateIds(NamedTuple):
    """What stayed behind in a queue: how many IDs, and since which minute."""

    queue: str
    count: int
    since: datetime
    is_paused: bool


class BlockedTarget(NamedTuple):
    """A target to which requests are blocked: by its open circuit breaker, or by its own Retry-After.

    queues: the names of those that send there.
    """

    id: int
    origin: str
    failures: int
    reason: str
    opened_at: datetime | None
    blocked_until: datetime | None
    queues: tuple[str, ...] = ()


class ClusterSign(NamedTuple):
    """A cluster's signs of life: how many processes, their workers, the latest sign.

    Those that live and those that are silent are two of these.
    """

    name: str
    processes: int
    workers: int
    seen_at: datetime


@dataclass(frozen=True)
class Health:
    """What the clusters do, at `at`."""

    at: datetime
    clusters: tuple[ClusterSign, ...] = ()
    quarter_at: datetime | None = None
    quarter_ran_at: datetime | None = None
    minute_at: datetime | None = None
    minute_started_at: datetime | None = None
    jobs_waiting: int = 0
    oldest_job_at: datetime | None = None

    @property
    def silent(self) -> tuple[ClusterSign, ...]:
        """Clusters that were there within the day and give no sign now."""
        return tuple(sign for sign in self.clusters if self.at - sign.seen_at > limits.SILENT_AFTER)

    @property
    def alive(self) -> tuple[ClusterSign, ...]:
        return tuple(sign for sign in self.clusters if self.at - sign.seen_at <= limits.SILENT_AFTER)

    @property
    def missing(self) -> tuple[str, ...]:
        """Clusters that work needs and of which there is no sign."""
        seen = {sign.name for sign in self.alive}
        return tuple(
            name for name in (settings.Q_CLUSTER["name"], settings.MINUTES_CLUSTER) if name not in seen
        )

    @property
    def workers(self) -> int:
        return sum(sign.workers for sign in self.alive)

    @property
    def beat_at(self) -> datetime | None:
        """The latest sign of the cluster that was silent longest."""
        return min((sign.seen_at for sign in self.alive), default=None)

    @property
    def quarter_is_late(self) -> bool:
        due = clock.quarter_start(self.at)
        return self.at - due > limits.QUARTER_LATE and (self.quarter_at is None or self.quarter_at < due)

    @property
    def minute_lag(self) -> float | None:
        """Seconds from the last minute's beginning to its first act."""
        if self.minute_at is None or self.minute_started_at is None:
            return None
        return (self.minute_started_at - self.minute_at).total_seconds()


@dataclass(frozen=True)
class Board:
    """Everything that moves on the board."""

    at: datetime
    queue: str
    queues: tuple[QueueTab, ...]
    running: Card
    filling: Card
    tasks: tuple[TaskLine, ...]
    tasks_count: int
    late: tuple[LateIds, ...]
    targets: tuple[BlockedTarget, ...]
    health: Health
    version: str = field(default="")

    @property
    def tab(self) -> QueueTab | None:
        return next((tab for tab in self.queues if tab.name == self.queue), None)

    @property
    def is_empty(self) -> bool:
        return not (self.running.filled or self.filling.filled or self.tasks)

    @property
    def late_count(self) -> int:
        return sum(late.count for late in self.late)


def filling_cards(queues: Sequence[models.Queue], *, at: datetime) -> dict[int, Card]:
    """The window that fills of each queue, by the queue's number. One query."""
    starts_at = clock.open_window_start(at)
    kinds = ("waiting", "in_flight", "succeeded", "failed", "expired", "cancelled", "moved")
    rows = models.Bucket.objects.filter(window__starts_at=starts_at, window__queue__in=[q.pk for q in queues])
    known = {
        row[0]: row[1:] for row in rows.values_list("pk", "capacity", *(f"{kind}_count" for kind in kinds))
    }
    cards = {}
    for queue in queues:
        buckets = keys.buckets_of_window(keys.window_id(queue.pk, starts_at))
        cards[queue.pk] = Card(
            starts_at,
            tuple(
                Minute(minute, *known.get(bucket, (queue.rpm,)))
                for bucket, minute in zip(buckets, clock.minutes(starts_at), strict=True)
            ),
        )
    return cards
