"""Whether the clock that everything is planned by can be trusted just now.

A clock that jumps by an hour and comes back would leave IDs an hour away: all that waits seems late, and is given
another minute after it. So what moves, ends or removes something waits until the clock has been steady for a while.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

# More than any correction of a clock that runs.
JUMP = timedelta(seconds=20)
# A jump that lasts longer is the new time: a host that had started with a wrong clock, say.
SETTLED_AFTER_SECONDS = 180.0


def seconds_since_boot() -> float:
    """Return seconds that go on while a machine sleeps, so that its waking up is no jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ClockWatch:
    """Compares a clock with seconds that never jump."""

    def __init__(self, seconds: Callable[[], float] = seconds_since_boot) -> None:
        self._seconds = seconds
        # When the steady seconds were 0, by the clock.
        self._origin: datetime | None = None
        # When a jump was noticed, in steady seconds.
        self._jumped_at: float | None = None

    def is_steady(self, at: datetime) -> bool:
        """Whether the clock, which says `at`, goes on as it did."""
        seconds = self._seconds()
        origin = at - timedelta(seconds=seconds)
        if self._origin is None or abs(origin - self._origin) <= JUMP:
            self._origin, self._jumped_at = origin, None
            return True
        if self._jumped_at is None:
            self._jumped_at = seconds
        if seconds - self._jumped_at < SETTLED_AFTER_SECONDS:
            return False
        self._origin, self._jumped_at = origin, None
        return True
