"""Inside the clusters: signs of life that have really gone the way of a job.

A wedged cluster goes on claiming to be well (the sentinel's heartbeat says nothing about the pipes between
the processes), so the signs are jobs: every few seconds the pusher gives one of them out as if it had been in
the database, a worker runs it, the monitor acknowledges it, and only then the sign is there: as a row for the
faces (models.Heartbeat), and as a file for the supervisor on this machine, which must not need the database.

The files are in the directory that QUARTERDECK_SIGNS names; without it (a cluster started by hand) there are
none. `jobs`: the last job that came through. `guard`: the sentinel's last round. `workers`: their number.
`busy-<pid>`: a worker is at work on a job since then.
"""

import os
import random
import socket
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import structlog
from django.db import Error as DatabaseError
from django.dispatch import receiver
from django.utils import timezone
from django_q.conf import Conf
from django_q.signals import post_execute_in_worker, post_spawn, pre_execute
from django_q.signing import SignedPackage

from scheduling import models, store
from scheduling.jobqueue.cluster import MINUTES, ResilientORM

log = structlog.get_logger(__name__)

SIGN_SECONDS = 3
ROW_SECONDS = 9
# Rows of clusters that have long gone say nothing about the ones that are there.
FORGET_AFTER = timedelta(hours=1)
# Who is silent for so long, and was when another of its kind began on this machine, was replaced by it.
REPLACED_AFTER = timedelta(seconds=30)
SIGN = "sign-of-life"
# On a machine that is busy the minutes' workers go before those that write lists, about three to one.
NICE = 5
SIGNS = Path(os.environ["QUARTERDECK_SIGNS"]) if os.environ.get("QUARTERDECK_SIGNS") else None


class WatchedBroker(ResilientORM):
    """The database's broker, with a job of its own every few seconds."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # The sentinel makes the broker and its processes are forked from it, so this is the cluster's number.
        self.owner = random.SystemRandom().getrandbits(62)
        self.started_at = timezone.now()
        self._next_sign = 0.0
        self._next_row = 0.0

    def dequeue(self):
        if time.monotonic() < self._next_sign:
            return super().dequeue()
        self._next_sign = time.monotonic() + SIGN_SECONDS
        return [(SIGN, SignedPackage.dumps(_sign_job()))]

    def acknowledge(self, task_id):
        if task_id != SIGN:
            return super().acknowledge(task_id)
        leave("jobs")
        if time.monotonic() >= self._next_row:
            self._next_row = time.monotonic() + ROW_SECONDS
            self._write_row()
        return True

    def set_stat(self, key: str, value: str, timeout: int):
        # Called by the sentinel alone, in each of its rounds.
        if not (SIGNS is None or (SIGNS / "workers").exists()):
            leave("workers", str(Conf.WORKERS))
        leave("guard")
        # The last one comes once its monitor, who writes the row, has ended.
        if SignedPackage.loads(value).status == Conf.STOPPED:
            self._delete_row()
        return super().set_stat(key, value, timeout)

    def _reconnect(self) -> None:
        # Who waits for a database that is locked or gone is not stuck, and to be killed would not help.
        leave("jobs")
        super()._reconnect()

    def _write_row(self) -> None:
        # A database that is gone must not end the monitor: it has results to keep.
        try:
            at = store.now()
            models.Heartbeat.objects.update_or_create(
                owner=self.owner,
                defaults={"seen_at": at, "workers": Conf.WORKERS},
                create_defaults={
                    "seen_at": at,
                    "workers": Conf.WORKERS,
                    "cluster": self.list_key,
                    "host": socket.gethostname(),
                    "pid": os.getppid(),
                    "started_at": self.started_at,
                },
            )
            models.Heartbeat.objects.filter(seen_at__lt=at - FORGET_AFTER).delete()
            models.Heartbeat.objects.filter(
                cluster=self.list_key,
                host=socket.gethostname(),
                seen_at__lt=min(self.started_at, at - REPLACED_AFTER),
            ).exclude(owner=self.owner).delete()
        except DatabaseError as error:
            log.warning("heartbeat_not_written", reason=str(error))
            self._reconnect()

    def _delete_row(self) -> None:
        # Without it the row says for an hour that somebody died.
        try:
            models.Heartbeat.objects.filter(owner=self.owner).delete()
        except DatabaseError as error:
            log.warning("heartbeat_not_deleted", reason=str(error))


def leave(sign: str, text: str = "") -> None:
    """Write a sign, if anybody watches. A full disk must not end a worker."""
    if SIGNS is not None:
        with suppress(OSError):
            (SIGNS / sign).write_text(text)


@receiver(post_spawn)
def _let_the_minutes_go_first(**_) -> None:
    if Conf.CLUSTER_NAME != MINUTES:
        os.nice(NICE)


@receiver(pre_execute)
def began(sender, task: dict, **kwargs) -> None:
    leave(f"busy-{os.getpid()}")


@receiver(post_execute_in_worker)
def ended(sender, task: dict, **kwargs) -> None:
    if SIGNS is not None:
        with suppress(OSError):
            (SIGNS / f"busy-{os.getpid()}").unlink()


def _sign_job() -> dict:
    """A job as django-q2's async_task would have queued it."""
    return {
        "id": uuid.uuid4().hex,
        "name": SIGN,
        # Of some use beside: whoever lives looks for work that a dead one left.
        "func": "scheduling.jobs.look_around",
        "args": (),
        "kwargs": {},
        "started": timezone.now(),
        "save": False,
        "ack_failure": True,
    }
