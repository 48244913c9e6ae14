"""Keys that are places: what runs earlier in a queue has the smaller key.

    window_id     = queue_id << 22 | quarters since 1970   (queues 1 to 8191, until 2089)
    bucket_id     = window_id << 4 | k                      (k 0 to 14)
    assignment id = bucket_id << 24 | ordinal               (16,777,216 a bucket, never used again)

The quarters are those of the window's `starts_at`, the start of the quarter in which it takes IDs in; bucket
k's minute is 15 + k minutes after it. So the claims of a minute, and a pruned day, are ranges of keys, and
the largest key is a 63-bit number that every database holds.

Pure. ValueError for whatever is out of range. Functions that end in `_number` speak of whole minutes since
1970 in place of datetimes, for paths that run once an ID. Ranges include both ends, as BETWEEN does. What
begins with `sql_` is the same for a statement, given the name of a column. Nobody else knows the layout.
Source: docs/decisions.md, "The key is the place".
"""

from collections.abc import Iterable
from datetime import datetime

from scheduling.core import clock

QUEUES = 1 << 13
QUARTERS = 1 << 22
BUCKETS = clock.BUCKETS
ORDINALS = 1 << 24

_QUARTER_BITS = 22
_BUCKET_BITS = 4
# From the first bucket of a window to the first of the next one.
BUCKETS_STEP = 1 << _BUCKET_BITS
_ORDINAL_BITS = 24
# No window, and so no bucket, has a key from here on.
WINDOWS_END = QUEUES << _QUARTER_BITS
_FIRST_BUCKET, _BUCKETS_END = 1 << _QUARTER_BITS + _BUCKET_BITS, WINDOWS_END << _BUCKET_BITS


def _within(name: str, number: int, first: int, end: int) -> int:
    if not first <= number < end:
        raise ValueError(f"{name} must be {first} to {end - 1}, not {number}")
    return number


def _window(window_id: int) -> int:
    # Queue 0 doesn't exist, so a bare quarter, or a key that lost its upper bits, is refused.
    return _within("window id", window_id, 1 << _QUARTER_BITS, WINDOWS_END)


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


def in_queue(window_id: int, queue_id: int) -> int:
    """Return the key of another queue's window that has the same quarter."""
    return _within("queue id", queue_id, 1, QUEUES) << _QUARTER_BITS | _window(window_id) & QUARTERS - 1


def window_of_bucket(bucket_id: int) -> int:
    """Return the key of the window that the bucket belongs to."""
    return _bucket(bucket_id) >> _BUCKET_BITS


def range_of_window(window_id: int) -> tuple[int, int]:
    """Return the keys of the window's first and last bucket."""
    first = _window(window_id) << _BUCKET_BITS
    return first, first + BUCKETS - 1


def buckets_of_window(window_id: int) -> range:
    """Return the keys of the window's 15 buckets, in the order of time."""
    first, last = range_of_window(window_id)
    return range(first, last + 1)


def range_of_queue(queue_id: int) -> tuple[int, int]:
    """Return the smallest and the largest key that a bucket of the queue can have."""
    first = _within("queue id", queue_id, 1, QUEUES) << _QUARTER_BITS + _BUCKET_BITS
    return first, first + (QUARTERS << _BUCKET_BITS) - 1


