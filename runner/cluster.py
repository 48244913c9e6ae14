"""A django-q2 cluster with fewer processes: the main process is the sentinel, and one process queues and acknowledges.

`manage.py qcluster` starts a process that only waits for its sentinel, and has a pusher and a monitor in processes
of their own. Each process costs memory, on a small machine more than it is worth.
"""

import os
import select
import signal
import threading
import uuid
from collections.abc import Callable
from multiprocessing import Event, Process
from typing import Any

import structlog
from django.conf import settings
from django_q.brokers import get_broker
from django_q.cluster import Sentinel
from django_q.conf import Conf
from django_q.monitor import monitor
from django_q.pusher import pusher

from runner.names import name_process

log = structlog.get_logger(__name__)


def run(name: str) -> None:
    """Run the cluster `name` until SIGTERM."""
    _configure(name)
    name_process(name)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    Cluster(StopEvent(), Event(), uuid.uuid4(), get_broker())


def _configure(name: str) -> None:
    """Give django-q2 the settings of the cluster `name`: at import, it has read those of the first one."""
    Conf.CLUSTER_NAME = name
    for option, value in settings.Q_CLUSTER["ALT_CLUSTERS"].get(name, {}).items():
        assert hasattr(Conf, option.upper())
        setattr(Conf, option.upper(), value)


class StopEvent:
    """An event that a signal handler may set, even while the process waits for it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def set(self) -> None:
        os.write(self._write, b".")

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self._read], [], [], seconds)[0])


class Cluster(Sentinel):  # type: ignore[misc]  # django-q2 ships no types
    """The sentinel, as the main process of its cluster."""

    def start(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop_event.set())
        super().start()

    def spawn_process(self, target: Callable[..., Any], *args: Any) -> Process:
        process: Process = super().spawn_process(target, *args)
        return process

    def spawn_monitor(self) -> Process:
        """Start the process that takes jobs from the broker, and acknowledges those that were run."""
        self.has_pushed = Event()
        courier: Process = self.spawn_process(
            _carry, self.task_queue, self.result_queue, self.event_out, self.has_pushed, self.broker
        )
        return courier

    def spawn_pusher(self) -> "Pusher":
        return Pusher(self.monitor, self.has_pushed)


class Pusher:
    """The pusher as the sentinel sees it: a part of the monitor's process, which ends before it."""

    def __init__(self, process: Process, has_ended: Any) -> None:
        self.name = process.name
        self.pid = process.pid
        self.process = process
        self.has_ended = has_ended

    def is_alive(self) -> bool:
        return self.process.is_alive() and not self.has_ended.is_set()


def _carry(task_queue: Any, result_queue: Any, stop: Any, has_pushed: Any, broker: Any) -> None:
    def push() -> None:
        try:
            # It returns after an error as well.
            while not stop.is_set():
                pusher(task_queue, stop, broker)
        except BaseException:
            # Without this thread the process is of no use, and the sentinel starts another.
            log.exception("pusher_failed")
            os._exit(1)
        has_pushed.set()

    threading.Thread(target=push, daemon=True).start()
    monitor(result_queue, broker)
