"""Windows and minutes by the clock alone.

A window is one quarter-hour of one queue, `[starts_at, starts_at + 15 min)`, aligned on UTC quarters. It
takes IDs in during that quarter and runs in the next one: bucket k of the window that starts at 12:00 runs in
minute 12:15 + k. Its state follows from the clock, so nobody has to come and close it.

Pure: every function gets its time as an argument, aware; results are in UTC. A naive time raises
ValueError, since nobody can know its zone.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
BUCKETS = 15

# A minute's content is final this long before it, so that the minute workers have read it when it begins.
SEAL_SECONDS = 2
# A window takes no list in its last seconds, however short the list is.
CLOSING = timedelta(seconds=5)
# A job that is queued now has started by then.
JOB_START = timedelta(seconds=1)

_MICROSECOND = timedelta(microseconds=1)


def iso(at: datetime | None, timespec: str = "auto") -> str | None:
    """Return a time as the API and every file have it: ISO 8601 in UTC, with Z. None where there is none."""
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z") if at else None


class WindowState(StrEnum):
    """What a window does at some moment; each follows the one before it, by the clock."""

    FUTURE = "future"
    OPEN = "open"
    RUNNING = "running"
    ENDED = "ended"


def epoch_microseconds(at: datetime) -> int:
    """Whole microseconds since 1970, exactly: a float of seconds would lose the last of them."""
    if at.utcoffset() is None:
        raise ValueError(f"{at!r} has no time zone")
    return (at - EPOCH) // _MICROSECOND


def _floor(at: datetime, step: timedelta) -> datetime:
    """Return the last whole `step` since 1970 that is not after `at`."""
    past = epoch_microseconds(at) % (step // _MICROSECOND)
    return at.astimezone(UTC) - timedelta(microseconds=past)


def minute_start(at: datetime) -> datetime:
    """Return the start of the minute that contains `at`."""
    return _floor(at, MINUTE)


def minute_number(minute: datetime) -> int:
    """Return the minute in whole minutes since 1970, as bucket keys and jobs have it."""
    return (minute - EPOCH) // MINUTE


def minute_of(number: int) -> datetime:
    """Return the start of a minute that is given in whole minutes since 1970."""
    return EPOCH + number * MINUTE


def quarter_start(at: datetime) -> datetime:
    """Return the start of the UTC quarter-hour that contains `at`."""
    return _floor(at, QUARTER)


def aligned(starts_at: datetime) -> datetime:
    """Return `starts_at` in UTC; ValueError where no window starts at it."""
    start = quarter_start(starts_at)
    if start != starts_at:
        raise ValueError(f"no window starts at {starts_at.isoformat()}")
    return start


def open_window_start(at: datetime) -> datetime:
    """Return the start of the window whose own quarter it is: the one that takes lists in at `at`."""
    return quarter_start(at)


def running_window_start(at: datetime) -> datetime:
    """Return the start of the window whose buckets run in the quarter that contains `at`."""
    return quarter_start(at) - QUARTER


def ends_at(starts_at: datetime) -> datetime:
    """Return the end of the window's own quarter; it is also when its first minute begins."""
    return aligned(starts_at) + QUARTER


def runs_at(starts_at: datetime) -> datetime:
    """Return the start of bucket 0's minute."""
    return ends_at(starts_at)


def minutes(starts_at: datetime) -> tuple[datetime, ...]:
    """Return the starts of the 15 minutes in which the window's buckets run."""
    first = runs_at(starts_at)
    return tuple(first + k * MINUTE for k in range(BUCKETS))


def label(starts_at: datetime) -> int:
    """Return 15, 30, 45 or 60: the minute of the hour in which the window's own quarter ends."""
    return aligned(starts_at).minute + 15


def state(starts_at: datetime, at: datetime) -> WindowState:
    """Return what the window that starts at `starts_at` does at `at`."""
    start = aligned(starts_at)
    epoch_microseconds(at)
    if at < start:
        return WindowState.FUTURE
    if at < start + QUARTER:
        return WindowState.OPEN
    if at < start + 2 * QUARTER:
        return WindowState.RUNNING
    return WindowState.ENDED


def write_time(*, ids: int, unwritten: Iterable[int], rate: int) -> timedelta:
    """Return how long writing a list of `ids` takes beside the lists that are still being written.

    unwritten: for each of those, how many of its IDs have no row yet. rate: IDs written a second, >= 1.
    Slices take turns, so of each other list at most as many go first as this one has: small lists don't wait
    behind large ones. Rounded up to the microsecond.
    """
    if ids < 0 or rate < 1:
        raise ValueError(f"ids must be >= 0 and rate >= 1, not {ids} and {rate}")
    total = ids
    for count in unwritten:
        if count < 0:
            raise ValueError(f"a list can't have {count} unwritten IDs")
        total += min(count, ids)
    return timedelta(microseconds=-(-total * 1_000_000 // rate))


def closes_at(starts_at: datetime, *, ids: int, unwritten: Iterable[int], rate: int) -> datetime:
    """Return the moment from which on the window takes no list of `ids` any more.

    Arguments as for write_time. It can lie before the window's own quarter: then only a list that is
    accepted earlier can still be written in time.
    """
    return ends_at(starts_at) - CLOSING - write_time(ids=ids, unwritten=unwritten, rate=rate)


def first_window(
    at: datetime,
    *,
    ids: int,
    unwritten: Iterable[int],
    rate: int,
    not_before: datetime | None = None,
) -> datetime:
    """Return `starts_at` of the first window that may take a list of `ids` accepted at `at`.

    That is the first, from the open one on, that isn't closed for it (`at < closes_at`), and that runs no
    earlier than `not_before`: its first minute begins at that time or later.
    """
    # at < ends_at - CLOSING - write time says the same as ends_at > at + CLOSING + write time, and the
    # first window that ends after a moment is the one whose quarter contains that moment.
    start = quarter_start(at + CLOSING + write_time(ids=ids, unwritten=unwritten, rate=rate))
    if not_before is None:
        return start
    floor = quarter_start(not_before)
    runs_no_earlier = floor if floor == not_before else floor + QUARTER
    return max(start, runs_no_earlier - QUARTER)


def first_writable_minute(at: datetime, *, ids: int, unwritten: Iterable[int], rate: int) -> datetime:
    """Return the first minute that isn't sealed before the rows of a list of `ids` are written.

    Other arguments as for write_time. A job of its own writes the rows, and some moments later than now.
    """
    return next_unsealed_minute(at + JOB_START + write_time(ids=ids, unwritten=unwritten, rate=rate))


def sealed_at(minute: datetime, *, seal_seconds: int = SEAL_SECONDS) -> datetime:
    """Return the moment from which on nothing comes into the minute any more."""
    return minute_start(minute) - timedelta(seconds=seal_seconds)


def next_unsealed_minute(at: datetime, seal_seconds: int = SEAL_SECONDS) -> datetime:
    """Return the first minute that isn't sealed at `at`: its start minus `seal_seconds` is still to come."""
    return minute_start(at + timedelta(seconds=seal_seconds)) + MINUTE
