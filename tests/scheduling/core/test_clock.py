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
def test_a_quarter_holds_its_start_and_not_its_end(moment):
    start = clock.quarter_start(moment)
    assert start <= moment < start + QUARTER
    assert start.minute in (0, 15, 30, 45)
    assert (start.second, start.microsecond) == (0, 0)


@given(times)
def test_a_minute_holds_its_start_and_not_its_end(moment):
    start = clock.minute_start(moment)
    assert start <= moment < start + timedelta(minutes=1)
    assert (start.second, start.microsecond) == (0, 0)


def test_a_quarter_is_one_of_utc_whatever_the_zone_of_the_time():
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    odd = timezone(timedelta(hours=1, minutes=7, seconds=13))
    assert clock.quarter_start(at(12, 7).astimezone(odd)) == at(12, 0)
    assert clock.quarter_start(at(12, 7).astimezone(kathmandu)).tzinfo is UTC


def test_times_before_1970_are_rounded_down_too():
    assert clock.quarter_start(datetime(1969, 12, 31, 23, 59, tzinfo=UTC)) == datetime(
        1969, 12, 31, 23, 45, tzinfo=UTC
    )


@pytest.mark.parametrize("function", [clock.minute_start, clock.quarter_start, clock.next_unsealed_minute])
def test_a_naive_time_is_refused(function):
    with pytest.raises(ValueError, match="no time zone"):
        function(at(12, 0).replace(tzinfo=None))


def test_what_is_accepted_at_noon_goes_into_window_15_and_runs_from_a_quarter_past():
    start = clock.open_window_start(at(12, 0))
    assert start == at(12, 0)
    assert clock.label(start) == 15
    assert clock.minutes(start) == tuple(at(12, 15 + k) for k in range(15))
    assert clock.running_window_start(at(12, 15)) == start
    assert clock.running_window_start(at(12, 29, 59)) == start


def test_the_four_windows_of_an_hour_are_labelled_by_the_minute_in_which_they_end():
    assert [clock.label(at(12, minute)) for minute in (0, 15, 30, 45)] == [15, 30, 45, 60]


def test_a_time_between_two_quarters_is_no_window():
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
def test_a_windows_state_follows_from_the_clock(moment, state):
    assert clock.state(at(12, 0), moment) == state


@given(times)
def test_at_any_time_just_one_window_is_open_and_just_one_runs(moment):
    nearby = [clock.quarter_start(moment) + n * QUARTER for n in range(-4, 5)]
    states = [clock.state(start, moment) for start in nearby]
    ended, future = WindowState.ENDED, WindowState.FUTURE
    assert states == [ended] * 3 + [WindowState.RUNNING, WindowState.OPEN] + [future] * 4


def test_ten_ids_can_come_until_five_seconds_before_the_end():
    closes = clock.closes_at(at(12, 0), ids=10, unwritten=[], rate=RATE)
    assert at(12, 14, 54, 999_000) < closes < at(12, 14, 55)
    assert clock.first_window(closes - timedelta(microseconds=1), ids=10, unwritten=[], rate=RATE) == at(
        12, 0
    )
    assert clock.first_window(closes, ids=10, unwritten=[], rate=RATE) == at(12, 15)


def test_a_window_closes_earlier_by_the_time_that_a_long_list_takes_to_be_written():
    assert clock.closes_at(at(12, 0), ids=1_000_000, unwritten=[], rate=RATE) == at(12, 14, 35)


def test_the_time_to_write_is_rounded_up_so_that_no_list_is_let_in_a_moment_too_late():
    assert clock.write_time(ids=1, unwritten=[], rate=3) == timedelta(microseconds=333_334)


def test_of_each_list_that_is_still_being_written_at_most_as_many_ids_go_first():
    unwritten = [10_000_000, 100_000, 0]
    assert clock.closes_at(at(12, 0), ids=1_000_000, unwritten=unwritten, rate=RATE) == at(12, 14, 13)


def test_an_iterator_of_unwritten_lists_serves_as_well_as_a_list():
    args = {"ids": 5_000_000, "rate": RATE}
    assert clock.first_window(at(12, 13), unwritten=iter([10**7]), **args) == clock.first_window(
        at(12, 13), unwritten=[10**7], **args
    )


def test_lists_that_take_longer_than_a_quarter_go_into_a_window_that_they_can_still_reach():
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
def test_the_first_window_is_the_first_that_is_not_closed_and_runs_late_enough(
    moment, ids, unwritten, rate, floor
):
    start = clock.open_window_start(moment)
    while not (
        moment < clock.closes_at(start, ids=ids, unwritten=unwritten, rate=rate)
        and (floor is None or clock.runs_at(start) >= floor)
    ):
        start += QUARTER
    found = clock.first_window(moment, ids=ids, unwritten=unwritten, rate=rate, not_before=floor)
    assert found == start


def test_a_list_not_before_a_quarter_runs_right_from_it_and_after_it_one_quarter_later():
    args = {"ids": 10, "unwritten": [], "rate": RATE}
    assert clock.runs_at(clock.first_window(at(9, 0), not_before=at(12, 15), **args)) == at(12, 15)
    assert clock.runs_at(clock.first_window(at(9, 0), not_before=at(12, 15, 0, 1), **args)) == at(12, 30)
    assert clock.first_window(at(9, 0), not_before=at(8, 0), **args) == at(9, 0)


@pytest.mark.parametrize("wrong", [{"ids": -1}, {"rate": 0}, {"unwritten": [-1]}])
def test_counts_and_rates_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"ids must be|unwritten IDs"):
        clock.write_time(**{"ids": 1, "unwritten": [], "rate": RATE} | wrong)


def test_a_minute_is_sealed_two_seconds_before_it_begins():
    assert clock.sealed_at(at(12, 1)) == at(12, 0, 58)
    assert clock.next_unsealed_minute(at(12, 0, 57, 999_999)) == at(12, 1)
    assert clock.next_unsealed_minute(at(12, 0, 58)) == at(12, 2)


@given(times, st.integers(0, 300))
def test_the_next_unsealed_minute_is_the_first_whose_seal_is_still_to_come(moment, seal_seconds):
    found = clock.next_unsealed_minute(moment, seal_seconds)
    assert clock.sealed_at(found, seal_seconds=seal_seconds) > moment
    assert clock.sealed_at(found - clock.MINUTE, seal_seconds=seal_seconds) <= moment
