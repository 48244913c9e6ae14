"""The clusters' broker, which writes heartbeats.

A stuck cluster still reports that it is healthy: the sentinel's own heartbeat says nothing about the pipes
between its processes. So a heartbeat here is a job. Every few seconds the pusher hands one out as if it had been
in the database, a worker runs it, and the monitor acknowledges it. Only then is the heartbeat written: as a row
for the interfaces (models.Heartbeat), and as a file for the supervisor on this machine, which must not need the
database.

The files are in the directory named by QUARTERDECK_SIGNS; without it (a cluster started by hand) none are
written. `jobs`: the last job that completed. `guard`: the sentinel's last round. `workers`: their number.
`busy-<pid>`: since when a worker has been running a job.
"""

import os
import random
import re
import socket
import time
import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.core.signing import BadSignature
from django.db import Error as DatabaseError
from django.db import connection, connections
from django.db.models import Q
from django.dispatch import receiver
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signals import post_execute_in_worker, post_spawn, pre_execute
from django_q.signing import SignedPackage

from runner.names import name_process
from scheduling import models, store
from scheduling.core import limits
from scheduling.jobqueue import host_watch
from scheduling.jobqueue.cluster import MINUTES, ResilientORM
from scheduling.reports import health

log = structlog.get_logger(__name__)

SIGN_SECONDS = 3
# One in this many heartbeats looks for all kinds of lost work.
LOOK_EACH = 2
ROW_SECONDS = 9
CLEANUP_SECONDS = 25
# Rows of clusters that ended long ago.
FORGET_AFTER = timedelta(hours=1)
# A cluster that has been silent this long, and was when another of its name started on this host, was replaced.
REPLACED_AFTER = timedelta(seconds=30)
SIGN = "sign-of-life"
# A job that is queued for now waits this long at most. One that is queued ahead is met to the millisecond.
QUIET_SECONDS = 0.5
# What was signed, with whichever key.
SIGNED = re.compile(r"\.?[\w-]+:[A-Za-z0-9]+:[\w-]+")
# How often to look for jobs while somebody has to take over a minute.
HASTY_SECONDS = 0.1
HASTY_FOR_SECONDS = 1.0
# For how long the running minute has been silent, where a worker has served it and was not called again.
SILENCE = (
    "SELECT extract(epoch FROM clock_timestamp() - seen_at)::float8 FROM scheduling_minute"
    " WHERE id = floor(extract(epoch FROM clock_timestamp()) / 60)::bigint AND (ended_at IS NULL OR ended_at < seen_at)"
    f" AND (called_at IS NULL OR called_at < clock_timestamp() - interval '{limits.MINUTE_CALLED.total_seconds()} s')"
)
# On a busy machine minute workers get about three times the CPU time of workers that write lists.
NICE = 5


def signs() -> Path | None:
    """The directory of the heartbeat files, if a supervisor watches. A fork of the runner is told only then."""
    directory = os.environ.get("QUARTERDECK_SIGNS")
    return Path(directory) if directory else None


