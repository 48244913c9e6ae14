from bisect import bisect_left
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core.pacing import FreeSlot, MinutePlan, most_starts_in_60_seconds, most_starts_in_a_second

capacities = st.one_of(st.integers(1, 130), st.sampled_from([600, 1_199, 1_200, 1_201, 1_300, 2_400, 6_000]))
plans = st.builds(MinutePlan, capacities, st.integers(0, 400))
offsets = st.floats(-1, 61)

# Floats of exact times differ in their last bits: 60 s that begin at a start don't hold the one 60 s later.
NEXT_TO_NOTHING = 1e-9


def most_in(starts, seconds):
    """The largest number of starts in any half-open span of `seconds`; it need only begin at a start."""
    starts = sorted(starts)
    return max(
        (bisect_left(starts, start + seconds - NEXT_TO_NOTHING) - i for i, start in enumerate(starts)),
        default=0,
    )


def slots_of(plan):
    return [plan.slot_of(j) for j in range(plan.n)]


# Slots


def test_partly_filled_minute_is_spread_evenly_over_its_slots():
    assert slots_of(MinutePlan(120, 4)) == [0, 30, 60, 90]
    assert list(MinutePlan(120, 4).offsets()) == [0, 15, 30, 45]


def test_minute_past_capacity_has_as_many_slots_as_ids():
    plan = MinutePlan(2, 3)
    assert plan.slot_count == 3
    assert list(plan.offsets()) == [0, 20, 40]
    assert plan.free_count == 0


def test_minute_without_ids_has_only_free_slots():
    plan = MinutePlan(60, 0)
    assert list(plan.offsets()) == []
    assert [plan.free_slot(index) for index in range(plan.free_count)] == list(range(60))
    assert plan.slots_between(0, 60) == range(0)


@given(plans)
def test_slots_are_distinct_and_within_the_minute(plan):
    slots = slots_of(plan)
    assert len(set(slots)) == plan.n
    assert slots == sorted(slots)
    assert all(0 <= slot < plan.slot_count for slot in slots)
    assert list(plan.offsets()) == [plan.offset_of(slot) for slot in slots]
    assert all(0 <= offset < 60 for offset in plan.offsets())


@given(plans.filter(lambda plan: plan.n > 1))
def test_gaps_between_ids_differ_by_at_most_one_slot(plan):
    gaps = {later - earlier for earlier, later in pairwise(slots_of(plan))}
    assert max(gaps) - min(gaps) <= 1


@given(plans)
def test_slot_without_an_id_is_free(plan):
    used = set(slots_of(plan))
    free = [slot for slot in range(plan.slot_count) if slot not in used]
    assert [slot for slot in range(plan.slot_count) if plan.is_free(slot)] == free
    assert [plan.free_slot(index) for index in range(plan.free_count)] == free


@given(plans, offsets, offsets)
def test_ids_between_two_times_have_slots_that_begin_there(plan, start, end):
    expected = [j for j, offset in enumerate(plan.offsets()) if start <= offset < end]
    assert list(plan.slots_between(start, end)) == expected


@given(plans, offsets, offsets, st.integers(0, 400))
def test_free_slots_between_two_times_follow_the_cursor(plan, start, end, cursor):
    expected = [
        index
        for index in range(plan.free_count)
        if index >= cursor and start <= plan.offset_of(plan.free_slot(index)) < end
    ]
    assert list(plan.free_between(start, end, cursor)) == expected


@given(plans, st.lists(st.floats(0.01, 5), min_size=1, max_size=80))
def test_consecutive_parts_contain_every_id_once(plan, steps):
    borders = [0.0, *accumulate(steps), 60.0]
    borders = sorted(border for border in borders if border <= 60)
    taken = [j for start, end in pairwise(borders) for j in plan.slots_between(start, end)]
    assert taken == list(range(plan.n))


@given(plans, st.data())
def test_part_that_begins_at_a_slots_offset_includes_that_slot(plan, data):
    slot = data.draw(st.integers(0, plan.slot_count - 1))
    start = plan.offset_of(slot)
    following = plan.slots_between(start, 60)
    assert [plan.slot_of(j) for j in following] == [used for used in slots_of(plan) if used >= slot]


@given(plans, offsets, st.integers(0, 400))
def test_free_slot_after_a_time_is_the_first_at_or_after_it(plan, offset, cursor):
    expected = [
        FreeSlot(slot, index + 1)
        for index, slot in enumerate(slot for slot in range(plan.slot_count) if plan.is_free(slot))
        if index >= cursor and plan.offset_of(slot) >= offset
    ]
    assert plan.free_slot_after(offset, cursor) == (expected[0] if expected else None)


@given(plans, st.lists(offsets, max_size=50))
def test_free_slots_are_never_given_twice_in_any_order_of_times(plan, times):
    cursor, given_slots = 0, []
    for offset in times:
        result = plan.free_slot_after(offset, cursor)
        if result:
            given_slots.append(result.slot)
            cursor = result.cursor
    assert len(set(given_slots)) == len(given_slots)
    assert not set(given_slots) & set(slots_of(plan))


def test_full_minute_has_no_free_slot():
    assert MinutePlan(60, 60).free_slot_after(0) is None
    assert MinutePlan(60, 61).free_slot_after(0) is None


def test_free_slot_after_the_last_one_is_none():
    plan = MinutePlan(60, 30)
    assert plan.free_slot_after(59) == FreeSlot(59, 30)
    assert plan.free_slot_after(59.001) is None
    assert plan.free_slot_after(0, cursor=30) is None


