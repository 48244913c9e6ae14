"""What the board shows, read by one statement whose cost does not grow with the IDs that there are.

A board polls each second, for every operator who looks. So its rows are read as they are, told from the last
ones by a fingerprint, and made into objects only where they differ.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from django.conf import settings
from django.db import connection

from . import clock, keys, models

TASKS_SHOWN = 10
# A cluster that was not seen for so long is said to be gone.
SILENT = timedelta(seconds=30)
# The quarter-hour processing fires up to 30 s late, and takes some seconds.
QUARTER_LATE = timedelta(minutes=3)

# One statement, since each costs a round trip. Columns: kind, ten numbers, two texts, three times.
# A window that runs and the one that fills are neighbours by key, so 30 buckets of a queue are one range.
# The first SELECT names the types: PostgreSQL takes those of a bare NULL from it.
_SQL = """
SELECT 'queue', q.id, q.rpm, q.brake_per_minute, q.version,
       CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT),
       CAST(NULL AS BIGINT),
       CAST(NULL AS BIGINT), q.name, q.overflow, q.paused_at, CAST(NULL AS TIMESTAMPTZ),
       CAST(NULL AS TIMESTAMPTZ)
  FROM scheduling_queue q
UNION ALL
SELECT 'minute', b.id - ((q.id * 4194304 + %(running)s) * 16), SUM(b.capacity), SUM(q.rpm),
       SUM(b.waiting_count),
       SUM(b.in_flight_count), SUM(b.succeeded_count), SUM(b.failed_count), SUM(b.expired_count),
       SUM(b.cancelled_count), SUM(b.moved_count), '', '', NULL, NULL, NULL
  FROM scheduling_queue q JOIN scheduling_bucket b
    ON b.id >= (q.id * 4194304 + %(running)s) * 16 AND b.id < (q.id * 4194304 + %(running)s + 2) * 16
 WHERE q.name = %(queue)s OR %(queue)s = ''
 GROUP BY b.id - ((q.id * 4194304 + %(running)s) * 16)
UNION ALL
SELECT 'late', q.id, SUM(b.waiting_count), MIN(b.id), NULL, NULL, NULL, NULL, NULL, NULL, NULL, q.name,
       '', NULL, NULL, NULL
  FROM scheduling_queue q JOIN scheduling_bucket b
    ON b.waiting_count > 0 AND b.id >= q.id * 67108864
   AND b.id < ((q.id * 4194304 + %(running)s) * 16 + %(current_k)s)
 WHERE q.name = %(queue)s OR %(queue)s = ''
 GROUP BY q.id, q.name
UNION ALL
SELECT 'task', t.id, t.queue_id, t.ids_count, t.waiting_count, t.in_flight_count, t.succeeded_count,
       t.failed_count,
       t.expired_count, NULL, NULL, t.name, t.created_by, t.first_minute_at, t.last_minute_at, t.placed_at
  FROM scheduling_task t
 WHERE t.id IN (SELECT u.id FROM scheduling_task u
                 WHERE u.finished_at IS NULL AND u.cancelled_at IS NULL
                   AND (%(queue)s = '' OR u.queue_id =
                        (SELECT id FROM scheduling_queue WHERE name = %(queue)s))
                 ORDER BY u.id DESC LIMIT %(tasks)s)
