"""One runner on one DATA_DIR. Standard library only.

Two locks: one that the runner holds alone, and one that it shares with its keeper. So whoever comes next can
tell a runner that is at work from one that was killed and whose keeper is still clearing up. The kernel gives
a lock back when the last process that holds it has ended, however it ended.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

# As long as a keeper may take to end what a killed runner left behind, and a margin.
PATIENCE_SECONDS = 30


class AlreadyRunning(Exception):
    """Another runner is at work on this data."""

    def __init__(self, data_dir: Path, holder: str) -> None:
        super().__init__(f"Quarterdeck is already running on this data (process {holder}): {data_dir}")


def take(data_dir: Path) -> int:
    """Lock `data_dir` for this process, and give the descriptor of the lock that its keeper shall hold too.

    Raises AlreadyRunning. Where a runner was killed, waits until its keeper is done.
    """
    own = _open(data_dir / "runner.lock")
    if not _locked(own):
        holder = os.pread(own, 20, 0).decode("ascii", "replace")
        os.close(own)
        raise AlreadyRunning(data_dir, holder)
    os.ftruncate(own, 0)
    os.pwrite(own, str(os.getpid()).encode(), 0)

    shared = _open(data_dir / "keeper.lock")
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not _locked(shared):
        if time.monotonic() > give_up_at:
            raise AlreadyRunning(data_dir, "that was killed, and whose keeper does not end")
        time.sleep(0.1)
    return shared


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
