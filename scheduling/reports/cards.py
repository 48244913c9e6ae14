"""The windows of the board and the pages, and the tasks, late IDs and targets beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from scheduling import models
from scheduling.core import clock, keys
from scheduling.placement import shapes
from scheduling.reports.health import Health


class QueueTab(NamedTuple):
    """A queue as the board's tabs name it."""

    id: int
    name: str
    rpm: int
    paused_at: datetime | None
    brake_per_minute: int | None
    webhook_url: str
    pause_reason: str = ""
    brake_reason: str = ""


class Minute(NamedTuple):
    """Counts of IDs in one minute of a window, over the queues that are shown. Moved IDs are no longer in it.

    A tuple, since the board makes thirty of them each second for everybody who looks.
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
    """One window: its 15 minutes and their sums."""

    starts_at: datetime
    minutes: tuple[Minute, ...]

    @cached_property
    def sums(self) -> Minute:
        """Return the sums over its minutes."""
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
        """Return when it closes for a short list."""
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
        """Return how many IDs wait although their minute is over."""
        current = clock.minute_start(at)
        return sum(minute.waiting for minute in self.minutes if minute.minute < current)

    @cached_property
    def peak(self) -> Minute:
        """Return the fullest minute: by the IDs above its capacity, then by all its IDs."""
        return max(self.minutes, key=lambda minute: (minute.over, minute.filled))

    @cached_property
    def over(self) -> int:
        """Return how many IDs are above the capacity of their minute."""
        return sum(minute.over for minute in self.minutes)

    @cached_property
    def last_at(self) -> datetime | None:
        """Return the end of the last minute with unfinished IDs; None if there is none."""
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
    is_on_hold: bool
    # How far its canary is, in words; empty where none runs.
    canary: str
    at: datetime

    @property
    def pk(self) -> int:
        return self.id

    @property
    def sent(self) -> int:
        return self.succeeded + self.failed

    @property
    def cancelled(self) -> int:
        """Return how many of its IDs will not be sent any more."""
        return self.ids - self.waiting - self.in_flight - self.sent - self.expired

    @property
    def done_at(self) -> datetime:
        """Return the end of its last minute."""
        return self.last_at + clock.MINUTE

    @property
    def is_late(self) -> bool:
        return self.waiting > 0 and self.done_at < self.at


class LateIds(NamedTuple):
    """The late IDs of a queue: how many, and since which minute."""

    queue: str
    ids: int
    since: datetime
    is_paused: bool


class BlockedTarget(NamedTuple):
    """A target to which requests are blocked, by its open circuit breaker or its own Retry-After.

    queues: the names of those that send to it. A queue whose credentials can't be used is one of its own.
    """

    id: int
    origin: str
    failures: int
    reason: str
    opened_at: datetime | None
    blocked_until: datetime | None
    queues: tuple[str, ...] = ()


class Undelivered(NamedTuple):
    """A channel to which messages could not be delivered within a day: how many, and why."""

    id: int
    channel: str
    messages: int
    error: str


class WatchedTask(NamedTuple):
    """A task that is on hold, or that will be done after its deadline."""

    id: int
    name: str
    queue: str
    hold_reason: str
    held_at: datetime | None
    deadline_at: datetime | None
    done_at: datetime


@dataclass(frozen=True)
class Board:
    """Everything on the board that changes."""

    at: datetime
    queue: str
    queues: tuple[QueueTab, ...]
    running: Card
    filling: Card
    tasks: tuple[TaskLine, ...]
    tasks_count: int
    # Whether there is any task, in progress or not, of any queue.
    has_tasks: bool
    late: tuple[LateIds, ...]
    targets: tuple[BlockedTarget, ...]
    undelivered: tuple[Undelivered, ...]
    watched: tuple[WatchedTask, ...]
    health: Health
    version: str = field(default="")

    @property
    def tab(self) -> QueueTab | None:
        return next((tab for tab in self.queues if tab.name == self.queue), None)

    def blocks(self, queue: str) -> bool:
        """Return whether requests of the queue are blocked by its target."""
        return any(queue in target.queues for target in self.targets)

    def has_list_on_hold(self, queue: str) -> bool:
        """Return whether a list of the queue is on hold; of any queue, without a name."""
        return any(task.held_at and queue in ("", task.queue) for task in self.watched)

    @property
    def is_new(self) -> bool:
        """Return whether this is an instance to which nobody has given a list yet."""
        return not self.has_tasks

    @property
    def late_count(self) -> int:
        return sum(late.ids for late in self.late)


def filling_cards(queues: Sequence[models.Queue], *, at: datetime) -> dict[int, Card]:
    """Return the open window of each queue, by the queue's id. One query."""
    starts_at = clock.open_window_start(at)
    counters = [f"{name}_count" for name in Minute._fields[2:]]
    rows = models.Bucket.objects.filter(window__starts_at=starts_at, window__queue__in=[q.pk for q in queues])
    counts = {row[0]: row[1:] for row in rows.values_list("pk", "capacity", *counters)}
    cards = {}
    for queue in queues:
        buckets = keys.buckets_of_window(keys.window_id(queue.pk, starts_at))
        cards[queue.pk] = Card(
            starts_at,
            tuple(
                Minute(minute, *(counts.get(bucket) or (shapes.capacity_at(queue, minute),)))
                for bucket, minute in zip(buckets, clock.minutes(starts_at), strict=True)
            ),
        )
    return cards
