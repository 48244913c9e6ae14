"""What the board shows, read by one statement whose cost does not grow with the IDs that there are.

A board polls each second, for every operator who looks. So its rows are read as they are, told from the last
ones by a fingerprint, and made into objects only where they differ.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

from django.db import connection

from scheduling import store
from scheduling.core import clock, keys, limits, stopping
from scheduling.dispatch import reach
from scheduling.handlers import ssrf
from scheduling.models import Group, Status
from scheduling.reports.cards import (
    BlockedTarget,
    Board,
    Card,
    LateIds,
    Minute,
    QueueTab,
    TaskLine,
    Undelivered,
    WatchedTask,
)
from scheduling.reports.health import ClusterHealth, Health, Sign, disks, is_silent
from scheduling.reports.hosts import HostReport, Unreached

TASKS_SHOWN = 10
# A row of the one statement: its kind, and columns whose meaning follows from the kind.
Row = tuple[Any, ...]

_FIRST_BUCKET = keys.sql_first_bucket("q.id", "%(running)s")
_END = f"{_FIRST_BUCKET} + {2 * keys.BUCKETS_STEP}"
_FIRST_OF_QUEUE = keys.sql_first_bucket("q.id", "0")


def _counters(form: str) -> str:
    """The counters of IDs that have a place, in the order of cards.Minute."""
    return ", ".join(form.format(status.counter) for status in Status.of(Group.PLACED))


_OF_A_QUEUE = f"""
SELECT 'minute', b.id - {_FIRST_BUCKET}, b.capacity, q.rpm, {_counters("b.{}")}, b.cancelled_count,
       b.moved_count, '', '', NULL, NULL, NULL
  FROM scheduling_queue q JOIN scheduling_bucket b ON b.id >= {_FIRST_BUCKET} AND b.id < {_END}
 WHERE q.name = %(queue)s
"""
# Adding up takes twice as long, so that one queue, which most look at, goes without.
_OF_ALL = f"""
SELECT 'minute', b.id - {_FIRST_BUCKET}, SUM(b.capacity), SUM(q.rpm), {_counters("SUM(b.{})")},
       SUM(b.cancelled_count), SUM(b.moved_count), '', '', NULL, NULL, NULL
  FROM scheduling_queue q JOIN scheduling_bucket b ON b.id >= {_FIRST_BUCKET} AND b.id < {_END}
 GROUP BY b.id - {_FIRST_BUCKET}
"""

# The board's numbers are whole ones: a percentage is given in these.
_MILLIONTHS = 1_000_000

# One statement, since each costs a round trip. Columns: kind, ten numbers, two texts, three times.
# A window that runs and the one that fills are neighbours by key, so 30 buckets of a queue are one range.
# The first SELECT names the types: PostgreSQL takes those of a bare NULL from it.
_SQL = """
SELECT 'queue', q.id, q.rpm, q.brake_per_minute, q.version,
       CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT),
       CAST(NULL AS BIGINT),
       CAST(NULL AS BIGINT), q.name, CASE WHEN q.handler = 'webhook' THEN q.webhook_url ELSE '' END,
       q.paused_at, CAST(NULL AS TIMESTAMPTZ), CAST(NULL AS TIMESTAMPTZ)
  FROM scheduling_queue q
UNION ALL
{minutes}
UNION ALL
SELECT 'late', q.id, SUM(b.waiting_count), MIN(COALESCE(b.late_since_bucket_id, b.id)),
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, q.name,
       '', NULL, NULL, NULL
  FROM scheduling_queue q JOIN scheduling_bucket b
    ON b.waiting_count > 0 AND b.id >= {first_of_queue}
   AND b.id < {first_bucket} + %(current_minute)s
 GROUP BY q.id, q.name
