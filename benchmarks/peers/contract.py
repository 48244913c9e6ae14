"""What every peer's program can be told, on its command line; it answers with a line of JSON.

    setup             make the tables
    enqueue COUNT RPM numbers 0 to COUNT - 1 as jobs: {"seconds": ...} until the last was committed
    add COUNT         the same one by one, each committed by itself: {"seconds": [...]}
    work RPM          run jobs until a signal ends it
    pending           how many jobs the queue itself says haven't ended: {"count": ...}

RPM 0 is "as fast as it goes". With another one, a peer that has a limit of its own starts jobs at that rate, and a peer
that has none is given a start for each job, evenly from PEER_START (seconds since 1970).

The environment names PEER_DATABASE_URL, PEER_REDIS_URL, PEER_RECORD and PEER_JOB_SECONDS (`record.py`).
"""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

DATABASE_URL = os.environ.get("PEER_DATABASE_URL", "")
REDIS_URL = os.environ.get("PEER_REDIS_URL", "")
# How many jobs a peer may run at the same time.
AT_ONCE = 10
BATCH = 1_000
# After how long a job whose worker is gone is given to another one, where a peer lets one choose.
RECOVERY_SECONDS = 15


def start_of(number: int, rpm: int) -> datetime:
    """When a job shall start that is given its start."""
    return datetime.fromtimestamp(float(os.environ["PEER_START"]) + number * 60 / rpm, UTC)


def batches(count: int) -> list[range]:
    return [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]


def main(
    *,
    setup: Callable[[], None],
    enqueue: Callable[[int, int], None],
    add: Callable[[int], None],
    work: Callable[[int], None],
    pending: Callable[[], int],
) -> None:
    """Do what the command line says. add: enqueues one job."""
    verb, arguments = sys.argv[1], [int(argument) for argument in sys.argv[2:]]
    if verb == "setup":
        setup()
    elif verb == "enqueue":
        began = time.perf_counter()
        enqueue(*arguments)
        _print({"seconds": time.perf_counter() - began})
    elif verb == "add":
        # The first one opens connections.
        seconds = [_seconds(add, number) for number in range(arguments[0] + 1)][1:]
        _print({"seconds": seconds})
    elif verb == "work":
        work(*arguments)
    elif verb == "pending":
        _print({"count": pending()})
    else:
        raise SystemExit(f"{verb} is none of setup, enqueue, add, work, pending")


def _seconds(act: Callable[[int], None], number: int) -> float:
    began = time.perf_counter()
    act(number)
    return time.perf_counter() - began


def _print(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
