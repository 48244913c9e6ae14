"""Inside the clusters: signs of life that have really gone the way of a job.

A wedged cluster goes on claiming to be well (the sentinel's heartbeat says nothing about the pipes
between the processes), so the signs are jobs: every few seconds the pusher gives one of them out as if it
had been in the database, a worker runs it, the monitor acknowledges it, and only then the sign is there.
No row is written.

The signs are files in the directory that QUARTERDECK_SIGNS names; without it (a cluster started by hand)
there are none. `jobs`: the time of the last job that came through. `guard`: the sentinel's last round.
`busy-<pid>`: a worker is at work on a job since then.
"""

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from django.dispatch import receiver
from django.utils import timezone
from django_q.conf import Conf
from django_q.signals import post_execute_in_worker, pre_execute
from django_q.signing import SignedPackage

from scheduling.cluster import ResilientORM

SIGN_SECONDS = 3
SIGN = "sign-of-life"
SIGNS = Path(os.environ["QUARTERDECK_SIGNS"]) if os.environ.get("QUARTERDECK_SIGNS") else None


class WatchedBroker(ResilientORM):
    """The database's broker, with a job of its own every few seconds."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._next_sign = 0.0

    def dequeue(self):
        if SIGNS is None or time.monotonic() < self._next_sign:
            return super().dequeue()
        self._next_sign = time.monotonic() + SIGN_SECONDS
        return [(SIGN, SignedPackage.dumps(_sign_job()))]

    def acknowledge(self, task_id):
        if task_id != SIGN:
            return super().acknowledge(task_id)
        leave("jobs")
        return True

    def set_stat(self, key: str, value: str, timeout: int):
        # Called by the sentinel alone, in each of its rounds.
        if not (SIGNS is None or (SIGNS / "workers").exists()):
            leave("workers", str(Conf.WORKERS))
        leave("guard")
        return super().set_stat(key, value, timeout)


def do_nothing() -> None:
    """What a sign of life runs."""


def leave(sign: str, text: str = "") -> None:
    """Write a sign, if anybody watches. A full disk must not end a worker."""
    if SIGNS is not None:
        with suppress(OSError):
            (SIGNS / sign).write_text(text)


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
        "func": f"{__name__}.{do_nothing.__name__}",
        "args": (),
        "kwargs": {},
        "started": timezone.now(),
        "save": False,
        "ack_failure": True,
    }
