"""Work in slices until the time is up, so that a job lets others have their turn, and a click gets its response."""

import time
from collections.abc import Callable


class TimeLimit:
    """How many seconds work may continue from now on. It is checked between slices, each of which is committed."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ends = monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return self._monotonic() > self._ends

    def extend_to(self, seconds: float) -> None:
        """Make sure that at least `seconds` are left from now on."""
        self._ends = max(self._ends, self._monotonic() + seconds)

    def is_over_by(self, seconds: float) -> bool:
        """Whether the time has been up for more than `seconds`."""
        return self._monotonic() > self._ends + seconds