UNION ALL
SELECT 'task', t.id, t.queue_id, t.ids_count, {task_counters},
       CASE WHEN t.held_at IS NULL AND t.canary_state = 'running'
            THEN CAST(ROUND(t.canary_percent * {millionths}) AS BIGINT) END,
       CASE WHEN t.held_at IS NULL THEN t.canary_count ELSE -1 END, t.name, t.created_by,
       t.first_minute_at, t.last_minute_at, t.placed_at
  FROM scheduling_task t
 WHERE t.id IN (SELECT c.id
                  FROM (SELECT u.id, u.last_minute_at FROM scheduling_task u
                         WHERE u.finished_at IS NULL AND u.cancelled_at IS NULL
                           AND (%(queue)s = '' OR u.queue_id =
                                (SELECT id FROM scheduling_queue WHERE name = %(queue)s))
                         ORDER BY u.id LIMIT %(tasks_counted)s) c
                 ORDER BY c.last_minute_at, c.id LIMIT %(tasks)s)
UNION ALL
SELECT 'tasks', COUNT(*), (SELECT COUNT(*) FROM (SELECT 1 FROM scheduling_task LIMIT 1) some_task),
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', NULL, NULL, NULL
  FROM (SELECT 1 FROM scheduling_task u
         WHERE u.finished_at IS NULL AND u.cancelled_at IS NULL
           AND (%(queue)s = '' OR u.queue_id = (SELECT id FROM scheduling_queue WHERE name = %(queue)s))
         LIMIT %(tasks_counted)s) counted
UNION ALL
SELECT 'reason', q.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, q.pause_reason, q.brake_reason,
       NULL, NULL, NULL
  FROM scheduling_queue q WHERE q.pause_reason <> '' OR q.brake_reason <> ''
UNION ALL
SELECT 'watched', w.id, w.queue_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, w.name, w.hold_reason,
       w.held_at, w.deadline_at, w.last_minute_at
  FROM (SELECT u.* FROM scheduling_task u
         WHERE u.finished_at IS NULL AND u.cancelled_at IS NULL
           AND (u.held_at IS NOT NULL OR u.deadline_at IS NOT NULL)
           AND (u.held_at IS NOT NULL OR u.deadline_at < %(at)s
                OR u.last_minute_at > {a_minute_before_deadline})
         ORDER BY u.id LIMIT %(watched)s) w
UNION ALL
SELECT 'heartbeat', COUNT(*), SUM(h.workers), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, h.cluster, '',
       MAX(h.seen_at), MIN(h.seen_at), NULL
  FROM scheduling_heartbeat h WHERE h.seen_at > %(a_day_ago)s
 GROUP BY h.cluster, CASE WHEN h.seen_at < %(silent_since)s THEN 1 ELSE 0 END
UNION ALL
SELECT 'host', h.clock_offset_ms, h.round_trip_ms, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, h.cluster, h.host,
       h.foreign_job_at, h.seen_at, NULL
  FROM scheduling_heartbeat h
 WHERE h.seen_at >= %(silent_since)s
UNION ALL
SELECT 'unreached', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, n.host, n.origin, n.seen_at, NULL, NULL
  FROM scheduling_unreachable n
 WHERE n.seen_at > %(tried_since)s
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
UNION ALL
SELECT 'blocked', q.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, q.name, q.block_reason,
       NULL, q.blocked_until, NULL
  FROM scheduling_queue q WHERE q.blocked_until > %(at)s
