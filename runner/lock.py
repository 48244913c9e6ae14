"""One runner on one DATA_DIR."""

import fcntl
import os
import time
from pathlib import Path

# As long as a keeper may take to end what a killed runner left behind.
PATIENCE_SECONDS = 40


class AlreadyRunning(Exception):
    """Another runner is at work on this data."""

    def __init__(self, data_dir: Path, holder: int) -> None:
        who = f" (process {holder})" if holder else ""
        super().__init__(f"Quarterdeck is already running on this data{who}: {data_dir}")


def take(data_dir: Path) -> int:
    """Lock `data_dir` for this process and whoever inherits the descriptor that comes back.

    The lock ends with the last of them, however they end. Raises AlreadyRunning; where the runner that
    took it was killed and its keeper is still clearing up, waits for that first.
    """
    descriptor = os.open(data_dir / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = _holder(descriptor)
            if _lives(holder) or time.monotonic() > give_up_at:
                os.close(descriptor)
                raise AlreadyRunning(data_dir, holder) from None
            time.sleep(0.2)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _holder(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).decode("ascii", "replace")
    return int(text) if text.isdigit() else 0


def _lives(pid: int) -> bool:
    # Zero: the holder has locked and not written its number yet, so it has only just begun.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
