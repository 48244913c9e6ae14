import json
import tracemalloc
from collections import Counter, deque
from itertools import islice, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import allocator
from scheduling.core.allocator import EMPTY, Run

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "distribution.json").read_text())
golden = pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])

fills = st.lists(st.integers(0, 12), min_size=15, max_size=15)
rpms = st.integers(1, 12)
large_fills = st.lists(st.integers(0, 10**12), min_size=15, max_size=15)
large = st.integers(0, 10**12)


def naive(fill, rpm, n):
    """The two rules word for word, one ID after the other."""
    held = list(fill)
    for _ in range(n):
        below = [k for k in range(15) if held[k] < rpm]
        k = below[0] if below else held.index(min(held))
        held[k] += 1
        yield k


def first(n, fill, rpm):
    return list(islice(allocator.places(fill, rpm), n))


def added_to(fill, places):
    count = Counter(places)
    return tuple(held + count[k] for k, held in enumerate(fill))


def size(case):
    return case["last"] - case["first"] + 1


# One window, the golden cases


@golden
def test_reference_implementation_agrees_with_the_golden_case(case):
    assert list(naive(case["fill"], case["rpm"], size(case))) == case["places"]


@golden
def test_places_are_those_of_the_golden_case(case):
    ids = range(case["first"], case["last"] + 1)
    placed = dict(zip(ids, allocator.places(case["fill"], case["rpm"]), strict=False))
    assert placed == dict(zip(ids, case["places"], strict=True))


@golden
def test_fill_after_is_that_of_the_golden_case(case):
    n = size(case)
    assert allocator.fill_after(case["fill"], case["rpm"], n) == tuple(case["after"])
    count = Counter(case["places"])
    assert allocator.counts(case["fill"], case["rpm"], n) == tuple(count[k] for k in range(15))


@golden
def test_golden_case_can_be_resumed_from_any_position(case):
    for position in range(size(case) + 1):
        middle = allocator.fill_after(case["fill"], case["rpm"], position)
        assert middle == added_to(case["fill"], case["places"][:position])
        assert first(size(case) - position, middle, case["rpm"]) == case["places"][position:]


@golden
def test_golden_case_is_the_same_in_two_calls_split_anywhere(case):
    for cut in range(size(case) + 1):
        before = first(cut, case["fill"], case["rpm"])
        after = first(size(case) - cut, added_to(case["fill"], before), case["rpm"])
        assert before + after == case["places"]
        half = allocator.fill_after(case["fill"], case["rpm"], cut)
        assert allocator.fill_after(half, case["rpm"], size(case) - cut) == tuple(case["after"])


@golden
def test_golden_case_is_the_same_one_id_at_a_time(case):
    fill, placed = tuple(case["fill"]), []
    for _ in range(size(case)):
        placed += first(1, fill, case["rpm"])
        closed = allocator.fill_after(fill, case["rpm"], 1)
        fill = added_to(fill, placed[-1:])
        assert closed == fill
    assert placed == case["places"]
    assert fill == tuple(case["after"])


@golden
def test_place_at_gives_every_golden_place(case):
    placements = [allocator.place_at(case["fill"], case["rpm"], position) for position in range(size(case))]
    assert placements == case["places"]


# One window, any fill


@given(fills, rpms, st.integers(0, 400))
def test_places_follow_the_two_rules_at_any_fill(fill, rpm, n):
    assert first(n, fill, rpm) == list(naive(fill, rpm, n))


@given(fills, rpms, st.integers(0, 400))
def test_fill_after_counts_what_places_yields(fill, rpm, n):
    places = first(n, fill, rpm)
    assert allocator.fill_after(fill, rpm, n) == added_to(fill, places)
    assert allocator.counts(fill, rpm, n) == added_to(EMPTY, places)


@given(fills, rpms, st.integers(0, 200), st.integers(0, 200))
def test_places_from_any_position_are_the_tail_of_all_places(fill, rpm, position, n):
    middle = allocator.fill_after(fill, rpm, position)
    assert first(n, middle, rpm) == first(position + n, fill, rpm)[position:]
    assert allocator.place_at(fill, rpm, position) == first(position + 1, fill, rpm)[-1]


@given(fills, rpms, st.sets(st.integers(0, 400)))
def test_places_of_positions_are_those_items_of_all_places(fill, rpm, chosen):
    positions, places = sorted(chosen), first(401, fill, rpm)
    assert list(allocator.places_of(positions, fill, rpm)) == [places[position] for position in positions]


@given(fills, st.sets(st.integers(0, 400)))
def test_positions_in_order_are_those_items_of_all(counts, chosen):
    places = list(allocator.in_order(counts))
    positions = sorted(position for position in chosen if position < len(places))
    assert list(allocator.in_order_of(positions, counts)) == [places[position] for position in positions]