UNION ALL
SELECT 'tasks', COUNT(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', NULL, NULL, NULL
  FROM (SELECT 1 FROM scheduling_task u
         WHERE u.finished_at IS NULL AND u.cancelled_at IS NULL
           AND (%(queue)s = '' OR u.queue_id = (SELECT id FROM scheduling_queue WHERE name = %(queue)s))
         LIMIT %(tasks_counted)s) counted
UNION ALL
SELECT 'heartbeat', COUNT(*), SUM(h.workers), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, h.cluster, '',
       MAX(h.seen_at), NULL, NULL
  FROM scheduling_heartbeat h WHERE h.seen_at > %(a_day_ago)s GROUP BY h.cluster
UNION ALL
SELECT 'quarter', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '',
       MAX(r.quarter_at), MAX(r.ran_at), NULL
  FROM scheduling_quarterrun r
UNION ALL
SELECT 'started', m.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', m.started_at,
       NULL, NULL
  FROM scheduling_minute m
 WHERE m.id = (SELECT MAX(n.id) FROM scheduling_minute n WHERE n.id <= %(minute)s
    AND n.started_at IS NOT NULL)
UNION ALL
SELECT 'jobs', COUNT(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', MIN(j.lock),
       NULL, NULL
  FROM django_q_ormq j WHERE j.lock < %(at)s
UNION ALL
SELECT 'target', g.id, g.failures_count, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, g.origin,
       g.held_because,
       g.opened_at, g.held_until, g.probe_at
  FROM scheduling_target g WHERE g.opened_at IS NOT NULL OR g.held_until > %(at)s
"""
TASKS_COUNTED = 1000


class Tab(NamedTuple):
    """A queue as the board's tabs name it."""

    id: int
    name: str
    rpm: int
    paused_at: datetime | None
    brake_per_minute: int | None
    overflow: str


@dataclass(frozen=True)
class Minute:
    """One minute of a window, over the queues that are shown: counts of IDs. Moved ones have left."""

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

    def _sum(self, name: str) -> int:
        return sum(getattr(minute, name) for minute in self.minutes)

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

    @cached_property
    def filled(self) -> int:
        return self._sum("filled")

    @cached_property
    def sent(self) -> int:
        return self._sum("succeeded") + self._sum("failed")

    @cached_property
    def failed(self) -> int:
        return self._sum("failed")

    @cached_property
    def waiting(self) -> int:
        return self._sum("waiting")

    @cached_property
    def in_flight(self) -> int:
        return self._sum("in_flight")

    @cached_property
    def moved(self) -> int:
        return self._sum("moved")

    @cached_property
    def peak(self) -> Minute:
        """The fullest minute: by what is past its capacity, then by what it holds."""
        return max(self.minutes, key=lambda minute: (minute.over, minute.filled))

    @cached_property
    def over(self) -> int:
        """IDs past capacity, all minutes together."""
        return self._sum("over")

    @cached_property
    def last_at(self) -> datetime | None:
        """End of the last minute that still has something to do; None when all is done."""
        busy = [minute.minute for minute in self.minutes if minute.waiting or minute.in_flight]
        return busy[-1] + clock.MINUTE if busy else None


@dataclass(frozen=True)
class TaskLine:
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


class Late(NamedTuple):
    """What stayed behind in a queue: how many IDs, and since which minute."""

    queue: str
    count: int
    since: datetime
    is_paused: bool


class Target(NamedTuple):
    """Where requests are held: a breaker that is open, or a target that asked to be left in peace."""

    id: int
    origin: str
    failures: int
    because: str
    opened_at: datetime | None
    held_until: datetime | None


class ClusterSign(NamedTuple):
    """A cluster's signs of life: how many processes, their workers, the latest sign."""

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
        return tuple(sign for sign in self.clusters if self.at - sign.seen_at > SILENT)

    @property
    def alive(self) -> tuple[ClusterSign, ...]:
        return tuple(sign for sign in self.clusters if self.at - sign.seen_at <= SILENT)

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
    def beat_age(self) -> float | None:
        return None if self.beat_at is None else max(0.0, (self.at - self.beat_at).total_seconds())

    @property
    def quarter_is_late(self) -> bool:
        due = clock.quarter_start(self.at)
        return self.quarter_at is not None and self.quarter_at < due and self.at - due > QUARTER_LATE

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
    queues: tuple[Tab, ...]
    running: Card
    filling: Card
    tasks: tuple[TaskLine, ...]
    tasks_count: int
    late: tuple[Late, ...]
    targets: tuple[Target, ...]
    health: Health
    version: str = field(default="")

    @property
    def tab(self) -> Tab | None:
        return next((tab for tab in self.queues if tab.name == self.queue), None)

    @property
    def is_empty(self) -> bool:
        return not (self.running.filled or self.filling.filled or self.tasks)

    @property
    def late_count(self) -> int:
        return sum(late.count for late in self.late)


@dataclass(frozen=True)
class Snapshot:
    """The board's rows at one moment. Cheap to compare, by `version`; `board()` makes objects of them."""

    at: datetime
    queue: str
    rows: tuple[tuple, ...]

    @cached_property
    def version(self) -> str:
        """Differs when the board would look different. Ages tick in the browser, so they don't count."""
        said = [row if row[0] not in ("heartbeat", "jobs") else self._coarse(row) for row in self.rows]
        basis = repr((self.queue, clock.minute_start(self.at), said))
        return hashlib.blake2b(basis.encode(), digest_size=9).hexdigest()

    def _coarse(self, row: tuple) -> tuple:
        if row[0] == "jobs":
            # A few jobs come and go all the time.
            return ("jobs", row[1] // 10)
        seen_at = as_time(row[13])
        return (row[0], row[1], row[2], row[11], seen_at.timestamp() // 10, self.at - seen_at > SILENT)

    def of(self, kind: str) -> list[tuple]:
        return [row for row in self.rows if row[0] == kind]

    def board(self) -> Board:
        tabs = tuple(
            Tab(row[1], row[11], row[2], as_time(row[13]), row[3], row[12]) for row in self.of("queue")
        )
        names = {tab.id: tab.name for tab in tabs}
        paused = {tab.name for tab in tabs if tab.paused_at}
        shown = [tab for tab in tabs if self.queue in ("", tab.name)]
        running = clock.running_window_start(self.at)
        return Board(
            at=self.at,
            queue=self.queue,
            queues=tuple(sorted(tabs, key=lambda tab: (tab.name != "default", tab.name))),
            running=Card(running, self._minutes(running, 0, shown)),
            filling=Card(running + clock.QUARTER, self._minutes(running + clock.QUARTER, 16, shown)),
            tasks=self._tasks(names),
            tasks_count=self.of("tasks")[0][1],
            late=tuple(
                Late(row[11], row[2], keys.minute_of_bucket(row[3]), row[11] in paused)
                for row in self.of("late")
            ),
            targets=tuple(
                Target(row[1], row[11], row[2], row[12], as_time(row[13]), as_time(row[14]))
                for row in self.of("target")
            ),
            health=self._health(),
            version=self.version,
        )

    def _minutes(self, starts_at: datetime, offset: int, shown: Sequence[Tab]) -> tuple[Minute, ...]:
        rpm = sum(tab.rpm for tab in shown)
        found = {row[1] - offset: row[2:11] for row in self.of("minute")}
        minutes = []
        for k, minute in enumerate(clock.minutes(starts_at)):
            capacity, rpm_there, *counts = found.get(k, (0,) * 9)
            # Queues whose window has no row yet would have their rpm.
            minutes.append(Minute(minute, capacity + rpm - rpm_there, *counts))
        return tuple(minutes)

    def _tasks(self, names: dict[int, str]) -> tuple[TaskLine, ...]:
        return tuple(
            TaskLine(
                row[1], row[11], names.get(row[2], ""), row[12], *row[3:9],
                as_time(row[13]), as_time(row[14]), as_time(row[15]), self.at,
            )
            for row in sorted(self.of("task"), key=lambda row: -row[1])
        )  # fmt: skip

    def _health(self) -> Health:
        quarter = self.of("quarter")[0]
        started = (self.of("started") or [(None,) * 16])[0]
        jobs = self.of("jobs")[0]
        return Health(
            at=self.at,
            clusters=tuple(
                sorted(ClusterSign(row[11], row[1], row[2], as_time(row[13])) for row in self.of("heartbeat"))
            ),
            quarter_at=as_time(quarter[13]),
            quarter_ran_at=as_time(quarter[14]),
            minute_at=clock.EPOCH + started[1] * clock.MINUTE if started[1] is not None else None,
            minute_started_at=as_time(started[13]),
            jobs_waiting=jobs[1],
            oldest_job_at=as_time(jobs[13]),
        )


def as_time(value: datetime | str | None) -> datetime | None:
    """A time as the database gave it: SQLite keeps text, in UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
        first = keys.window_id(queue.pk, starts_at) << 4
        cards[queue.pk] = Card(
            starts_at,
            tuple(
                Minute(minute, *known.get(first | k, (queue.rpm,)))
                for k, minute in enumerate(clock.minutes(starts_at))
            ),
        )
    return cards


def _plain(row: tuple) -> tuple:
    """PostgreSQL adds whole numbers up to decimals."""
    return tuple(int(value) if isinstance(value, Decimal) else value for value in row)


def snapshot(queue: str = "", *, at: datetime) -> Snapshot:
    """Read the board of a queue, or of all by the empty name, at `at` (aware, UTC). One query."""
    running = clock.running_window_start(at)
    quarters = (running - clock.EPOCH) // clock.QUARTER
    to_database = connection.ops.adapt_datetimefield_value
    with connection.cursor() as cursor:
        cursor.execute(
            _SQL,
            {
                "queue": queue,
                "running": quarters,
                "current_k": (clock.minute_start(at) - clock.runs_at(running)) // clock.MINUTE,
                "minute": (clock.minute_start(at) - clock.EPOCH) // clock.MINUTE,
                "tasks": TASKS_SHOWN,
                "tasks_counted": TASKS_COUNTED,
                "at": to_database(at),
                "a_day_ago": to_database(at - timedelta(days=1)),
            },
        )
        return Snapshot(at, queue, tuple(map(_plain, cursor.fetchall())))
