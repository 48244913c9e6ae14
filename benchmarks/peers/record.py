"""The job that every peer runs: it notes its number and the time, and then takes as long as it is told.

The notes are what all figures come from, whatever a queue itself says: a line of JSON for each start, appended to
PEER_RECORD by one write, so that lines of several processes don't mix. A killed process loses none.
"""

import os
import time
from collections.abc import Sequence
from functools import cache
from typing import Any


@cache
def _file() -> int:
    return os.open(os.environ["PEER_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(number: int, at: float) -> None:
    os.write(_file(), b"[%d, %.6f]\n" % (number, at))


def start(number: int) -> None:
    """The job."""
    note(number, time.time())
    if seconds := float(os.environ.get("PEER_JOB_SECONDS", "0")):
        time.sleep(seconds)


def start_batch(requests: Sequence[Any]) -> list[None]:
    """The same for Quarterdeck's handler `python`."""
    for request in requests:
        start(request.user_id - 1)
    return [None] * len(requests)