class WatchedBroker(ResilientORM):
    """The database broker, with a heartbeat job every few seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The sentinel creates the broker and its processes are forked from it, so this identifies the cluster.
        self.owner = random.SystemRandom().getrandbits(62)
        self.started_at = timezone.now()
        self._next_sign = 0.0
        self._next_row = self._next_cleanup = 0.0
        self._signs_count = 0
        # When to look for jobs again.
        self._look_at = 0.0
        # Until when jobs are looked for hastily, and when a silent minute may be looked at again.
        self._hasty_until = self._silence_at = float("-inf")

    def dequeue(self) -> Any:
        now = time.monotonic()
        if now < self._next_sign:
            if now < self._look_at:
                time.sleep(min(Conf.POLL, self._look_at - now))
                return None
            return [job for job in super().dequeue() or () if self._is_sound(*job)] or None
        self._next_sign = time.monotonic() + SIGN_SECONDS
        # Useful as well: a job looks for work that a dead worker left, mostly for a minute that nobody serves.
        self._signs_count += 1
        if self.foreign_rows:
            rows = OrmQ.objects.filter(pk__in=self.foreign_rows)
            self.foreign_rows = set(rows.values_list("pk", flat=True))
        looks_for_all = self.list_key != MINUTES and self._signs_count % LOOK_EACH == 0
        func = "look_around" if looks_for_all else "look_at_minutes"
        return [(SIGN, SignedPackage.dumps(_sign_job(func)))]

    def _take_due(self) -> Any:
        """Take jobs that are due. While none is, look again when the next one will be, twice a second at least."""
        wait = self._seconds_to_next()
        if wait <= 0:
            return super()._take_due()
        now = time.monotonic()
        self._look_at = now + min(wait, HASTY_SECONDS if now < self._hasty_until else QUIET_SECONDS)
        return None

    def _hear_silence(self, seconds: float | None) -> float:
        """Have a silent minute looked at; return when to ask again. seconds: how long it is silent; None if none is."""
        if seconds is None or self._silence_at > (now := time.monotonic()):
            return QUIET_SECONDS
        remaining = limits.MINUTE_SILENT.total_seconds() - seconds
        if remaining > 0:
            return remaining
        self._next_sign = now
        self._hasty_until = self._silence_at = now + HASTY_FOR_SECONDS
        return HASTY_SECONDS

    def _seconds_to_next(self) -> float:
        rows = self.readable_rows().filter(lock__isnull=False).order_by("lock").values("lock")
        if connection.vendor != "postgresql":
            row = rows.first()
            return (row["lock"] - timezone.now()).total_seconds() if row else QUIET_SECONDS
        sql, parameters = rows[:1].query.sql_with_params()
        silence = SILENCE if self.list_key == MINUTES else "NULL"
        answers: list[tuple[datetime, datetime | None, float | None]] = []

        def ask() -> datetime:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT clock_timestamp(), ({sql}), ({silence})", parameters)
                answers.append(cursor.fetchone())
            return answers[0][0]

        # The same answer says how far away the database and its clock are.
        self.host_watch.offer(host_watch.read(ask))
        [(at, due_at, seconds)] = answers
        # So that a minute that others served is taken over as soon as they are missed.
        ask_again = self._hear_silence(seconds)
        return ask_again if due_at is None else min(ask_again, (due_at - at).total_seconds())

    def _is_sound(self, task_id: int, payload: str) -> bool:
        """Whether a row contains a job. One that doesn't is dropped: otherwise it would come back for ever."""
        try:
            job = SignedPackage.loads(payload)
        except BadSignature as error:
            if SIGNED.fullmatch(payload):
                self._leave(task_id)
                return False
            job, reason = None, str(error)
        except Exception as error:
            job, reason = None, f"{type(error).__name__}: {error}"
        else:
            reason = f"its payload is of type {type(job).__name__}"
        if isinstance(job, dict) and isinstance(job.get("func"), str):
            return True
        log.error("malformed_job_dropped", row=task_id, reason=reason)
        super().acknowledge(task_id)
        return False

    def _leave(self, task_id: int) -> None:
        """Leave a job that was signed with another SECRET_KEY to clusters that have it."""
        self.foreign_rows.add(task_id)
        at = store.now()
        OrmQ.objects.filter(pk=task_id).update(lock=at)
        models.Heartbeat.objects.filter(owner=self.owner).update(foreign_job_at=at)
        log.error("foreign_job_left", row=task_id, reason="another SECRET_KEY: do all hosts have the same?")

    def acknowledge(self, task_id: Any) -> Any:
        if task_id != SIGN:
            return super().acknowledge(task_id)
        write_sign("jobs")
        if time.monotonic() >= self._next_row:
            self._next_row = time.monotonic() + ROW_SECONDS
            self._write_row()
        return True

    def set_stat(self, key: str, value: str, timeout: int) -> Any:
        # Only the sentinel calls this, in each of its rounds.
        directory = signs()
        if not (directory is None or (directory / "workers").exists()):
            write_sign("workers", str(Conf.WORKERS))
        write_sign("guard")
        # The last call comes after the monitor, which writes the row, has ended.
        if SignedPackage.loads(value).status == Conf.STOPPED:
            self._delete_row()
        # Not stored, as the stock broker would twice a second: nothing reads it, and a database that was
        # restarted would make it fail in this process for ever.
        return True

    def _reconnect(self) -> None:
        # A cluster that waits for a locked or unavailable database is not stuck, and killing it would not help.
        write_sign("jobs")
        super()._reconnect()

    def _write_row(self) -> None:
        # An unavailable database must not end the monitor, which has results to store.
        try:
            at, reading = store.now(), self.host_watch.look()
            offset, round_trip = (round(value.total_seconds() * 1000) for value in reading)
            report = {
                "seen_at": at,
                "workers": Conf.WORKERS,
                "clock_offset_ms": offset,
                "round_trip_ms": round_trip,
                "disks": [[disk.name, disk.free_bytes, disk.total_bytes] for disk in health.disks()],
            }
            if not models.Heartbeat.objects.filter(owner=self.owner).update(**report):
                models.Heartbeat.objects.create(
                    owner=self.owner,
                    cluster=self.list_key,
                    host=socket.gethostname(),
                    pid=os.getppid(),
                    started_at=self.started_at,
                    **report,
                )
            if time.monotonic() >= self._next_cleanup:
                self._next_cleanup = time.monotonic() + CLEANUP_SECONDS
                self._delete_rows_of_others(at)
        except DatabaseError as error:
            log.warning("heartbeat_not_written", reason=str(error))
            self._reconnect()

    def _delete_rows_of_others(self, at: datetime) -> None:
        silent = Q(seen_at__lt=at - FORGET_AFTER)
        replaced = Q(
            cluster=self.list_key,
            host=socket.gethostname(),
            seen_at__lt=min(self.started_at, at - REPLACED_AFTER),
        )
        models.Heartbeat.objects.filter(silent | replaced).exclude(owner=self.owner).delete()

    def _delete_row(self) -> None:
        # Otherwise the row would report a dead cluster for an hour.
        # Twice: the sentinel's connection has been idle since the start, and may be dead.
        for _ in range(2):
            try:
                models.Heartbeat.objects.filter(owner=self.owner).delete()
                return
            except DatabaseError as error:
                reason = str(error)
                connections["default"].close()
        log.warning("heartbeat_not_deleted", reason=reason)


def write_sign(sign: str, text: str = "") -> None:
    """Write a heartbeat file, if a supervisor watches. A full disk must not end a worker."""
    if directory := signs():
        with suppress(OSError):
            (directory / sign).write_text(text)


@receiver(post_spawn)
def _worker_started(**_: object) -> None:
    name_process(f"{Conf.CLUSTER_NAME} job")
    if Conf.CLUSTER_NAME != MINUTES:
        os.nice(NICE)


@receiver(pre_execute)
def _job_started(sender: object, task: dict[str, Any], **_: object) -> None:
    write_sign(f"busy-{os.getpid()}")


@receiver(post_execute_in_worker)
def _job_ended(sender: object, task: dict[str, Any], **_: object) -> None:
    if directory := signs():
        with suppress(OSError):
            (directory / f"busy-{os.getpid()}").unlink()


def _sign_job(func: str) -> dict[str, Any]:
    """A job as django-q2's async_task would have queued it."""
    return {
        "id": uuid.uuid4().hex,
        "name": SIGN,
        "func": f"scheduling.jobs.{func}",
        "args": (),
        "kwargs": {},
        "started": timezone.now(),
        "save": False,
        "ack_failure": True,
    }
