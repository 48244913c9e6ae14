"""Real clusters for tests: `manage.py qcluster` in a session of its own, on the test's database."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from scheduling import models
from tests.patience import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """One running cluster. Its main process, sentinel and workers can be killed one by one."""

    def __init__(self, environment: dict[str, str], name: str = "") -> None:
        self.environment = environment | ({"Q_CLUSTER_NAME": name} if name else {})
        self.start()

    def start(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "qcluster"],
            cwd=ROOT,
            env=self.environment,
            start_new_session=True,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def output(self) -> str:
        """What it printed."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    @property
    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def kill_a_worker(
        self, pick: Callable[[list[psutil.Process]], psutil.Process] = lambda many: many[0]
    ) -> None:
        """kill -9 one of the processes below the sentinel, a busy one by choice of `pick`."""
        below = [child for child in self.children if child.ppid() != self.process.pid]
        if below:
            with suppress(psutil.NoSuchProcess):
                pick(below).kill()

    def kill_the_sentinel(self) -> None:
        for child in psutil.Process(self.process.pid).children():
            child.kill()

    def kill(self) -> None:
        """kill -9 everything of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """As a supervisor stops it: the main process first, then what is left."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=8)
        self.kill()


def wait_for_clusters(count: int) -> None:
    """Wait until so many clusters take jobs."""
    wait_until(lambda: models.Heartbeat.objects.count() >= count, f"{count} clusters are up")
