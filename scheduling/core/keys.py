"""Keys that are places: what runs earlier in a queue has the smaller key.

    window_id     = queue_id << 22 | quarters since 1970   (queues 1 to 8191, until 2089)
    bucket_id     = window_id << 4 | k                      (k 0 to 14)
    assignment id = bucket_id << 24 | ordinal               (16,777,216 a bucket, never used again)

The quarters are those of the window's `starts_at`, the start of the quarter in which it takes IDs in; bucket
k's minute is 15 + k minutes after it. So the claims of a minute, and a pruned day, are ranges of keys, and
the largest key is a 63-bit number that every database holds.

Pure. ValueError for whatever is out of range. Functions that end in `_number` speak of whole minutes since
1970 in place of datetimes, for paths that run once an ID. Source: DATA_MODEL.md, "Key = place".
"""

from datetime import datetime, timedelta

from scheduling.core import clock

QUEUES = 1 << 13
QUARTERS = 1 << 22
BUCKETS = clock.BUCKETS
ORDINALS = 1 << 24

_QUARTER_BITS = 22
_BUCKET_BITS = 4
_ORDINAL_BITS = 24


def _within(name: str, number: int, first: int, end: int) -> int:
    if not first <= number < end:
        raise ValueError(f"{name} must be {first} to {end - 1}, not {number}")
    return number


def _window(window_id: int) -> int:
    # Queue 0 doesn't exist, so a bare quarter, or a key that lost its upper bits, is refused.
    return _within("window id", window_id, 1 << _QUARTER_BITS, QUEUES << _QUARTER_BITS)


def _bucket(bucket_id: int) -> int:
    _window(bucket_id >> _BUCKET_BITS)
    # Four bits hold 16 numbers, a window 15 buckets.
    _within("bucket index", bucket_id & 15, 0, BUCKETS)
    return bucket_id


def window_id(queue_id: int, starts_at: datetime) -> int:
    """Return the key of the queue's window whose own quarter begins at `starts_at` (aware, on a quarter)."""
    quarters = (clock.aligned(starts_at) - clock.EPOCH) // clock.QUARTER
    return _within("queue id", queue_id, 1, QUEUES) << _QUARTER_BITS | _within(
        "quarter", quarters, 0, QUARTERS
    )


def bucket_id(window_id: int, k: int) -> int:
    """Return the key of the window's bucket `k`, 0 to 14."""
    return _window(window_id) << _BUCKET_BITS | _within("bucket index", k, 0, BUCKETS)


def assignment_id(bucket_id: int, ordinal: int) -> int:
    """Return the key of the `ordinal`-th place ever handed out in the bucket, from 0."""
    return _bucket(bucket_id) << _ORDINAL_BITS | _within("ordinal", ordinal, 0, ORDINALS)


def queue_of_window(window_id: int) -> int:
    """Return the queue's id."""
    return _window(window_id) >> _QUARTER_BITS


def starts_at_of_window(window_id: int) -> datetime:
    """Return when the window's own quarter begins, aware, UTC."""
    return clock.EPOCH + (_window(window_id) & QUARTERS - 1) * clock.QUARTER


def window_of_bucket(bucket_id: int) -> int:
    """Return the key of the window that the bucket belongs to."""
    return _bucket(bucket_id) >> _BUCKET_BITS


def index_of_bucket(bucket_id: int) -> int:
    """Return the bucket's index in its window, 0 to 14."""
    return _bucket(bucket_id) & 15


def queue_of_bucket(bucket_id: int) -> int:
    """Return the queue's id."""
    return _bucket(bucket_id) >> _BUCKET_BITS + _QUARTER_BITS


def bucket_of_assignment(assignment_id: int) -> int:
    """Return the key of the bucket that the assignment lies in."""
    return _bucket(assignment_id >> _ORDINAL_BITS)


def ordinal_of_assignment(assignment_id: int) -> int:
    """Return which of its bucket's places the assignment has, from 0."""
    _bucket(assignment_id >> _ORDINAL_BITS)
    return assignment_id & ORDINALS - 1


def range_of_bucket(bucket_id: int) -> tuple[int, int]:
    """Return the first and the last assignment key of the bucket, both inclusive."""
    first = _bucket(bucket_id) << _ORDINAL_BITS
    return first, first + ORDINALS - 1


def minute_number_of_bucket(bucket_id: int) -> int:
    """Return the minute in which the bucket runs, in whole minutes since 1970."""
    quarters = _bucket(bucket_id) >> _BUCKET_BITS & QUARTERS - 1
    return (quarters + 1) * BUCKETS + (bucket_id & 15)


def minute_of_bucket(bucket_id: int) -> datetime:
    """Return the start of the minute in which the bucket runs, aware, UTC."""
    return clock.EPOCH + timedelta(minutes=minute_number_of_bucket(bucket_id))


def bucket_at_number(queue_id: int, minute_number: int) -> int:
    """Return the key of the queue's bucket that runs in a minute, given in whole minutes since 1970."""
    quarters, k = divmod(minute_number, BUCKETS)
    _within("queue id", queue_id, 1, QUEUES)
    # What runs in a quarter belongs to the window of the quarter before.
    _within("quarter", quarters - 1, 0, QUARTERS)
    return (queue_id << _QUARTER_BITS | quarters - 1) << _BUCKET_BITS | k


def bucket_at(queue_id: int, minute: datetime) -> int:
    """Return the key of the queue's bucket that runs in the minute that starts at `minute` (aware)."""
    if clock.minute_start(minute) != minute:
        raise ValueError(f"{minute.isoformat()} is not the start of a minute")
    return bucket_at_number(queue_id, (minute - clock.EPOCH) // clock.MINUTE)
