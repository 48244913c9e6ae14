"""Find and kill processes of an earlier run whose runner and keeper were both killed. Standard library only."""

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
    while (found := marked(data_dir)) and time.monotonic() < give_up_at:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def marked(data_dir: Path) -> list[int]:
    """Return the processes, except this one, that were started with the mark of `data_dir` in their environment."""
    mark = f"{MARK}={data_dir}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        with suppress(OSError):
            if pid != os.getpid() and mark in (directory / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found
