"""Detects children that run but are stuck. Standard library only.

A cluster whose pipes are blocked (a worker was killed while it was reading one, say) runs for ever without
executing a job, and reports that it is healthy. So it is judged by what it does: see runner.broker for its
heartbeat files, called signs here.
"""

import os
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

# Ten heartbeat jobs should have completed in this time.
STALE_SECONDS = 35
# A busy machine takes long to load Django.
FIRST_SIGN_SECONDS = 90
# Longer than any job may take: the cluster's guard should have killed it by then.
LONGEST_JOB_SECONDS = 120
# A process has the database's only write lock: waiting is right, unless that process is itself stuck.
LOCKED_SECONDS = 100
# When the lock is released, everybody writes at once.
RECOVERY_SECONDS = 15


class Watch(Protocol):
    def complaint(self, now: float) -> str:
        """Return what is wrong at `now` (monotonic seconds), or an empty string."""
        ...


class SignWatch:
    """Watches the heartbeat files that a cluster writes.

    started: monotonic seconds. is_locked: whether the database is locked now.
    """

    def __init__(self, directory: Path, *, started: float, is_locked: Callable[[], bool]) -> None:
        self.directory = directory
        self.started = started
        self.is_locked = is_locked
        self.was_locked = started - RECOVERY_SECONDS
        # The last change of each file, and when it was noticed. File times are only compared with each other,
        # because the machine's clock may be changed.
        self.seen: dict[str, tuple[int, float]] = {}

    def complaint(self, now: float) -> str:
        # Checked in each round, so that it is known since when.
        all_busy = self._all_busy(now)
        for sign, meaning in (("guard", "its guard has stopped"), ("jobs", "no job completes")):
            age, first = self._age(sign, now)
            if age <= (FIRST_SIGN_SECONDS if first else STALE_SECONDS):
                continue
            if sign == "jobs" and all_busy:
                continue
            if self.is_locked():
                self.was_locked = now
            if age > LOCKED_SECONDS or now - self.was_locked > RECOVERY_SECONDS:
                return f"{meaning}, for {age:.0f} s"
        return ""

    def forgive(self, now: float) -> None:
        """Start counting again at `now`, because the machine or this process was asleep."""
        self.started = now
        self.seen = {sign: (changed, now) for sign, (changed, _) in self.seen.items()}

    def _age(self, sign: str, now: float) -> tuple[float, bool]:
        """Return the seconds since the file last changed, and whether it has never existed."""
        try:
            changed = (self.directory / sign).stat().st_mtime_ns
        except OSError:
            changed = 0
        last, since = self.seen.get(sign, (0, self.started))
        if changed != last:
            self.seen[sign] = (changed, now)
            return 0.0, False
        return now - since, last == 0

    def _all_busy(self, now: float) -> bool:
        """Whether every worker is busy, and not for too long: then none is free for a heartbeat job."""
        try:
            workers = int((self.directory / "workers").read_text())
        except (OSError, ValueError):
            return False
        busy = 0
        for sign in self.directory.glob("busy-*"):
            pid = int(sign.name.removeprefix("busy-"))
            age, _ = self._age(sign.name, now)
            if not is_running(pid):
                sign.unlink(missing_ok=True)
            elif age <= LONGEST_JOB_SECONDS:
                busy += 1
        return busy >= workers


class WebWatch:
    """Requests something cheap from the web server, again and again, in a thread of its own."""

    def __init__(self, url: str, *, started: float) -> None:
        self.url = url
        self.started = started
        self.answered = 0.0
        self.ended = threading.Event()
        threading.Thread(target=self._poll, daemon=True).start()

    def complaint(self, now: float) -> str:
        age = now - (self.answered or self.started)
        if age > (STALE_SECONDS if self.answered else FIRST_SIGN_SECONDS):
            return f"no response for {age:.0f} s"
        return ""

    def forgive(self, now: float) -> None:
        self.started = now
        self.answered = self.answered and now

    def end(self) -> None:
        self.ended.set()

    def _poll(self) -> None:
        # Ignores the environment's proxies: this is a local connection.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self.ended.wait(0.3 if not self.answered else 3):
            try:
                opener.open(urllib.request.Request(self.url, method="HEAD"), timeout=5).close()
            except urllib.error.HTTPError:
                pass  # It responded.
            except OSError:
                continue
            self.answered = time.monotonic()


def sqlite_is_locked(path: Path) -> bool:
    """Whether the file stays locked for half a second: bulk writers release it more often."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0.5)
        ) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    return False


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
