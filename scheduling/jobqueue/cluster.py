"""Queue jobs with django-q2: by dotted path, on a named cluster, optionally not before a time.

Jobs are hints, our rows are the truth: every job here can be lost or run twice. Nothing else imports django-q2.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

from scheduling import store
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import host_watch

log = structlog.get_logger(__name__)

DEFAULT: str = settings.Q_CLUSTER["name"]
MINUTES = "minutes"
# The rows of a queue that are read together.
LOOK_AT = 100
# A job that no cluster could read for this long was signed with a SECRET_KEY that is no longer in use.
UNREADABLE_KEPT = timedelta(days=7)


class ResilientORM(ORM):  # type: ignore[misc]  # django-q2 ships no types
    """django-q2's database broker, which waits while the database is locked or unreachable.

    The stock pusher sleeps 10 s after any database error, and the stock monitor loses the
    acknowledgement, so that the job runs twice. The stock broker also compares due times with the host's clock: the
    host that is furthest ahead would take every job.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.host_watch = host_watch.HostWatch()
        self._leaves_minutes = ""
        # Rows with jobs of another SECRET_KEY, which are left to clusters that have it.
        self.foreign_rows: set[int] = set()

    def readable_rows(self) -> QuerySet[OrmQ]:
        """Return the rows of this cluster's queue, but for those with jobs of another key."""
        rows: QuerySet[OrmQ] = self.get_connection().filter(key=self.list_key)
        return rows.exclude(pk__in=self.foreign_rows) if self.foreign_rows else rows

    def dequeue(self) -> list[tuple[int, str]] | None:
        try:
            if self.list_key == MINUTES and self._leaves_minutes_to_others():
                time.sleep(Conf.POLL)
                return None
            return self._take_due()
        except (DatabaseError, InterfaceError) as error:
            if not store.is_unavailable(error):
                raise
            self._reconnect()
            return None

    def _take_due(self) -> list[tuple[int, str]] | None:
        rows = self.get_connection()
        due = self.readable_rows().filter(lock__lt=_database_time())[: Conf.BULK]
        hidden_until = _database_time() + timedelta(seconds=Conf.RETRY)
        jobs = [
            (job.pk, job.payload)
            for job in due
            # Another cluster may have been faster.
            if rows.filter(pk=job.pk, lock=job.lock).update(lock=hidden_until)
        ]
        if not jobs:
            time.sleep(Conf.POLL)
        return jobs or None

    def _leaves_minutes_to_others(self) -> bool:
        """Whether this host's clock is so far off, or the database so far away, that the host serves no minutes."""
        reading = self.host_watch.look()
        reason = ""
        if host_watch.is_off(reading.offset):
            reason = "clock_is_off_no_minutes_taken"
        elif host_watch.is_far(reading.round_trip):
            reason = "database_is_far_no_minutes_taken"
        if reason and reason != self._leaves_minutes:
            offset, round_trip = (round(value.total_seconds() * 1000) for value in reading)
            log.error(reason, host_ahead_ms=offset, round_trip_ms=round_trip)
        self._leaves_minutes = reason
        return bool(reason)

    def acknowledge(self, task_id: int) -> None:
        self._retry(super().acknowledge, task_id)

    def fail(self, task_id: int) -> None:
        self._retry(super().fail, task_id)

    def _retry(self, act: Callable[[int], None], task_id: int, *, seconds: float = 60) -> None:
        limit = TimeLimit(seconds)
        while True:
            try:
                act(task_id)
                return
            except (DatabaseError, InterfaceError) as error:
                if limit.is_over or not store.is_unavailable(error):
                    raise
                self._reconnect()

    def _reconnect(self) -> None:
        connections["default"].close()
        time.sleep(0.5)


def _database_time() -> Now | datetime:
    # SQLite has no clock but this host's, and Now() would be less exact.
    return Now() if connection.vendor == "postgresql" else timezone.now()


class _NotBefore(ORM):  # type: ignore[misc]  # django-q2 ships no types
    """A broker for one enqueue: its row is locked, and so invisible to clusters, until a time."""

    def __init__(self, list_key: str, not_before: datetime) -> None:
        super().__init__(list_key=list_key)
        self.not_before = not_before

    def enqueue(self, task: str) -> int:
        key: int = self.get_connection().create(key=self.list_key, payload=task, lock=self.not_before).pk
        return key


def enqueue(
    path: str, *args: object, cluster: str = DEFAULT, not_before: datetime | None = None, save: bool = False
) -> None:
    """Queue a call of `path` (dotted, in scheduling.jobs) in the transaction that is open.

    args: a few whole numbers or short strings. not_before: aware, UTC.
    """
    options = {"save": save, "ack_failure": True, "group": path.rsplit(".", 1)[-1]}
    if not_before is None:
        async_task(path, *args, cluster=cluster, **options)
    else:
        async_task(path, *args, broker=_NotBefore(cluster, not_before), **options)


def waiting_count(cluster: str, at: datetime) -> int:
    """Return how many jobs of a cluster are due and not claimed."""
    return int(OrmQ.objects.filter(key=cluster, lock__lt=at).count())


def unreadable_count() -> int:
    """How many of the latest queued jobs can't be read, as those that were signed with another SECRET_KEY."""
    # django-q2 gives such a row a task whose number is the name of the error.
    jobs = (row.task for row in OrmQ.objects.order_by("-pk")[:LOOK_AT])
    return sum(not isinstance(job, dict) or str(job.get("id", "*")).startswith("*") for job in jobs)


def is_queued(path: str, *, at: datetime, cluster: str = DEFAULT) -> bool:
    """Whether a call of `path` waits, or was taken by a worker a moment ago: see `queued`."""
    return bool(queued(path, at=at, cluster=cluster))


def queued(path: str, *, at: datetime, cluster: str = DEFAULT) -> list[tuple[object, ...]]:
    """The arguments of the calls of `path` that wait, or were taken by a worker a moment ago.

    One that was taken longer ago may have died with its worker: its row comes back after `retry` seconds.
    """
    own = settings.Q_CLUSTER.get("ALT_CLUSTERS", {}).get(cluster, {})
    taken_lately = at + timedelta(seconds=own.get("retry", settings.Q_CLUSTER["retry"]) - 30)
    rows = OrmQ.objects.filter(Q(lock__lte=at) | Q(lock__gte=taken_lately), key=cluster).order_by("-pk")[
        :LOOK_AT
    ]
    # A malformed row contains anything, and must not hide the others.
    jobs = [row.task for row in rows if isinstance(row.task, dict)]
    return [tuple(job.get("args", ())) for job in jobs if job.get("func") == path]


def drop_malformed(*, at: datetime) -> int:
    """Delete due rows of the queue whose signed payload names no job. Returns how many; each is logged once.

    django-q2 would retry them for ever. Rows that this process can't read stay for UNREADABLE_KEPT: their
    signature may be another host's.
    """
    dropped = 0
    for row in OrmQ.objects.filter(lock__lt=at).order_by("pk")[:LOOK_AT]:
        job = row.task
        is_unreadable = isinstance(job, dict) and str(job.get("id", "")).startswith("*")
        if is_unreadable and row.lock > at - UNREADABLE_KEPT:
            continue
        if not is_unreadable and isinstance(job, dict) and "func" in job and "id" in job:
            continue
        if OrmQ.objects.filter(pk=row.pk, lock=row.lock).delete()[0]:
            log.error("malformed_job_dropped", cluster=row.key, job=row.pk, payload=str(job)[:100])
            dropped += 1
    return dropped
