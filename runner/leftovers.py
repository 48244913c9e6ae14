"""Processes of an earlier run whose runner and keeper were both killed. Standard library only."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "QUARTERDECK_RUN"
PATIENCE_SECONDS = 10


def kill(data_dir: Path) -> None:
    """Kill every process that was started by a runner on `data_dir`. Call it with the lock held.

    Looks into /proc; where there is none (macOS) the keeper has to be enough.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while (found := marked(data_dir)) and time.monotonic() < give_up_at:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def marked(data_dir: Path) -> list[int]:
    """The processes, but for this one, that began with the mark of `data_dir` in their environment."""
    mark = f"{MARK}={data_dir}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        with suppress(OSError):
            if pid != os.getpid() and mark in (directory / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found
