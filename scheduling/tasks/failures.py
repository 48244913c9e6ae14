"""Failures, grouped by queue and response: for the page, and for "all that match".

Failures of cancelled tasks are not included, since those tasks are not sent any more.

Reading every failure costs as much as there are failures, so those of past minutes are counted once and the counts
stored (`keep_counts`, models.FailureCount). The numbers are still exact, at one moment of the database: if a bucket's
counters have changed since, or its failures lie on both sides of a requested time, its rows are read in the same
statement.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from scheduling import models, store
from scheduling.core import clock, keys, limits
from scheduling.core.time_limit import TimeLimit
from scheduling.models import Status
from scheduling.store import failed

GROUPS_SHOWN = 100
# How many failures one transaction counts: a few milliseconds' work.
STEP_IDS = 2_000
# The last outcomes of a minute are recorded this long after it.
TRAILING = timedelta(seconds=30)

# Why it failed: what went wrong, or the answer itself where the status is all that did.
_MESSAGE = (
    "SUBSTR(CASE WHEN a.error IS NULL OR a.error = ''"
    " OR (a.answer <> '' AND a.error = 'answered ' || a.http_status)"
    f" THEN COALESCE(a.answer, '') ELSE a.error END, 1, {limits.MESSAGE_CHARACTERS})"
)
_IS_OF_NOW = "f.bucket_id = b.id AND f.at_failed_count = b.failed_count AND f.at_moved_count = b.moved_count"


@dataclass(frozen=True)
class Group:
    """Equal failures. http_status: None if there was no response or none was stored."""

    queue: str
    http_status: int | None
    message: str
    count: int
    last_at: datetime | None


@dataclass(frozen=True)
class Summary:
    """The number of matching IDs, and the largest groups of them."""

    count: int
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Row:
    """One failed ID of one task."""

    key: int
    user_id: int
    task_id: int
    task_name: str
    queue: str
    http_status: int | None
    message: str
    attempts: int
    started_at: datetime | None


@dataclass(frozen=True)
class FailureSelection:
    """Which failures are meant. None asks for nothing.

    since, at: those whose last request had started from then on, by then. up_to: those whose last request was
    kept up to that one: what failed after somebody looked isn't among them, whenever it was started.
    """

    queue_id: int | None = None
    task_id: int | None = None
    user_id: int | None = None
    http_status: int | None = None
    has_no_status: bool = False
    message: str | None = None
    since: datetime | None = None
    at: datetime | None = None
    up_to: int | None = None

    def summary(self, *, at_most: int = GROUPS_SHOWN) -> Summary:
        """How many IDs match, by queue, status and message, the largest groups first: one statement."""
        parts, values = self._parts()
        sql = (
            f"{parts} SELECT {keys.sql_queue_of_bucket('p.bucket_id')}, p.http_status, p.message,"
            " SUM(p.ids_count) AS ids, MAX(p.last_at), SUM(SUM(p.ids_count)) OVER () FROM parts p GROUP BY 1, 2, 3"
            f" ORDER BY ids DESC, 1, 2, 3 LIMIT {at_most}"
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            rows = cursor.fetchall()
        names = _names() if rows else {}
        groups = [
            Group(names.get(queue, ""), status, message, int(count), store.as_time(last))
            for queue, status, message, count, last, _ in rows
        ]
        return Summary(int(rows[0][-1]) if rows else 0, tuple(groups))

    def count(self) -> int:
        """Return how many failed IDs match."""
        parts, values = self._parts()
        with connection.cursor() as cursor:
            cursor.execute(f"{parts} SELECT COALESCE(SUM(p.ids_count), 0) FROM parts p", values)
            return int(cursor.fetchone()[0])

    def rows(self, *, after: int = 0, limit: int | None = None) -> Iterator[Row]:
        """Yield the failed IDs, by key, after the key `after`."""
        step = STEP_IDS if limit is None else min(limit, STEP_IDS)
        for buckets in self._buckets_that_match(after, step):
            for row in self._rows_of(buckets, after, limit):
                yield row
                if limit is not None:
                    limit -= 1
            if limit == 0:
                return

    def among(self, rows: Collection[int]) -> set[int]:
        """Those of some rows, by key, that match."""
        if not rows:
            return set()
        buckets = sorted({keys.bucket_of_assignment(key) for key in rows})
        return {row.key for row in self._rows_of(buckets, 0, None, only=rows)}

    def _parts(self) -> tuple[str, list[Any]]:
        """A table of counts that match, as the beginning of a statement: `WITH ... parts AS (...)`."""
        source, values = self._of_one_id() if self.user_id is not None else self._kept_and_read()
        where, more = self._where("p")
        sql = (
            f"WITH {source}, parts AS (SELECT p.* FROM found p JOIN scheduling_task t ON t.id = p.task_id"
            f" WHERE t.cancelled_at IS NULL{where})"
        )
        return sql, values + more

    def _of_one_id(self) -> tuple[str, list[Any]]:
        sql = (
            f"found AS (SELECT s.task_id, {keys.sql_bucket_of_assignment('s.id')} AS bucket_id, a.http_status,"
            f" {_MESSAGE} AS message, 1 AS ids_count, a.started_at AS first_at, a.started_at AS last_at,"
            " a.id AS first_attempt_id, a.id AS last_attempt_id"
            f" FROM scheduling_assignment s {failed.last_requests()}"
            f" WHERE s.status = {int(Status.FAILED)} AND s.user_id = %s)"
        )
        return sql, [self.user_id]

    def _kept_and_read(self) -> tuple[str, list[Any]]:
        """Counts that are kept, where they are of now and within the times; else rows, each a count of 1."""
        failing, values = self._failing()
        of_task, task = ("", []) if self.task_id is None else (" AND {}.task_id = %s", [self.task_id])
        rows = failed.rows_of_buckets()
        sql = (
            f"failing AS ({failing}), found AS ("
            "SELECT f.task_id, f.bucket_id, f.http_status, f.message, f.ids_count, f.first_at, f.last_at,"
            " f.first_attempt_id, f.last_attempt_id"
            f" FROM failing b CROSS JOIN scheduling_failurecount f"
            f" WHERE b.is_kept AND f.bucket_id = b.id{of_task.format('f')} UNION ALL "
            f"SELECT s.task_id, b.id, a.http_status, {_MESSAGE}, 1, a.started_at, a.started_at, a.id, a.id"
            f" FROM failing b{rows} WHERE NOT b.is_kept{of_task.format('s')})"
        )
        return sql, [*values, *task, *task]

    def _failing(self) -> tuple[str, list[Any]]:
        """The buckets in which something failed that may match, and whether their kept counts can be used."""
        part_of: list[str] = []
        values: list[Any] = []
        for condition, bound in (
            ("(f.first_at < %s AND f.last_at >= %s)", _time(self.since)),
            ("(f.first_at <= %s AND f.last_at > %s)", _time(self.at)),
            ("(f.first_attempt_id <= %s AND f.last_attempt_id > %s)", self.up_to),
        ):
            if bound is not None:
                part_of.append(condition)
                values += [bound, bound]
        cut = (
            f" AND NOT EXISTS (SELECT 1 FROM scheduling_failurecount f WHERE f.bucket_id = b.id"
            f" AND ({' OR '.join(part_of)}))"
            if part_of
            else ""
        )
        where, more = self._where_buckets()
        sql = (
            f"SELECT b.id, b.failed_count, (EXISTS (SELECT 1 FROM scheduling_failurecount f WHERE {_IS_OF_NOW})"
            f"{cut}) AS is_kept FROM scheduling_bucket b WHERE b.failed_count > 0{where}"
        )
        return sql, values + more

    def _where_buckets(self) -> tuple[str, list[Any]]:
        if self.task_id is not None:
            its = (
                "SELECT c.bucket_id FROM scheduling_taskbucket c WHERE c.task_id = %s AND c.failed_count > 0"
            )
            return f" AND b.id IN ({its})", [self.task_id]
        if self.queue_id is not None:
            return " AND b.id BETWEEN %s AND %s", [*keys.range_of_queue(self.queue_id)]
        return "", []

    def _where(self, table: str) -> tuple[str, list[Any]]:
        """What matches among counts (`p`), or among rows (`a` their last requests)."""
        first, last, key, message = (
            ("p.first_at", "p.last_at", "p.last_attempt_id", "p.message")
            if table == "p"
            else ("a.started_at", "a.started_at", "a.id", _MESSAGE)
        )
        parts: list[str] = []
        values: list[Any] = []
        for column, value in (
            ("t.queue_id = %s", self.queue_id),
            ("t.id = %s", self.task_id),
            (f"{table}.http_status = %s", self.http_status),
            (f"{message} = %s", self.message),
            (f"{last} >= %s", _time(self.since)),
            (f"({first} <= %s OR {first} IS NULL)", _time(self.at)),
            (f"({key} <= %s OR {key} IS NULL)", self.up_to),
        ):
            if value is not None:
                parts.append(f" AND {column}")
                values.append(value)
        if self.has_no_status:
            parts.append(f" AND {table}.http_status IS NULL")
        return "".join(parts), values

    def _buckets_that_match(self, after: int, step: int) -> Iterator[list[int]]:
        """The buckets of matching rows after a key, by key, a few at a time: as many as hold `step` of them."""
        parts, values = self._parts()
        sql = (
            f"{parts} SELECT p.bucket_id, SUM(p.ids_count) FROM parts p WHERE p.bucket_id >= %s"
            " GROUP BY p.bucket_id ORDER BY p.bucket_id"
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, [*values, keys.bucket_of_cursor(after)])
            counts = cursor.fetchall()
        return _slices(counts, step)

    def _rows_of(
        self, buckets: list[int], after: int, limit: int | None, *, only: Collection[int] = ()
    ) -> Iterator[Row]:
        where, values = self._where("a")
        if only:
            where, values = f"{where} AND s.id IN ({', '.join(['%s'] * len(only))})", [*values, *only]
        if self.user_id is not None:
            where, values = f"{where} AND s.user_id = %s", [*values, self.user_id]
        marks = ", ".join(["%s"] * len(buckets))
        # +: or else SQLite reads from `after` on, and not from the beginning of each bucket.
        sql = (
            "SELECT s.id, s.user_id, s.task_id, t.name, q.name, a.http_status,"
            f" {_MESSAGE}, s.attempts, a.started_at FROM scheduling_bucket b"
            f"{failed.rows_of_buckets()} CROSS JOIN scheduling_task t JOIN scheduling_queue q ON q.id = t.queue_id"
            f" WHERE b.id IN ({marks}) AND t.id = s.task_id AND t.cancelled_at IS NULL"
            f" AND +s.id > %s{where} ORDER BY s.id"
        )
        if limit is not None:
            sql += f" LIMIT {int(limit)}"
        with connection.cursor() as cursor:
            cursor.execute(sql, [*buckets, after, *values])
            rows = cursor.fetchall()
        for *values, started in rows:
            yield Row(*(*values, store.as_time(started)))


def newest() -> int:
    """Return the latest stored request, up to which somebody who looks now sees failures."""
    return models.Attempt.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def keep_counts(*, at: datetime, seconds: float = 5.0, unless_fewer: int = 1) -> int:
    """Count what failed in minutes that were over at `at`, where that isn't kept; return in how many buckets.

    seconds: after which it leaves the rest to the next call. Callers that ask meanwhile get the same numbers.
    unless_fewer: nothing is done for fewer failures than that.
    """
    limit = TimeLimit(seconds)
    done = 0
    counts = _not_kept(before=at - TRAILING)
    if sum(count for _, count in counts) < unless_fewer:
        return 0
    for buckets in _slices(counts, STEP_IDS):
        with store.bulk_write():
            # No outcome and no retry comes in between; and of two who count, the second counts anew.
            locked = models.Bucket.objects.select_for_update().filter(pk__in=buckets).order_by("pk")
            list(locked.values_list("pk"))
            models.FailureCount.objects.filter(bucket_id__in=buckets)._raw_delete("default")
            _count(buckets)
        done += len(buckets)
        if limit.is_over:
            break
    return done


def _not_kept(*, before: datetime) -> list[tuple[int, int]]:
    """(bucket, failures) of minutes that ended before then, whose counts aren't kept as they are now."""
    sql = (
        "SELECT b.id, b.failed_count FROM scheduling_bucket b WHERE b.failed_count > 0"
        f" AND NOT EXISTS (SELECT 1 FROM scheduling_failurecount f WHERE {_IS_OF_NOW}) ORDER BY b.id"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
    return [row for row in rows if keys.minute_of_bucket(row[0]) + clock.MINUTE <= before]


def _slices(counts: list[tuple[int, int]], step: int) -> Iterator[list[int]]:
    """Yield the buckets of (bucket, failures) in parts with `step` failures."""
    part, ids = [], 0
    for bucket_id, count in counts:
        part.append(bucket_id)
        ids += count
        if ids >= step:
            yield part
            part, ids = [], 0
    if part:
        yield part


def _count(buckets: list[int]) -> None:
    """Count the failures of buckets whose rows the caller holds; with the counters that they had then."""
    marks = ", ".join(["%s"] * len(buckets))
    sql = (
        "INSERT INTO scheduling_failurecount (task_id, bucket_id, http_status, message, ids_count, first_at,"
        " last_at, first_attempt_id, last_attempt_id, at_failed_count, at_moved_count)"
        f" SELECT s.task_id, b.id, a.http_status, {_MESSAGE}, COUNT(*), MIN(a.started_at), MAX(a.started_at),"
        " MIN(a.id), MAX(a.id),"
        f" b.failed_count, b.moved_count FROM scheduling_bucket b{failed.rows_of_buckets()} WHERE b.id IN ({marks})"
        f" GROUP BY s.task_id, b.id, a.http_status, {_MESSAGE}, a.started_at IS NULL, b.failed_count,"
        " b.moved_count"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, buckets)


def _time(at: datetime | None) -> object:
    return None if at is None else connection.ops.adapt_datetimefield_value(at)


def _names() -> dict[int, str]:
    return dict(models.Queue.objects.values_list("pk", "name"))
