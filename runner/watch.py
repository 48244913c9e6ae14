"""Detects children that run but are stuck. Standard library only.

A cluster whose pipes are blocked (a worker was killed while it was reading one, say) runs for ever without
executing a job, and reports that it is healthy. So it is judged by what it does: see runner.broker for its
heartbeat files, called signs here.
"""

import os
import socket
import sqlite3
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
# When the lock is released, everybody writes at once; and after long jobs the next heartbeat job has to run first.
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
        self.was_locked = self.were_busy = started - RECOVERY_SECONDS - 1
        # The last change of each file, and when it was noticed. File times are only compared with each other,
        # because the machine's clock may be changed.
        self.changes: dict[str, tuple[int, float]] = {}

    def complaint(self, now: float) -> str:
        # Checked in each round, so that it is known since when.
        if self._all_busy(now):
            self.were_busy = now
        for sign, meaning in (("guard", "its guard has stopped"), ("jobs", "no job completes")):
            age, first = self._age(sign, now)
            if age <= (FIRST_SIGN_SECONDS if first else STALE_SECONDS):
                continue
            if sign == "jobs" and now - self.were_busy <= RECOVERY_SECONDS:
                continue
            if self.is_locked():
                self.was_locked = now
            if age > LOCKED_SECONDS or now - self.was_locked > RECOVERY_SECONDS:
                return f"{meaning}, for {age:.0f} s"
        return ""

    def forgive(self, now: float) -> None:
        """Start counting again at `now`, because the machine or this process was asleep."""
        self.started = now
        self.changes = {sign: (changed, now) for sign, (changed, _) in self.changes.items()}

    def _age(self, sign: str, now: float) -> tuple[float, bool]:
        """Return the seconds since the file last changed, and whether it has never existed."""
        try:
            changed = (self.directory / sign).stat().st_mtime_ns
        except OSError:
            changed = 0
        last, since = self.changes.get(sign, (0, self.started))
        if changed != last:
            self.changes[sign] = (changed, now)
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
    """Requests something cheap from the web server, again and again, without waiting for the response.

    address: of the server. path: what to request.
    """

    def __init__(self, address: tuple[str, int], path: str, *, started: float) -> None:
        self.address = address
        self.request = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        self.started = started
        self.answered = 0.0
        self._ask_at = 0.0
        self._socket: socket.socket | None = None
        self._is_sent = False

    def complaint(self, now: float) -> str:
        if self._socket is None and now >= self._ask_at:
            self._connect(now)
        if self._socket is not None and self._has_ended(self._socket, now):
            self.end()
        age = now - (self.answered or self.started)
        if age > (STALE_SECONDS if self.answered else FIRST_SIGN_SECONDS):
            return f"no response for {age:.0f} s"
        return ""

    def forgive(self, now: float) -> None:
        self.started = now
        self.answered = self.answered and now

    def end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """The descriptor of the connection, or -1."""
        return self._socket.fileno() if self._socket else -1

    def _connect(self, now: float) -> None:
        self._ask_at = now + (3 if self.answered else 0)
        self._is_sent, self._asked_at = False, now
        self._socket = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET)
        self._socket.setblocking(False)
        self._socket.connect_ex(self.address)

    def _has_ended(self, connection: socket.socket, now: float) -> bool:
        """Whether the server has responded, or the connection is of no use."""
        try:
            if not self._is_sent:
                connection.send(self.request)
                self._is_sent = True
            if connection.recv(100):
                self.answered = now
        except BlockingIOError:
            return now - self._asked_at > 5
        except OSError:
            pass
        return True


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
