"""Work in slices until the time is up: a job gives others their turn, and a click is answered."""

import time
from collections.abc import Callable


class TimeLimit:
    """Seconds that somebody may go on for, from now. Checked between slices, each of which is committed."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ends = monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return self._monotonic() > self._ends

    def extend_to(self, seconds: float) -> None:
        """Leave at least so many seconds from now on."""
        self._ends = max(self._ends, self._monotonic() + seconds)

    def is_over_by(self, seconds: float) -> bool:
        """Whether it ended so many seconds ago."""
        return self._monotonic() > self._ends + seconds
