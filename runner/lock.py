"""One runner for each DATA_DIR. Standard library only.

There are two locks: one that only the runner has, and one that it shares with its keeper. So the next runner
can tell one that is running from one that was killed and whose keeper is still stopping its children. The
kernel releases a lock when the last process that has it ends, however it ends.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

# How long a keeper may take to stop what a killed runner left behind, and a margin.
PATIENCE_SECONDS = 30


class AlreadyRunning(Exception):
    """Another runner is using this data directory."""

    def __init__(self, data_dir: Path, owner: str) -> None:
        super().__init__(f"Quarterdeck is already running on this data ({owner}): {data_dir}")


def take(data_dir: Path) -> tuple[int, int]:
    """Lock `data_dir` for this process. Returns the descriptors: of its own lock, and of the keeper's.

    Raises AlreadyRunning. If an earlier runner was killed, waits until its keeper has finished.
    """
    own = _open(data_dir / "runner.lock")
    if not _try_lock(own):
        owner = os.pread(own, 20, 0).decode("ascii", "replace")
        os.close(own)
        raise AlreadyRunning(data_dir, f"process {owner}")
    os.ftruncate(own, 0)
    os.pwrite(own, str(os.getpid()).encode(), 0)

    shared = _open(data_dir / "keeper.lock")
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not _try_lock(shared):
        if time.monotonic() > give_up_at:
            raise AlreadyRunning(data_dir, "an earlier runner was killed, and its keeper does not end")
        time.sleep(0.1)
    return own, shared


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