@given(large_fills, st.integers(1, 10**12), large, large)
def test_large_lists_cut_in_two_fill_exactly_what_one_list_fills(fill, rpm, first_count, other):
    whole = allocator.fill_after(fill, rpm, first_count + other)
    assert allocator.fill_after(allocator.fill_after(fill, rpm, first_count), rpm, other) == whole
    assert sum(whole) == sum(fill) + first_count + other


@given(large_fills, st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0, 60))
def test_places_follow_the_two_rules_after_a_billion_ids(fill, rpm, position, n):
    middle = allocator.fill_after(fill, rpm, position)
    assert first(n, middle, rpm) == list(naive(middle, rpm, n))


@given(large_fills, st.integers(1, 10**12), large)
def test_fill_after_obeys_the_rules_for_large_lists(fill, rpm, n):
    added = allocator.counts(fill, rpm, n)
    after = allocator.fill_after(fill, rpm, n)
    short = [k for k in range(15) if after[k] < rpm]
    # Rule 1: as long as one is below rpm, none goes past it, and none after the first such gets any.
    if short:
        assert all(not added[k] or after[k] <= rpm for k in range(15))
        assert not any(added[short[0] + 1 :])
    # Rule 2: whoever was given one past rpm stands at the lowest level or one above it, the earlier first.
    dispersed = [k for k in range(15) if added[k] and after[k] > rpm]
    assert all(after[k] - min(after) <= 1 for k in dispersed)
    for k in dispersed:
        assert all(after[earlier] >= after[k] for earlier in range(k))


@given(rpms, st.lists(st.integers(0, 300), max_size=8))
def test_buckets_past_rpm_differ_by_at_most_one_without_cancels(rpm, calls):
    fill = EMPTY
    for n in calls:
        fill = allocator.fill_after(fill, rpm, n)
        past = [held for held in fill if held > rpm]
        assert not past or max(past) - min(fill) <= 1


def test_fill_after_a_trillion_ids_is_immediate():
    assert allocator.fill_after([3] * 15, 2, 10**12) == (66666666670,) * 10 + (66666666669,) * 5


def test_huge_rpm_is_as_quick_as_a_small_one():
    assert first(3, EMPTY, 10**9) == [0, 0, 0]
    assert allocator.place_at(EMPTY, 10**9, 10**9 * 14) == 14
    assert allocator.place_at(EMPTY, 10**9, 10**9 * 15 + 16) == 1
    assert first(2, EMPTY, 10**30) == [0, 0]
    assert first(2, [10**30, *[1] * 14], 1) == [1, 2]


def test_given_fill_is_not_modified():
    fill = [0] * 15
    first(100, fill, 2)
    allocator.fill_after(fill, 2, 100)
    allocator.free_places(fill, [2] * 15, 100)
    assert fill == [0] * 15


