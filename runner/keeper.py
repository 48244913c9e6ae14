"""Stops the children of a supervisor that was killed.

The supervisor starts it in a session of its own, with a pipe as its standard input, and writes to it which
sessions exist: "+1234" and "-1234", one a line. When the pipe closes, every session still on the list is told
to stop, and is killed a little later. Meanwhile the keeper keeps the lock on DATA_DIR, so that the next
runner waits for it. Standard library only, and nothing of this project: `python -S -E keeper.py`.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

GRACE_SECONDS = 8


def main() -> None:
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
    end(sessions)


def end(sessions: set[int]) -> None:
    """Ask the main process of each session to stop, and kill the sessions that still exist after a while."""
    for session in sessions:
        signal_quietly(os.kill, session, signal.SIGTERM)
    give_up_at = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < give_up_at and any(signal_quietly(os.killpg, each, 0) for each in sessions):
        time.sleep(0.1)
    for session in sessions:
        signal_quietly(os.killpg, session, signal.SIGKILL)


def signal_quietly(send: Callable[[int, int], None], target: int, number: int) -> bool:
    """Send a signal. Returns whether the target exists."""
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
