"""Who is stuck: a process can live and do nothing. Standard library only.

A cluster whose pipes are blocked (a worker was killed while it was reading one, say) goes on for ever without
running a job, and says that it is well. So it is judged by what it does: see runner.broker for its signs.
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

# Ten jobs of the kind that leaves a sign should have come through meanwhile.
STALE_SECONDS = 35
# A machine that is busy with something else takes its time to load Django.
FIRST_SIGN_SECONDS = 90
# Longer than any job may take: then the cluster's own guard should have killed it.
LONGEST_JOB_SECONDS = 120
# Somebody holds the database's one write lock: to wait is right, unless it is one of the stuck themselves.
LOCKED_SECONDS = 100
# After that wait everybody wants to write at once.
RECOVERY_SECONDS = 15


class Watch(Protocol):
    def complaint(self, now: float) -> str:
        """What is wrong at `now` (monotonic seconds), or nothing."""
        ...


class SignWatch:
    """Watches the signs that a cluster leaves in a directory.

    started: monotonic seconds. is_locked: whether the database can't be written just now.
    """

    def __init__(self, directory: Path, *, started: float, is_locked: Callable[[], bool]) -> None:
        self.directory = directory
        self.started = started
        self.is_locked = is_locked
        self.was_locked = started - RECOVERY_SECONDS
        # What was last seen of each sign, and when that was new. Wall-clock times of files are only compared
        # with each other: the clock of the machine may be set.
        self.seen: dict[str, tuple[int, float]] = {}

    def complaint(self, now: float) -> str:
        # Looked at in each round, so that it is known since when.
        all_at_work = self._all_at_work(now)
        for sign, meaning in (("guard", "its guard has stopped"), ("jobs", "no job comes through")):
            age, first = self._age(sign, now)
            if age <= (FIRST_SIGN_SECONDS if first else STALE_SECONDS):
                continue
            if sign == "jobs" and all_at_work:
                continue
            if self.is_locked():
                self.was_locked = now
            if age > LOCKED_SECONDS or now - self.was_locked > RECOVERY_SECONDS:
                return f"{meaning}, for {age:.0f} s"
        return ""

    def forgive(self, now: float) -> None:
        """Count from `now` on: the machine, or this process, was asleep."""
        self.started = now
        self.seen = {sign: (changed, now) for sign, (changed, _) in self.seen.items()}

    def _age(self, sign: str, now: float) -> tuple[float, bool]:
        """Seconds since the sign last changed, and whether it has never been there."""
        try:
            changed = (self.directory / sign).stat().st_mtime_ns
        except OSError:
            changed = 0
        last, since = self.seen.get(sign, (0, self.started))
        if changed != last:
            self.seen[sign] = (changed, now)
            return 0.0, False
        return now - since, last == 0

    def _all_at_work(self, now: float) -> bool:
        """Whether each worker has a job, and not for too long: then none is free for a sign."""
        try:
            workers = int((self.directory / "workers").read_text())
        except (OSError, ValueError):
            return False
        busy = 0
        for sign in self.directory.glob("busy-*"):
            pid = int(sign.name.removeprefix("busy-"))
            age, _ = self._age(sign.name, now)
            if not alive(pid):
                sign.unlink(missing_ok=True)
            elif age <= LONGEST_JOB_SECONDS:
                busy += 1
        return busy >= workers


class WebWatch:
    """Asks the web server for something cheap, again and again, in a thread of its own."""

    def __init__(self, url: str, *, started: float) -> None:
        self.url = url
        self.started = started
        self.answered = 0.0
        self.ended = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def complaint(self, now: float) -> str:
        age = now - (self.answered or self.started)
        if age > (STALE_SECONDS if self.answered else FIRST_SIGN_SECONDS):
            return f"no answer for {age:.0f} s"
        return ""

    def forgive(self, now: float) -> None:
        self.started = now
        self.answered = self.answered and now

    def end(self) -> None:
        self.ended.set()

    def _ask(self) -> None:
        # Not through a proxy of the environment: it is this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self.ended.wait(0.3 if not self.answered else 3):
            try:
                opener.open(urllib.request.Request(self.url, method="HEAD"), timeout=5).close()
            except urllib.error.HTTPError:
                pass  # An answer all the same.
            except OSError:
                continue
            self.answered = time.monotonic()


def sqlite_is_locked(path: Path) -> bool:
    """Whether the file can't be written for as long as one tries: bulk writers let others in between."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0.5)
        ) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    return False


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