def by_window(counts: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the sums of (bucket, count) as 15 numbers for each window that is met."""
    sums: dict[int, list[int]] = {}
    for bucket_id, count in counts:
        sums.setdefault(window_of_bucket(bucket_id), [0] * BUCKETS)[index_of_bucket(bucket_id)] += count
    return sums


def by_window_in_queue(counts: Iterable[tuple[int, int]], queue_id: int) -> dict[int, list[int]]:
    """Return the sums of (bucket, count), of any queues, by the windows of one queue that have the same quarters."""
    # Read by the ten thousand under a lock: the keys come from the database, so they aren't checked one by one.
    queue = _within("queue id", queue_id, 1, QUEUES) << _QUARTER_BITS
    sums: dict[int, list[int]] = {}
    for bucket_id, count in counts:
        window = queue | bucket_id >> _BUCKET_BITS & QUARTERS - 1
        row = sums.get(window)
        if row is None:
            row = sums[window] = [0] * BUCKETS
        row[bucket_id & 15] += count
    return sums


def index_of_bucket(bucket_id: int) -> int:
    """Return the bucket's index in its window, 0 to 14."""
    return _bucket(bucket_id) & 15


def queue_of_bucket(bucket_id: int) -> int:
    """Return the queue's id."""
    return _bucket(bucket_id) >> _BUCKET_BITS + _QUARTER_BITS


def bucket_of_assignment(assignment_id: int) -> int:
    """Return the key of the bucket that the assignment lies in."""
    # Once a row where minutes are claimed and lists edited: no call for what is right.
    bucket_id = assignment_id >> _ORDINAL_BITS
    if _FIRST_BUCKET <= bucket_id < _BUCKETS_END and bucket_id & 15 < BUCKETS:
        return bucket_id
    return _bucket(bucket_id)


def window_of_assignment(assignment_id: int) -> int:
    """Return the key of the window that the assignment lies in."""
    return bucket_of_assignment(assignment_id) >> _BUCKET_BITS


def ordinal_of_assignment(assignment_id: int) -> int:
    """Return which of its bucket's places the assignment has, from 0."""
    _bucket(assignment_id >> _ORDINAL_BITS)
    return assignment_id & ORDINALS - 1


def bucket_of_cursor(after: int) -> int:
    """Return the bucket in which the rows after a key begin. 0 is allowed: all rows come after it."""
    return after >> _ORDINAL_BITS


def first_bucket_from(window_id: int) -> int:
    """Return the smallest bucket key from a window on, as a border: 0 and WINDOWS_END will do."""
    return window_id << _BUCKET_BITS


def first_assignment_from(bucket_id: int) -> int:
    """Return the smallest assignment key from a bucket on, as a border: no bucket need have that key."""
    return bucket_id << _ORDINAL_BITS


def range_of_bucket(bucket_id: int) -> tuple[int, int]:
    """Return the first and the last assignment key of the bucket, both inclusive."""
    first = _bucket(bucket_id) << _ORDINAL_BITS
    return first, first + ORDINALS - 1


def range_of_buckets(first_bucket: int, last_bucket: int) -> tuple[int, int]:
    """Return the first and the last assignment key of the buckets from one to another."""
    return range_of_bucket(first_bucket)[0], range_of_bucket(last_bucket)[1]


def minute_number_of_bucket(bucket_id: int) -> int:
    """Return the minute in which the bucket runs, in whole minutes since 1970."""
    quarters = _bucket(bucket_id) >> _BUCKET_BITS & QUARTERS - 1
    return (quarters + 1) * BUCKETS + (bucket_id & 15)


def minute_of_bucket(bucket_id: int) -> datetime:
    """Return the start of the minute in which the bucket runs, aware, UTC."""
    return clock.minute_of(minute_number_of_bucket(bucket_id))


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
    return bucket_at_number(queue_id, clock.minute_number(minute))


def sql_bucket_of_assignment(column: str) -> str:
    """The bucket of the assignment whose key is in `column`."""
    return f"({column} >> {_ORDINAL_BITS})"


def sql_queue_of_bucket(column: str) -> str:
    """The queue of the bucket whose key is in `column`."""
    return f"({column} >> {_BUCKET_BITS + _QUARTER_BITS})"


def sql_first_assignment(bucket: str) -> str:
    """The smallest assignment key of a bucket."""
    return f"({bucket} << {_ORDINAL_BITS})"


def sql_in_bucket(assignment: str, bucket: str) -> str:
    """Whether the assignment lies in the bucket, each given by the column of its key; by an index of either."""
    return f"{assignment} >= {bucket} << {_ORDINAL_BITS} AND {assignment} < {bucket} + 1 << {_ORDINAL_BITS}"


def sql_bucket(window: str, k: str) -> str:
    """The bucket `k` of a window."""
    return f"({window} << {_BUCKET_BITS} | {k})"


def sql_first_bucket(queue: str, quarters: str) -> str:
    """The first bucket of a queue's window, given its quarter's number since 1970. Of 0: the queue's first."""
    return f"(({queue} * {QUARTERS} + {quarters}) * {BUCKETS_STEP})"


def sql_minute_number_of_assignment(column: str) -> str:
    """The minute in which it runs, in whole minutes since 1970."""
    quarters = f"({column} >> {_ORDINAL_BITS + _BUCKET_BITS} & {QUARTERS - 1})"
    return f"(({quarters} + 1) * {BUCKETS} + ({column} >> {_ORDINAL_BITS} & 15))"
