"""The clocks that dispatch goes by. A simulation hands in its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def host_time() -> datetime:
    """Return what this host's clock says, aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clocks:
    """Where a minute worker gets its time from, and how it waits."""

    # The database's clock, aware, UTC: leases and due times of all hosts go by it.
    now: Callable[[], datetime]
    # This host's clock, aware, UTC.
    host: Callable[[], datetime] = host_time
    # Seconds that never jump. An event loop that makes requests has to run on the same clock.
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class MinuteClock:
    """Seconds since a minute's start: a host's time is read once, then the monotonic clock."""

    # The minute's start on the monotonic clock.
    anchor: float
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, minute: datetime, clocks: Clocks) -> "MinuteClock":
        """minute: its start."""
        readings = []
        for _ in range(5):
            before = clocks.monotonic()
            host = clocks.host()
            after = clocks.monotonic()
            since = (host - minute) / timedelta(seconds=1)
            readings.append((after - before, (before + after) / 2 - since))
        # The reading that was interrupted least.
        return cls(min(readings)[1], clocks.monotonic)

    def elapsed(self) -> float:
        """Return the seconds since the minute's start; before it they are negative."""
        return self.monotonic() - self.anchor
