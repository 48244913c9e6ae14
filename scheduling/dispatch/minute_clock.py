"""The clocks that dispatch goes by. A simulation passes in its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from scheduling.core import limits

# The clock is read this often before a minute: the reading that was interrupted least counts.
_READINGS = 3
_SECOND = timedelta(seconds=1)


def host_time() -> datetime:
    """Return what this host's clock says, aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clocks:
    """Where a minute worker gets its time from, and how it waits."""

    # The database's clock, aware, UTC: all hosts go by it.
    now: Callable[[], datetime]
    # This host's clock, aware, UTC.
    host: Callable[[], datetime] = host_time
    # Seconds that never jump. An event loop that makes requests has to run on the same clock.
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Reading(NamedTuple):
    """The database's clock, read once."""

    # How long the answer took, in seconds.
    round_trip: float
    # The minute's start on the monotonic clock, as the database's clock says; right to half of the round trip.
    anchor: float
    # How far this host's clock is ahead of the database's; behind it is negative.
    host_offset: timedelta


class MinuteClock:
    """Seconds since a minute's start, by the database's clock, counted on the monotonic clock in between.

    So hosts whose clocks differ start their requests at the same slots.
    """

    def __init__(self, minute: datetime, clocks: Clocks) -> None:
        self.minute, self._clocks = minute, clocks
        best = min(self._read() for _ in range(_READINGS))
        # The minute's start on the monotonic clock.
        self.anchor = best.anchor
        self.host_offset = best.host_offset
        self.round_trip = timedelta(seconds=best.round_trip)

    def measure_distance(self, readings: int) -> timedelta:
        """Measure a few more round trips to the database; return the shortest, since on a busy host some take long."""
        self.round_trip = min(
            self.round_trip, *(timedelta(seconds=self._read().round_trip) for _ in range(readings))
        )
        return self.round_trip

    def elapsed(self) -> float:
        """Return the seconds since the minute's start; before it they are negative."""
        return self._clocks.monotonic() - self.anchor

    def now(self) -> datetime:
        """Return the time by the database's clock, without asking it."""
        return self.minute + timedelta(seconds=self.elapsed())

    def synchronize(self) -> bool:
        """Follow the database's clock; return whether that was possible.

        Not where it has jumped since the minute began: this minute is counted to its end as it began.
        """
        reading = self._read()
        self.host_offset = reading.host_offset
        if abs(reading.anchor - self.anchor) > limits.CLOCK_OFFSET_ALLOWED / _SECOND + reading.round_trip:
            return False
        # As near to what it was as the reading allows: its error is at most half of the round trip.
        earliest, latest = (reading.anchor + sign * reading.round_trip / 2 for sign in (-1, 1))
        self.anchor = min(max(self.anchor, earliest), latest)
        return True

    def _read(self) -> Reading:
        before = self._clocks.monotonic()
        now, host = self._clocks.now(), self._clocks.host()
        after = self._clocks.monotonic()
        middle = (before + after) / 2
        host_offset = host - now - timedelta(seconds=(after - before) / 2)
        return Reading(after - before, middle - (now - self.minute) / _SECOND, host_offset)
