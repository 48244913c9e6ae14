from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import clock
from scheduling.core.clock import WindowState

RATE = 50_000
QUARTER = timedelta(minutes=15)


def times_between(first, last):
    microseconds = st.integers(0, (last - first) // timedelta(microseconds=1))
    return microseconds.map(lambda passed: first + timedelta(microseconds=passed))


times = times_between(datetime(1970, 1, 2, tzinfo=UTC), datetime(2089, 1, 1, tzinfo=UTC))
times_of_a_day = times_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
unwrittens = st.lists(st.integers(0, 10**7), max_size=5)


def at(hour, minute, second=0, microsecond=0):
    return datetime(2026, 11, 25, hour, minute, second, microsecond, tzinfo=UTC)


@given(times)
def test_quarter_includes_its_start_and_excludes_its_end(moment):
    start = clock.quarter_start(moment)
    assert start <= moment < start + QUARTER
    assert start.minute in (0, 15, 30, 45)
    assert (start.second, start.microsecond) == (0, 0)


@given(times)
def test_minute_includes_its_start_and_excludes_its_end(moment):
    start = clock.minute_start(moment)
    assert start <= moment < start + timedelta(minutes=1)
    assert (start.second, start.microsecond) == (0, 0)


def test_quarter_is_aligned_to_utc_in_any_time_zone():
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    odd = timezone(timedelta(hours=1, minutes=7, seconds=13))
    assert clock.quarter_start(at(12, 7).astimezone(odd)) == at(12, 0)
    assert clock.quarter_start(at(12, 7).astimezone(kathmandu)).tzinfo is UTC


def test_times_before_1970_are_rounded_down_too():
    assert clock.quarter_start(datetime(1969, 12, 31, 23, 59, tzinfo=UTC)) == datetime(
        1969, 12, 31, 23, 45, tzinfo=UTC
    )


@pytest.mark.parametrize("function", [clock.minute_start, clock.quarter_start, clock.next_unsealed_minute])
def test_naive_time_is_refused(function):
    with pytest.raises(ValueError, match="no time zone"):
        function(at(12, 0).replace(tzinfo=None))


def test_window_open_at_noon_is_15_and_runs_from_12_15():
    start = clock.open_window_start(at(12, 0))
    assert start == at(12, 0)
    assert clock.label(start) == 15
    assert clock.minutes(start) == tuple(at(12, 15 + k) for k in range(15))
    assert clock.running_window_start(at(12, 15)) == start
    assert clock.running_window_start(at(12, 29, 59)) == start


def test_windows_are_labelled_by_the_minute_in_which_they_end():
    assert [clock.label(at(12, minute)) for minute in (0, 15, 30, 45)] == [15, 30, 45, 60]


def test_time_between_two_quarters_starts_no_window():
    with pytest.raises(ValueError, match="no window starts at"):
        clock.label(at(12, 1))


@pytest.mark.parametrize(
    ("moment", "state"),
    [
        (at(11, 59, 59, 999_999), WindowState.FUTURE),
        (at(12, 0), WindowState.OPEN),
        (at(12, 14, 59, 999_999), WindowState.OPEN),
        (at(12, 15), WindowState.RUNNING),
        (at(12, 29, 59, 999_999), WindowState.RUNNING),
        (at(12, 30), WindowState.ENDED),
    ],
)
def test_window_state_follows_from_the_clock(moment, state):
    assert clock.state(at(12, 0), moment) == state


@given(times)
def test_exactly_one_window_is_open_and_one_runs_at_any_time(moment):
    nearby = [clock.quarter_start(moment) + n * QUARTER for n in range(-4, 5)]
    states = [clock.state(start, moment) for start in nearby]
    ended, future = WindowState.ENDED, WindowState.FUTURE
    assert states == [ended] * 3 + [WindowState.RUNNING, WindowState.OPEN] + [future] * 4


def test_window_closes_to_ten_ids_five_seconds_before_its_end():
    closes = clock.closes_at(at(12, 0), ids=10, unwritten=[], rate=RATE)
    assert at(12, 14, 54, 999_000) < closes < at(12, 14, 55)
    assert clock.first_window(closes - timedelta(microseconds=1), ids=10, unwritten=[], rate=RATE) == at(
        12, 0
    )
    assert clock.first_window(closes, ids=10, unwritten=[], rate=RATE) == at(12, 15)


def test_window_closes_earlier_for_a_long_list():
    assert clock.closes_at(at(12, 0), ids=1_000_000, unwritten=[], rate=RATE) == at(12, 14, 35)


def test_write_time_is_rounded_up():
    assert clock.write_time(ids=1, unwritten=[], rate=3) == timedelta(microseconds=333_334)


def test_unwritten_lists_delay_a_list_by_at_most_its_own_length():
    unwritten = [10_000_000, 100_000, 0]
    assert clock.closes_at(at(12, 0), ids=1_000_000, unwritten=unwritten, rate=RATE) == at(12, 14, 13)


def test_unwritten_lists_may_be_an_iterator():
    args = {"ids": 5_000_000, "rate": RATE}
    assert clock.first_window(at(12, 13), unwritten=iter([10**7]), **args) == clock.first_window(
        at(12, 13), unwritten=[10**7], **args
    )


def test_list_that_takes_longer_than_a_quarter_gets_a_reachable_window():
    # 60,000,000 rows are 1,200 s: from 12:00 that is 12:20, so the window that ends at 12:30 it is.
    start = clock.first_window(at(12, 0), ids=10_000_000, unwritten=[10_000_000] * 5, rate=RATE)
    assert start == at(12, 15)


@given(
    times_of_a_day,
    st.integers(0, 10**7),
    unwrittens,
    st.integers(1_000, 10**6),
    st.none() | times_of_a_day,
)
def test_first_window_is_open_and_runs_no_earlier_than_not_before(moment, ids, unwritten, rate, floor):
    start = clock.open_window_start(moment)
    while not (
        moment < clock.closes_at(start, ids=ids, unwritten=unwritten, rate=rate)
        and (floor is None or clock.runs_at(start) >= floor)
    ):
        start += QUARTER
    result = clock.first_window(moment, ids=ids, unwritten=unwritten, rate=rate, not_before=floor)
    assert result == start


def test_not_before_at_a_quarter_runs_from_it_and_later_from_the_next():
    args = {"ids": 10, "unwritten": [], "rate": RATE}
    assert clock.runs_at(clock.first_window(at(9, 0), not_before=at(12, 15), **args)) == at(12, 15)
    assert clock.runs_at(clock.first_window(at(9, 0), not_before=at(12, 15, 0, 1), **args)) == at(12, 30)
    assert clock.first_window(at(9, 0), not_before=at(8, 0), **args) == at(9, 0)


@pytest.mark.parametrize("wrong", [{"ids": -1}, {"rate": 0}, {"unwritten": [-1]}])
def test_invalid_counts_and_rates_are_refused(wrong):
    with pytest.raises(ValueError, match=r"ids must be|unwritten IDs"):
        clock.write_time(**{"ids": 1, "unwritten": [], "rate": RATE} | wrong)


def test_minute_is_sealed_two_seconds_before_it_begins():
    assert clock.sealed_at(at(12, 1)) == at(12, 0, 58)
    assert clock.next_unsealed_minute(at(12, 0, 57, 999_999)) == at(12, 1)
    assert clock.next_unsealed_minute(at(12, 0, 58)) == at(12, 2)


@given(times, st.integers(0, 300))
def test_next_unsealed_minute_is_the_first_not_yet_sealed(moment, seal_seconds):
    result = clock.next_unsealed_minute(moment, seal_seconds)
    assert clock.sealed_at(result, seal_seconds=seal_seconds) > moment
    assert clock.sealed_at(result - clock.MINUTE, seal_seconds=seal_seconds) <= moment
