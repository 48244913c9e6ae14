"""The offset of this host's clock from the database's, and the round-trip time to the database."""

import socket
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.utils import timezone

from scheduling import store
from scheduling.core import limits

READ_SECONDS = 1.0
# What another reader asks for anyway is used a little sooner, so that no question is asked only for this.
TAKE_SECONDS = 0.4
# The shortest of this many round trips counts: on a busy host, some take long.
READINGS = 10
# With fewer readings, nothing is reported.
FEWEST_READINGS = 3


def host_name() -> str:
    return socket.gethostname()


class Reading(NamedTuple):
    """The database's clock, read once. offset: how far this host's clock is ahead of it; behind it is negative."""

    offset: timedelta
    round_trip: timedelta


def read(ask: Callable[[], datetime] | None = None) -> Reading:
    """Ask the database for its time. Raises DatabaseError."""
    began = time.monotonic()
    at, host = (ask or store.now)(), timezone.now()
    round_trip = timedelta(seconds=time.monotonic() - began)
    return Reading(host - at - round_trip / 2, round_trip)


class HostWatch:
    """The latest readings of this host."""

    def __init__(
        self, read: Callable[[], Reading] = read, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._monotonic = read, monotonic
        self._readings: deque[Reading] = deque(maxlen=READINGS)
        self._read_at = float("-inf")

    def offer(self, reading: Reading) -> None:
        """Take a reading that somebody has made anyway, if the last one isn't quite new."""
        if self._monotonic() - self._read_at >= TAKE_SECONDS:
            self._take(reading)

    def _take(self, reading: Reading) -> None:
        self._read_at = self._monotonic()
        self._readings.append(reading)

    def look(self) -> Reading:
        """Return the best of the last readings, with a new one each second. Raises DatabaseError."""
        if self._monotonic() - self._read_at >= READ_SECONDS:
            self._take(self._read())
        while len(self._readings) < FEWEST_READINGS:
            self._take(self._read())
        best = min(self._readings, key=lambda reading: reading.round_trip)
        # The clock may have been set since that: what the newest says counts, if it is exact enough.
        newest = self._readings[-1]
        is_exact = newest.round_trip < best.round_trip + limits.CLOCK_OFFSET_REPORTED
        return Reading((newest if is_exact else best).offset, best.round_trip)


def is_off(offset: timedelta) -> bool:
    """Whether a host's clock is so far from the database's that the host serves no minutes."""
    return abs(offset) > limits.CLOCK_OFFSET_ALLOWED


def is_far(round_trip: timedelta) -> bool:
    """Whether a host is so far from the database that it serves no minutes."""
    return round_trip > limits.ROUND_TRIP_ALLOWED
