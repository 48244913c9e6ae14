"""How long a span each bar of a drawing covers, so that a drawing of days has as few bars as one of minutes."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from scheduling.core import clock

# A drawing has no more bars than this.
BARS = 60
# What a bar may span: the first by which there are no more.
SPANS = tuple(minutes * clock.MINUTE for minutes in (1, 15, 60, 360, 1440, 7 * 1440, 30 * 1440, 365 * 1440))


def span_of(minutes: Sequence[datetime], *, at_least: timedelta = clock.MINUTE) -> timedelta:
    """Return what a bar is to span so that at most BARS hold all of these minutes."""
    for span in SPANS:
        if span >= at_least and len({start_of(minute, span) for minute in minutes}) <= BARS:
            return span
    return SPANS[-1]


def start_of(at: datetime, span: timedelta) -> datetime:
    """Return when the span that contains `at` begins."""
    return at - (at - clock.EPOCH) % span
