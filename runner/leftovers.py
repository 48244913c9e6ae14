"""What an earlier run left behind: processes, and files in the spool. Standard library only."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "QUARTERDECK_RUN"
PATIENCE_SECONDS = 10


def kill(data_dir: Path) -> None:
    """Kill every process that a runner on `data_dir` started. Call it after taking the lock.

    Reads /proc; where there is none (macOS), only the keeper stops leftover processes.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while (pids := marked(data_dir)) and time.monotonic() < give_up_at:
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def clear_spool(spool_dir: Path, *, older_than: float) -> None:
    """Remove files of `spool_dir` that nobody has written to for this many seconds: their process was killed."""
    before = time.time() - older_than
    for path in spool_dir.glob("*"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_mtime <= before:
                path.unlink()


def make_private(database: Path) -> None:
    """Take other users' access to a SQLite file that an earlier release or a backup made readable."""
    for path in (database, *(database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(OSError):
            path.chmod(0o600)


def marked(data_dir: Path) -> list[int]:
    """Return the processes, except this one, that were started with the mark of `data_dir` in their environment."""
    mark = f"{MARK}={data_dir}".encode()
    pids = []
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        with suppress(OSError):
            if pid != os.getpid() and mark in (directory / "environ").read_bytes().split(b"\0"):
                pids.append(pid)
    return pids
