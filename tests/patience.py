"""Waiting in tests: for a state, as long as a busy machine takes; for a border of time, until it has passed."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from scheduling.core import clock

# A busy machine takes this much longer than an idle one, and no more.
MOST_SECONDS = 180.0
# How long before a quarter-hour no test begins that asks for the time, none in a browser, and none that starts
# clusters: what a test does before the border and after it would be of two windows.
BEFORE_A_BORDER, BEFORE_A_BORDER_IN_BROWSERS, BEFORE_A_BORDER_WITH_PROCESSES = 45.0, 90.0, 150.0
# Below the ports that the system gives to whoever connects: those are taken at any moment.
PORTS = range(20_000, 30_000)


def wait_until(true: Callable[[], object], description: str, *, seconds: float = 0.0) -> None:
    """Return as soon as it is true; fail if that takes for ever. seconds: how long it takes on an idle machine."""
    limit = seconds + MOST_SECONDS
    until = time.monotonic() + limit
    while not true():
        assert time.monotonic() < until, f"not within {limit:.0f} s: {description}"
        time.sleep(0.02)


def seconds_to_border(at: datetime) -> float:
    """Return for how long the window that is open at `at` still takes lists, in seconds; at most 0 once it doesn't."""
    return (clock.quarter_start(at) + clock.QUARTER - clock.CLOSING - at).total_seconds()


def wait_out_a_border(least_seconds: float) -> None:
    """Wait until the next quarter-hour has begun if less than this is left of the present one."""
    at = datetime.now(UTC)
    if (remaining := seconds_to_border(at)) < least_seconds:
        # A little more, since clocks of processes and of databases are read one after the other.
        time.sleep(remaining + clock.CLOSING.total_seconds() + 0.2)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a free port of 127.0.0.1, for a server that takes its port as a number; nobody else is given the same.

    A port that was bound and closed again is free for all: another process may get it before the server does.
    """
    first = time.monotonic_ns()
    for number in range(len(PORTS)):
        port = PORTS[(first + number) % len(PORTS)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reservation, socket.socket() as probe:
            try:
                # Of UDP's ports, which nobody here uses: a sign to other tests for as long as it is bound.
                reservation.bind(("127.0.0.1", port))
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            probe.close()
            yield port
            return
    raise AssertionError("no port is free")