UNION ALL
SELECT 'undelivered', c.id, COUNT(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.name, MAX(d.error),
       NULL, NULL, NULL
  FROM scheduling_delivery d JOIN scheduling_channel c ON c.id = d.channel_id
 WHERE d.delivered_at IS NULL AND d.error <> '' AND d.attempted_at > %(a_day_ago)s
 GROUP BY c.id, c.name
"""
_MINUTE_BEFORE = {"sqlite": "datetime({}, '-1 minute')", "postgresql": "{} - INTERVAL '1 minute'"}
_SQL_OF_A_QUEUE, _SQL_OF_ALL = (
    _SQL.format(
        minutes=minutes,
        a_minute_before_deadline=_MINUTE_BEFORE[connection.vendor].format("u.deadline_at"),
        first_of_queue=_FIRST_OF_QUEUE,
        first_bucket=_FIRST_BUCKET,
        task_counters=_counters("t.{}"),
        millionths=_MILLIONTHS,
    )
    for minutes in (_OF_A_QUEUE, _OF_ALL)
)
TASKS_COUNTED = 1000
WATCHED = 100
JOBS_COUNTED = 20


@dataclass(frozen=True)
class Snapshot:
    """The board's rows at one moment. Cheap to compare, by `version`; `board()` makes objects of them."""

    at: datetime
    queue: str
    rows: tuple[Row, ...]

    @cached_property
    def version(self) -> str:
        """Differs when the board would look different. Ages tick in the browser, so they don't count."""
        rows = [row if row[0] not in ("heartbeat", "jobs") else self._coarse(row) for row in self.rows]
        # A quarter is late from one second on, without any row that changes.
        past_due = self.at - clock.quarter_start(self.at) > limits.QUARTER_LATE
        basis = repr((self.queue, clock.minute_start(self.at), past_due, rows))
        return hashlib.blake2b(basis.encode(), digest_size=9).hexdigest()

    def _coarse(self, row: Row) -> Row:
        if row[0] == "jobs":
            # If there are many, a few come and go all the time: only ten more are worth mentioning.
            return ("jobs", row[1] <= JOBS_COUNTED, row[1] if row[1] <= JOBS_COUNTED else row[1] // 10)
        seen_at = _known_time(row[13])
        return (row[0], row[1], row[2], row[11], seen_at.timestamp() // 10, is_silent(seen_at, self.at))

    def of(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row[0] == kind]

    def board(self) -> Board:
        reasons = {row[1]: row[11:13] for row in self.of("reason")}
        tabs = tuple(
            QueueTab(
                *(row[1], row[11], row[2], store.as_time(row[13]), row[3], row[12]),
                *reasons.get(row[1], ("", "")),
            )
            for row in self.of("queue")
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
            filling=Card(
                running + clock.QUARTER, self._minutes(running + clock.QUARTER, keys.BUCKETS_STEP, shown)
            ),
            tasks=self._tasks(names),
            tasks_count=self.of("tasks")[0][1],
            has_tasks=bool(self.of("tasks")[0][2]),
            late=tuple(
                LateIds(row[11], row[2], keys.minute_of_bucket(row[3]), row[11] in paused)
                for row in self.of("late")
            ),
            # A target that no queue sends to any more delays nothing, and nobody could release it.
            targets=tuple(
                BlockedTarget(
                    *(row[1], row[11], row[2], row[12]),
                    store.as_time(row[13]),
                    store.as_time(row[14]),
                    senders,
                )
                for row in self.of("target")
                if (senders := _senders(tabs, row[11]))
            )
            + tuple(
                BlockedTarget(
                    row[1], f"queue {row[11]}", 0, row[12], None, store.as_time(row[14]), (row[11],)
                )
                for row in self.of("blocked")
            ),
            undelivered=tuple(
                Undelivered(row[1], row[11], row[2], row[12]) for row in self.of("undelivered")
            ),
            watched=tuple(
                WatchedTask(
                    *(row[1], row[11], names.get(row[2], ""), row[12]),
                    store.as_time(row[13]),
                    store.as_time(row[14]),
                    _known_time(row[15]) + clock.MINUTE,
                )
                for row in self.of("watched")
            ),
            health=self._health(),
            version=self.version,
        )

    def _minutes(self, starts_at: datetime, offset: int, shown: Sequence[QueueTab]) -> tuple[Minute, ...]:
        rpm = sum(tab.rpm for tab in shown)
        rows = {row[1] - offset: row[2:11] for row in self.of("minute")}
        minutes = []
        for k, minute in enumerate(_times(starts_at)):
            capacity, rpm_there, *counts = rows.get(k, (0,) * 9)
            # Queues whose window has no row yet would have their rpm.
            minutes.append(Minute(minute, capacity + rpm - rpm_there, *counts))
        return tuple(minutes)

    def _tasks(self, names: dict[int, str]) -> tuple[TaskLine, ...]:
        return tuple(
            TaskLine(
                id=row[1],
                name=row[11],
                queue=names.get(row[2], ""),
                by=row[12],
                ids=row[3],
                waiting=row[4],
                in_flight=row[5],
                succeeded=row[6],
                failed=row[7],
                expired=row[8],
                first_at=_known_time(row[13]),
                last_at=_known_time(row[14]),
                placed_at=store.as_time(row[15]),
                is_on_hold=row[10] == -1,
                canary=_canary(row),
                at=self.at,
            )
            for row in sorted(self.of("task"), key=lambda row: (row[14], row[1]))
        )

    def _health(self) -> Health:
        quarter = self.of("quarter")[0]
        started = (self.of("started") or [(None,) * 16])[0]
        signs: dict[str, list[Sign]] = defaultdict(list)
        for row in self.of("heartbeat"):
            signs[row[11]].append(Sign(row[1], row[2], _known_time(row[13]), _known_time(row[14])))
        return Health(
            at=self.at,
            clusters=tuple(ClusterHealth.of(name, signs[name], self.at) for name in sorted(signs)),
            quarter_at=store.as_time(quarter[13]),
            quarter_ran_at=store.as_time(quarter[14]),
            minute_at=clock.minute_of(started[1]) if started[1] is not None else None,
            minute_started_at=store.as_time(started[13]),
            jobs_waiting=self.of("jobs")[0][1],
            disks=disks(),
            unreached=tuple(Unreached(row[11], row[12]) for row in self.of("unreached")),
            host_reports=tuple(
                HostReport(row[11], row[12], row[1], row[2], store.as_time(row[13]))
                for row in self.of("host")
            ),
        )


def _canary(row: Sequence[Any]) -> str:
    """How far the canary of a task's row is, in words; empty where none runs."""
    if row[9] is None:
        return ""
    count = row[10]
    return stopping.progress(min(row[6], count), count, stopping.needed(count, row[9] / _MILLIONTHS))


def _known_time(value: datetime | str) -> datetime:
    """A time of a column that is never empty, as the database gave it."""
    at = store.as_time(value)
    assert at is not None
    return at


def _senders(tabs: Sequence[QueueTab], origin: str) -> tuple[str, ...]:
    """The queues whose requests go to an origin."""
    return tuple(tab.name for tab in tabs if tab.webhook_url and _origin(tab.webhook_url) == origin)


def _origin(url: str) -> str:
    try:
        return ssrf.origin_of(url)
    except ValueError:
        # Kept from a time when the queue's handler was another one.
        return ""


# The same for a quarter of an hour, asked for each second.
_times = lru_cache(maxsize=64)(clock.minutes)


@lru_cache(maxsize=1024)
def _plain(row: Row) -> Row:
    """PostgreSQL adds whole numbers up to decimals."""
    return tuple(int(value) if isinstance(value, Decimal) else value for value in row)


def snapshot(queue: str = "", *, at: datetime) -> Snapshot:
    """Read the board of a queue, or of all by the empty name, at `at` (aware, UTC). One query."""
    running = clock.running_window_start(at)
    quarters = (running - clock.EPOCH) // clock.QUARTER
    to_database = connection.ops.adapt_datetimefield_value
    with connection.cursor() as cursor:
        cursor.execute(
            _SQL_OF_A_QUEUE if queue else _SQL_OF_ALL,
            {
                "queue": queue,
                "running": quarters,
                "current_minute": (clock.minute_start(at) - clock.runs_at(running)) // clock.MINUTE,
                "minute": clock.minute_number(clock.minute_start(at)),
                "tasks": TASKS_SHOWN,
                "tasks_counted": TASKS_COUNTED,
                "watched": WATCHED,
                "at": to_database(at),
                "a_day_ago": to_database(at - timedelta(days=1)),
                "silent_since": to_database(at - limits.SILENT_AFTER),
                "tried_since": to_database(at - reach.FORGET_AFTER),
            },
        )
        rows = cursor.fetchall()
    # Each poll passes here; SQLite's numbers are plain already.
    return Snapshot(at, queue, tuple(map(_plain, rows) if connection.vendor == "postgresql" else rows))