@pytest.mark.parametrize(("capacity", "tolerance"), [(1, 60), (60, 1), (1_200, 0.05), (6_000, 0.05)])
def test_start_may_be_late_by_one_slot_but_at_least_50_ms(capacity, tolerance):
    plan = MinutePlan(capacity, 1)
    assert plan.tolerance_seconds == tolerance
    assert plan.in_time(0, tolerance)
    assert not plan.in_time(0, tolerance + 0.001)


def test_huge_minute_is_as_quick_as_a_small_one():
    plan = MinutePlan(10**12, 10**12 - 1)
    assert plan.slot_of(10**12 - 2) == 10**12 - 2
    assert plan.free_slot(0) == 10**12 - 1
    assert len(plan.slots_between(0, 30)) == 5 * 10**11


@pytest.mark.parametrize("arguments", [(0, 1), (-1, 1), (1.5, 1), (True, 1), (1, -1), (1, True), (1, None)])
def test_invalid_minute_plan_is_refused(arguments):
    with pytest.raises(ValueError, match="must be a whole number"):
        MinutePlan(*arguments)


def test_ids_and_slots_outside_the_minute_are_refused():
    plan = MinutePlan(10, 4)
    for call, wrong in [
        (plan.slot_of, (-1, 4)),
        (plan.offset_of, (-1, 10)),
        (plan.is_free, (-1, 10)),
        (plan.free_slot, (-1, 6)),
    ]:
        for number in wrong:
            with pytest.raises(ValueError, match="none at"):
                call(number)


# What is promised


def starts_of(minutes, data):
    """Starts over consecutive minutes: all planned ones, free ones at will, delayed up to the tolerance."""
    span = 60 * len(minutes)
    # Worst is a stall: all that lies in it is as late as may be, and what follows is on time.
    stall_from, stall_to = (data.draw(st.floats(-1, span)) for _ in range(2))
    with_free = data.draw(st.booleans())
    random = data.draw(st.randoms(use_true_random=False))
    starts = []
    for i, plan in enumerate(minutes):
        planned = {plan.slot_of(j) for j in range(plan.n)}
        for slot in range(plan.slot_count):
            if slot not in planned and not (with_free and random.random() < 0.9):
                continue
            offset = plan.offset_of(slot)
            late = 1 if stall_from <= 60 * i + offset < stall_to else random.choice([0, 0, random.random()])
            start = offset + late * plan.tolerance_seconds
            assert plan.in_time(slot, start)
            starts.append(60 * i + start)
    return starts


# Most of what can go wrong at a border goes wrong at small numbers; beyond 1,200 the tolerance is another.
small = st.one_of(st.integers(1, 70), st.integers(1, 70), st.sampled_from([600, 1_199, 1_200, 1_201, 2_400]))


@given(small, st.lists(st.floats(0, 1), min_size=1, max_size=3), st.data())
def test_starts_in_any_60_seconds_are_at_most_rpm_plus_one(rpm, shares, data):
    minutes = [MinutePlan(rpm, round(rpm * share)) for share in shares]
    assert most_in(starts_of(minutes, data), 60) <= most_starts_in_60_seconds(rpm)


@given(st.lists(small, min_size=2, max_size=3), st.data())
def test_starts_across_an_rpm_change_are_at_most_the_larger_plus_one(rpms, data):
    minutes = [MinutePlan(rpm, data.draw(st.integers(0, rpm))) for rpm in rpms]
    assert most_in(starts_of(minutes, data), 60) <= most_starts_in_60_seconds(max(rpms))


@given(st.lists(st.tuples(small, st.integers(0, 1_300)), min_size=1, max_size=3), st.data())
def test_starts_in_any_second_are_at_most_its_share_plus_one(minutes, data):
    plans = [MinutePlan(*minute) for minute in minutes]
    most = most_starts_in_a_second(max(plan.slot_count for plan in plans))
    assert most_in(starts_of(plans, data), 1) <= most


@pytest.mark.parametrize("rpm", [1, 2, 15, 60, 120, 600, 1_200])
def test_bound_on_starts_in_60_seconds_is_reached(rpm):
    full = MinutePlan(rpm, rpm)
    starts = [60 * minute + offset for minute in range(2) for offset in full.offsets()]
    # The first ones as late as they may be, what follows on time: as after a short stall.
    starts = [max(start, full.tolerance_seconds) for start in starts]
    assert most_in(starts, 60) == most_starts_in_60_seconds(rpm)


def test_starts_in_a_burst_would_exceed_the_promise():
    full = MinutePlan(60, 60)
    caught_up = [max(start, 20) for start in full.offsets()]
    following = [60 + offset for offset in full.offsets()]
    assert most_in(caught_up + following, 60) > most_starts_in_60_seconds(60)


@pytest.mark.parametrize(
    ("rpm", "most"), [(1, 2), (60, 61), (600, 601), (1_200, 1_201), (1_201, 1_203), (6_000, 6_006)]
)
def test_most_starts_in_60_seconds_is_rpm_plus_one(rpm, most):
    assert most_starts_in_60_seconds(rpm) == most


@pytest.mark.parametrize(("slots", "most"), [(1, 2), (60, 2), (61, 3), (600, 11), (1_200, 21), (6_000, 106)])
def test_most_starts_in_a_second_is_its_share_plus_one(slots, most):
    assert most_starts_in_a_second(slots) == most


def test_step_between_two_full_minutes_is_one_slot():
    # 15 in M and 15 in M + 1 at rpm 15: 4 s from the last of M to the first of M + 1.
    plan = MinutePlan(15, 15)
    assert 60 - plan.offset_of(plan.slot_of(14)) == 4
