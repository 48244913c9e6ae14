"""What failed, grouped by queue and by what came back: for the page, and for "all that match".

Failures of cancelled tasks are none: nothing of them is to be sent any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from . import models
from .board import as_time
from .models import Status

# So much of an answer tells one group from another; the rest is often a number or a time.
MESSAGE_CHARACTERS = 120
GROUPS_SHOWN = 100

# Failed rows, with their last attempts. The partial index on them makes it as cheap as they are few.
_FROM = f"""
  FROM scheduling_assignment s
  JOIN scheduling_task t ON t.id = s.task_id
  LEFT JOIN scheduling_attempt a
    ON a.task_id = s.task_id AND a.user_id = s.user_id AND a.number = s.attempts AND NOT a.unknown
 WHERE s.status = {int(Status.FAILED)} AND t.cancelled_at IS NULL
"""
_MESSAGE = (
    "SUBSTR(CASE WHEN a.error IS NULL OR a.error = '' THEN COALESCE(a.answer, '') ELSE a.error END, 1,"
    f" {MESSAGE_CHARACTERS})"
)


@dataclass(frozen=True)
class Asked:
    """Which failures are meant. None asks for nothing; at: those whose last request had started by then."""

    queue_id: int | None = None
    task_id: int | None = None
    user_id: int | None = None
    http_status: int | None = None
    has_no_status: bool = False
    message: str | None = None
    since: datetime | None = None
    at: datetime | None = None

    def _where(self) -> tuple[str, list]:
        parts, values = [], []
        for column, value in (
            ("t.queue_id = %s", self.queue_id),
            ("s.task_id = %s", self.task_id),
            ("s.user_id = %s", self.user_id),
            ("a.http_status = %s", self.http_status),
            (f"{_MESSAGE} = %s", self.message),
            ("a.started_at >= %s", self._time(self.since)),
            ("(a.started_at <= %s OR a.started_at IS NULL)", self._time(self.at)),
        ):
            if value is not None:
                parts.append(f" AND {column}")
                values.append(value)
        if self.has_no_status:
            parts.append(" AND a.http_status IS NULL")
        return "".join(parts), values

    @staticmethod
    def _time(at: datetime | None):
        return None if at is None else connection.ops.adapt_datetimefield_value(at)

    def count(self) -> int:
        """How many failed IDs match."""
        where, values = self._where()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) {_FROM}{where}", values)
            return cursor.fetchone()[0]

    def groups(self) -> list["Group"]:
        """By queue, status and message, the largest first."""
        where, values = self._where()
        sql = (
            f"SELECT t.queue_id, a.http_status, {_MESSAGE}, COUNT(*), MAX(a.started_at) {_FROM}{where}"
            f" GROUP BY t.queue_id, a.http_status, {_MESSAGE}"
            f" ORDER BY COUNT(*) DESC, 1, 2, 3 LIMIT {GROUPS_SHOWN}"
        )
        names = dict(models.Queue.objects.values_list("pk", "name"))
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return [
                Group(names.get(queue, ""), status, message, count, as_time(last))
                for queue, status, message, count, last in cursor.fetchall()
            ]

    def rows(self, *, after: int = 0, limit: int | None = None) -> Iterator["Row"]:
        """The failed IDs, by key: behind the key `after`."""
        where, values = self._where()
        sql = (
            "SELECT s.id, s.user_id, s.task_id, t.name, t.queue_id, a.http_status, "
            f"{_MESSAGE}, s.attempts, a.started_at {_FROM}{where} AND s.id > %s ORDER BY s.id"
        )
        values.append(after)
        if limit is not None:
            sql += f" LIMIT {int(limit)}"
        names = dict(models.Queue.objects.values_list("pk", "name"))
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            while found := cursor.fetchmany(1000):
                for key, user, task, name, queue, status, message, attempts, started in found:
                    yield Row(
                        key,
                        user,
                        task,
                        name,
                        names.get(queue, ""),
                        status,
                        message,
                        attempts,
                        as_time(started),
                    )


@dataclass(frozen=True)
class Group:
    """Failures that look alike. http_status: None where no answer came or none was kept."""

    queue: str
    http_status: int | None
    message: str
    count: int
    last_at: datetime | None


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
