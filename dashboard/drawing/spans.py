"""The length of time that each bar of a drawing covers, so that a drawing of days has as few bars as one of
minutes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from scheduling.core import clock

# The most bars of a drawing.
BARS = 60
# The spans that a bar may cover; the first that gives few enough bars is used.
SPANS = tuple(minutes * clock.MINUTE for minutes in (1, 15, 60, 360, 1440, 7 * 1440, 30 * 1440, 365 * 1440))


def span_of(minutes: Sequence[datetime], *, at_least: timedelta = clock.MINUTE) -> timedelta:
    """Return the span that a bar has to cover so that at most BARS contain all of these minutes."""
    for span in SPANS:
        if span >= at_least and len({start_of(minute, span) for minute in minutes}) <= BARS:
            return span
    return SPANS[-1]


def start_of(at: datetime, span: timedelta) -> datetime:
    """Return the start of the span that contains `at`."""
    return at - (at - clock.EPOCH) % span