@pytest.mark.parametrize(
    "fill", [EMPTY, (200,) * 15, (150, *range(135, 149))], ids=["empty", "even", "uneven"]
)
def test_zipping_places_with_ids_takes_constant_memory(fill):
    tracemalloc.start()
    try:
        deque(zip(repeat(1, 300_000), allocator.places(fill, 120), strict=False), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


WRONG_FILLS = [[0] * 14, [0] * 16, [], [-1, *[0] * 14], [True, *[0] * 14], [1.0, *[0] * 14], ["1", *[0] * 14]]


@pytest.mark.parametrize("fill", WRONG_FILLS, ids=repr)
def test_invalid_fill_is_refused_at_the_call(fill):
    for call in (
        lambda: allocator.places(fill, 1),
        lambda: allocator.fill_after(fill, 1, 1),
        lambda: allocator.counts(fill, 1, 1),
        lambda: allocator.place_at(fill, 1, 1),
        lambda: allocator.free_places(fill, [1] * 15, 1),
        lambda: allocator.free_places([0] * 15, fill, 1),
        lambda: allocator.carry_over_runs({3: fill}, 1, 1),
    ):
        with pytest.raises(ValueError, match="must be 15 whole numbers"):
            call()


@pytest.mark.parametrize("rpm", [0, -1, True, 1.5, "2", None])
def test_invalid_rpm_is_refused_at_the_call(rpm):
    for call in (
        lambda: allocator.places(EMPTY, rpm),
        lambda: allocator.fill_after(EMPTY, rpm, 1),
        lambda: allocator.carry_over_runs({}, rpm, 1),
    ):
        with pytest.raises(ValueError, match="rpm must be"):
            call()


@pytest.mark.parametrize("n", [-1, True, 1.0, None])
def test_invalid_number_of_ids_is_refused_at_the_call(n):
    for call in (
        lambda: allocator.fill_after(EMPTY, 1, n),
        lambda: allocator.free_places(EMPTY, EMPTY, n),
        lambda: allocator.carry_over_runs({}, 1, n),
    ):
        with pytest.raises(ValueError, match="n must be"):
            call()


# Free places: late IDs and retries


@given(fills, fills, st.integers(0, 200), st.integers(0, 15))
def test_free_places_are_the_first_below_capacity_and_never_more_than_free(fill, capacity, n, first_bucket):
    open_places = [k for k in range(first_bucket, 15) for _ in range(capacity[k] - fill[k])]
    assert allocator.free_places(fill, capacity, n, first_bucket) == added_to(EMPTY, open_places[:n])


@given(fills, rpms, st.integers(0, 100))
def test_late_ids_take_the_same_places_as_a_list_while_a_window_has_room(fill, rpm, n):
    room = sum(max(0, rpm - held) for held in fill)
    assert allocator.free_places(fill, [rpm] * 15, n) == allocator.counts(fill, rpm, min(n, room))


def test_late_ids_never_exceed_capacity():
    assert allocator.free_places([7] * 15, [5] * 15, 10**12) == EMPTY
    assert allocator.free_places([4, 9, *[5] * 13], [5] * 15, 10**12) == (1, *[0] * 14)


@pytest.mark.parametrize("first_bucket", [-1, 16, True, None])
def test_invalid_first_bucket_is_refused(first_bucket):
    with pytest.raises(ValueError, match="first_bucket"):
        allocator.free_places(EMPTY, EMPTY, 1, first_bucket)


# Many windows


def windows(fills_before, rpm, n):
    """What each window takes, by offset: runs spelt out."""
    return {
        offset: run
        for run in allocator.carry_over_runs(fills_before, rpm, n)
        for offset in range(run.first, run.first + run.windows)
    }


def test_million_ids_at_rpm_120_take_556_windows():
    full, last = allocator.carry_over_runs({}, 120, 10**6)
    assert full == Run(0, 555, EMPTY, (120,) * 15)
    assert last == Run(555, 1, EMPTY, (120,) * 8 + (40,) + (0,) * 6)


def test_trillion_ids_over_empty_windows_are_two_runs():
    runs = list(allocator.carry_over_runs({}, 7, 10**12))
    assert [(run.first, run.windows) for run in runs] == [(0, 9523809523), (9523809523, 1)]
    assert sum(run.ids for run in runs) == 10**12
    assert runs[-1].added == (7,) * 12 + (1, 0, 0)


def test_full_windows_are_skipped_and_gaps_between_known_ones_filled():
    runs = list(allocator.carry_over_runs({1: [2] * 15, 2: [0, *[2] * 14], 5: [9] * 15}, 2, 140))
    assert runs == [
        Run(0, 1, EMPTY, (2,) * 15),
        Run(2, 1, (0, *[2] * 14), (2, *[0] * 14)),
        Run(3, 2, EMPTY, (2,) * 15),
        Run(6, 1, EMPTY, (2,) * 15),
        Run(7, 1, EMPTY, (2,) * 9 + (0,) * 6),
    ]


sparse = st.dictionaries(st.integers(0, 9), fills, max_size=6)


@given(sparse, rpms, st.integers(0, 3000))
def test_carry_over_gives_each_id_the_first_free_place(fills_before, rpm, n):
    expected, remaining, offset = {}, n, 0
    while remaining:
        added = allocator.free_places(fills_before.get(offset, EMPTY), [rpm] * 15, remaining)
        if any(added):
            expected[offset] = added
        remaining -= sum(added)
        offset += 1
    result = windows(fills_before, rpm, n)
    assert {offset: run.added for offset, run in result.items()} == expected
    assert list(result) == sorted(expected)
    assert all(run.before == tuple(fills_before.get(offset, EMPTY)) for offset, run in result.items())


@given(sparse, rpms, st.integers(0, 1000), st.integers(0, 1000))
def test_carry_over_in_two_calls_takes_the_same_places(fills_before, rpm, first_count, other):
    def fills_after(before, n):
        after = dict(before)
        for offset, run in windows(before, rpm, n).items():
            after[offset] = tuple(map(sum, zip(run.before, run.added, strict=True)))
        return after

    assert fills_after(fills_after(fills_before, first_count), other) == fills_after(
        fills_before, first_count + other
    )


@given(sparse, rpms, st.integers(1, 1000))
def test_carry_over_places_of_each_window_agree_with_places(fills_before, rpm, n):
    for run in allocator.carry_over_runs(fills_before, rpm, n):
        assert added_to(EMPTY, first(sum(run.added), run.before, rpm)) == run.added


def test_negative_window_offset_is_refused():
    with pytest.raises(ValueError, match="offset must be >= 0"):
        allocator.carry_over_runs({-1: EMPTY}, 1, 1)
