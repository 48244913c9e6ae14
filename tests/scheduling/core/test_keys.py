import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import clock, keys

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LAST_QUARTER = clock.EPOCH + (keys.QUARTERS - 1) * clock.QUARTER

queues = st.integers(1, 8191)
starts = st.integers(0, keys.QUARTERS - 1).map(lambda quarters: clock.EPOCH + quarters * clock.QUARTER)
buckets = st.integers(0, 14)
ordinals = st.integers(0, keys.ORDINALS - 1)
places = st.tuples(starts, buckets, ordinals)


def key_of(queue, start, k, ordinal):
    return keys.assignment_id(keys.bucket_id(keys.window_id(queue, start), k), ordinal)


def test_key_layout_is_that_of_the_data_model():
    quarters = int(NOON.timestamp()) // 900
    assert keys.window_id(7, NOON) == 7 << 22 | quarters
    assert keys.bucket_id(7 << 22 | quarters, 3) == (7 << 22 | quarters) << 4 | 3
    assert keys.assignment_id((7 << 22 | quarters) << 4 | 3, 9) == ((7 << 22 | quarters) << 4 | 3) << 24 | 9


@given(queues, starts, buckets, ordinals)
def test_key_can_be_decoded_completely(queue, start, k, ordinal):
    window = keys.window_id(queue, start)
    bucket = keys.bucket_id(window, k)
    key = keys.assignment_id(bucket, ordinal)
    assert keys.bucket_of_assignment(key) == bucket
    assert keys.ordinal_of_assignment(key) == ordinal
    assert keys.window_of_bucket(bucket) == window
    assert keys.index_of_bucket(bucket) == k
    assert keys.queue_of_bucket(bucket) == keys.queue_of_window(window) == queue
    assert keys.starts_at_of_window(window) == start


@given(queues, places, places)
def test_keys_of_a_queue_are_ordered_by_time(queue, first, other):
    assert (key_of(queue, *first) < key_of(queue, *other)) == (first < other)


def test_largest_key_fits_in_63_bits():
    assert key_of(8191, LAST_QUARTER, 14, keys.ORDINALS - 1) < 2**63
    assert LAST_QUARTER.year == 2089


@given(queues, starts, buckets)
def test_bucket_runs_a_quarter_after_its_window_begins(queue, start, k):
    bucket = keys.bucket_id(keys.window_id(queue, start), k)
    minute = keys.minute_of_bucket(bucket)
    assert minute == start + timedelta(minutes=15 + k)
    assert minute == clock.minutes(start)[k]
    assert minute.tzinfo is UTC
    assert keys.minute_number_of_bucket(bucket) * 60 == int(minute.timestamp())
    assert keys.bucket_at(queue, minute) == bucket
    assert keys.bucket_at_number(queue, keys.minute_number_of_bucket(bucket)) == bucket


def test_buckets_across_a_window_border_are_a_minute_apart():
    last = keys.bucket_at(1, NOON - clock.MINUTE)
    first = keys.bucket_at(1, NOON)
    assert (keys.index_of_bucket(last), keys.index_of_bucket(first)) == (14, 0)
    assert keys.window_of_bucket(first) == keys.window_of_bucket(last) + 1


@given(queues, starts, buckets, ordinals)
def test_bucket_range_contains_exactly_its_keys(queue, start, k, ordinal):
    bucket = keys.bucket_id(keys.window_id(queue, start), k)
    first, last = keys.range_of_bucket(bucket)
    assert first == keys.assignment_id(bucket, 0)
    assert last == keys.assignment_id(bucket, keys.ORDINALS - 1)
    assert first <= keys.assignment_id(bucket, ordinal) <= last
    if k < 14:
        assert last + 1 == keys.range_of_bucket(bucket + 1)[0]


@pytest.mark.parametrize("queue", [0, -1, 8192])
def test_queue_id_out_of_range_is_refused(queue):
    with pytest.raises(ValueError, match="queue id"):
        keys.window_id(queue, NOON)
    with pytest.raises(ValueError, match="queue id"):
        keys.bucket_at(queue, NOON)


@pytest.mark.parametrize(
    "start",
    [
        clock.EPOCH - clock.QUARTER,
        LAST_QUARTER + clock.QUARTER,
        NOON + clock.MINUTE,
        NOON.replace(tzinfo=None),
    ],
)
def test_window_start_that_cannot_be_a_key_is_refused(start):
    with pytest.raises(ValueError, match=r"quarter must be|no window starts|no time zone"):
        keys.window_id(1, start)


@pytest.mark.parametrize(
    "minute",
    [
        clock.EPOCH,
        clock.EPOCH + 14 * clock.MINUTE,
        LAST_QUARTER + 2 * clock.QUARTER,
        NOON + timedelta(seconds=1),
    ],
)
def test_minute_that_cannot_be_a_key_is_refused(minute):
    with pytest.raises(ValueError, match=r"quarter must be|not the start of a minute"):
        keys.bucket_at(1, minute)


@pytest.mark.parametrize("k", [-1, 15, 16])
def test_bucket_index_outside_0_to_14_is_refused(k):
    with pytest.raises(ValueError, match="bucket index"):
        keys.bucket_id(keys.window_id(1, NOON), k)


@pytest.mark.parametrize("ordinal", [-1, keys.ORDINALS])
def test_ordinal_out_of_range_is_refused(ordinal):
    with pytest.raises(ValueError, match="ordinal"):
        keys.assignment_id(keys.bucket_at(1, NOON), ordinal)


@pytest.mark.parametrize(
    ("function", "key"),
    [
        (keys.queue_of_window, 0),
        (keys.starts_at_of_window, keys.QUARTERS - 1),
        (keys.starts_at_of_window, -1),
        (keys.queue_of_window, keys.QUEUES << 22),
        (keys.window_of_bucket, keys.window_id(1, NOON)),
        (keys.index_of_bucket, keys.window_id(1, NOON) << 4 | 15),
        (keys.minute_of_bucket, keys.window_id(1, NOON) << 4 | 15),
        (keys.minute_of_bucket, -1),
        (keys.range_of_bucket, keys.window_id(1, NOON) << 4 | 15),
        (keys.bucket_of_assignment, keys.bucket_at(1, NOON)),
        (keys.ordinal_of_assignment, 2**63),
    ],
)
def test_invalid_key_is_refused(function, key):
    with pytest.raises(ValueError, match=r"must be .* to"):
        function(key)


# --- Ranges, and what stands for them in a statement ---


def test_ranges_include_both_ends_and_follow_each_other():
    window = keys.window_id(7, NOON)
    first, last = keys.range_of_window(window)
    assert list(keys.buckets_of_window(window)) == [keys.bucket_id(window, k) for k in range(15)]
    assert (first, last) == (keys.bucket_id(window, 0), keys.bucket_id(window, 14))
    assert keys.range_of_buckets(first, last) == (keys.assignment_id(first, 0), keys.range_of_bucket(last)[1])
    begin, end = keys.range_of_queue(7)
    assert begin <= first < last <= end < keys.range_of_queue(8)[0]
    assert keys.window_of_assignment(keys.assignment_id(last, 5)) == window


def test_counts_by_window_add_up_the_buckets_of_each():
    window = keys.window_id(7, NOON)
    counts = [
        (keys.bucket_id(window, 3), 2),
        (keys.bucket_id(window, 3), 1),
        (keys.bucket_id(window + 1, 0), 4),
    ]
    assert keys.by_window(counts) == {window: [0, 0, 0, 3] + [0] * 11, window + 1: [4] + [0] * 14}


def test_sql_borders_need_no_existing_key():
    window = keys.window_id(7, NOON)
    assert keys.first_bucket_from(0) == keys.first_assignment_from(0) == keys.bucket_of_cursor(0) == 0
    assert keys.first_bucket_from(window) == keys.range_of_window(window)[0]
    assert keys.first_bucket_from(keys.WINDOWS_END) > keys.range_of_queue(keys.QUEUES - 1)[1]
    assert keys.bucket_of_cursor(keys.first_assignment_from(keys.bucket_id(window, 2))) == keys.bucket_id(
        window, 2
    )


@pytest.mark.parametrize("ordinal", [0, keys.ORDINALS - 1])
def test_sql_expressions_say_the_same_as_the_functions(ordinal):
    window = keys.window_id(8191, NOON)
    bucket = keys.bucket_id(window, 14)
    key = keys.assignment_id(bucket, ordinal)
    quarters = (NOON - clock.EPOCH) // clock.QUARTER
    expected = {
        keys.sql_bucket_of_assignment(f"{key}"): bucket,
        keys.sql_queue_of_bucket(f"{bucket}"): 8191,
        keys.sql_bucket(f"{window}", "14"): bucket,
        keys.sql_first_bucket("8191", f"{quarters}"): keys.bucket_id(window, 0),
        keys.sql_first_bucket("8191", "0"): keys.range_of_queue(8191)[0],
        keys.sql_first_assignment(f"{bucket}"): keys.assignment_id(bucket, 0),
        keys.sql_in_bucket(f"{key}", f"{bucket}"): 1,
        keys.sql_in_bucket(f"{key}", f"{bucket - 1}"): 0,
        keys.sql_minute_number_of_assignment(f"{key}"): keys.minute_number_of_bucket(bucket),
    }
    text = sqlite3.connect(":memory:").execute(f"SELECT {', '.join(expected)}").fetchone()
    assert text == tuple(expected.values())
