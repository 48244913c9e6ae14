"""The two rules where each minute has a capacity of its own, and lists over windows with hours and quotas."""

import json
from collections import Counter
from itertools import accumulate, islice, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import allocator
from scheduling.core.allocator import EMPTY, Run, Stretch

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "capacities.json").read_text())
golden = pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])

fills = st.lists(st.integers(0, 9), min_size=15, max_size=15)
capacities = st.lists(st.integers(0, 6), min_size=15, max_size=15).filter(any)
large = st.lists(st.integers(0, 10**12), min_size=15, max_size=15)
large_capacities = large.filter(any)


def naive(fill, capacity, n):
    """The two rules word for word, one ID after the other."""
    filled = list(fill)
    opened = [k for k in range(15) if capacity[k] > 0]
    for _ in range(n):
        below = [k for k in opened if filled[k] < capacity[k]]
        k = below[0] if below else min(opened, key=lambda k: (filled[k], k))
        filled[k] += 1
        yield k


def first(n, fill, capacity):
    return list(islice(allocator.places(fill, capacity), n))


# One window


@given(
    fills, capacities, st.lists(st.integers(0, 40), min_size=15, max_size=15), st.sets(st.integers(0, 600))
)
def test_places_of_positions_are_those_items_of_all_places(fill, capacity, limit, chosen):
    for most in (None, limit):
        places = list(islice(allocator.places(fill, capacity, most), 601))
        positions = sorted(position for position in chosen if position < len(places))
        result = list(allocator.places_of(positions, fill, capacity, most))
        assert result == [places[position] for position in positions]


@golden
def test_golden_case_agrees_with_a_literal_reading_of_the_rules(case):
    assert list(naive(case["fill"], case["capacity"], len(case["places"]))) == case["places"]


@golden
def test_golden_case_is_the_result_of_both_implementations(case):
    fill, capacity, n = case["fill"], case["capacity"], len(case["places"])
    assert first(n, fill, capacity) == case["places"]
    assert allocator.fill_after(fill, capacity, n) == tuple(case["after"])
    count = Counter(case["places"])
    assert allocator.counts(fill, capacity, n) == tuple(count[k] for k in range(15))


@golden
def test_golden_case_can_be_resumed_from_any_position(case):
    fill, capacity, n = case["fill"], case["capacity"], len(case["places"])
    for position in range(n):
        at = allocator.fill_after(fill, capacity, position)
        assert first(n - position, at, capacity) == case["places"][position:]
        assert allocator.place_at(fill, capacity, position) == case["places"][position]


@given(fills, capacities, st.integers(0, 150), st.integers(0, 150))
def test_places_and_fill_after_agree_at_any_capacities(fill, capacity, n, cut):
    expected = list(naive(fill, capacity, n))
    assert first(n, fill, capacity) == expected
    after = allocator.fill_after(fill, capacity, n)
    count = Counter(expected)
    assert after == tuple(number + count[k] for k, number in enumerate(fill))
    cut = min(cut, n)
    middle = allocator.fill_after(fill, capacity, cut)
    assert allocator.fill_after(middle, capacity, n - cut) == after
    assert first(n - cut, middle, capacity) == expected[cut:]


@given(large, large_capacities, st.integers(0, 10**15))
def test_fill_after_adds_up_and_leaves_closed_minutes_alone(fill, capacity, n):
    added = allocator.counts(fill, capacity, n)
    assert sum(added) == n
    assert all(count >= 0 for count in added)
    assert not any(count for count, most in zip(added, capacity, strict=True) if most == 0)


@given(fills, st.integers(1, 9), st.integers(0, 200))
def test_fifteen_equal_capacities_are_one_rpm(fill, rpm, n):
    assert first(n, fill, [rpm] * 15) == first(n, fill, rpm)
    assert allocator.fill_after(fill, (rpm,) * 15, n) == allocator.fill_after(fill, rpm, n)


@pytest.mark.parametrize(
    "capacity", [[0] * 15, [1] * 14, [1] * 16, [1] * 14 + [-1], [1] * 14 + [True], [1.0] * 15]
)
def test_capacities_without_an_open_minute_or_no_fifteen_are_refused_at_the_call(capacity):
    for form in (
        lambda: allocator.places(EMPTY, capacity),
        lambda: allocator.fill_after(EMPTY, capacity, 1),
        lambda: allocator.counts(EMPTY, capacity, 1),
        lambda: allocator.place_at(EMPTY, capacity, 1),
    ):
        with pytest.raises(ValueError, match=r"capacity must be|no bucket is open"):
            form()


# Many windows

small = st.lists(st.integers(0, 3), min_size=15, max_size=15).map(tuple)
stretches = st.lists(
    st.builds(
        Stretch,
        windows=st.integers(1, 4),
        capacity=small | st.just(EMPTY),
        periods=st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple),
    ),
    max_size=6,
)
fills_before = st.dictionaries(st.integers(0, 12), fills, max_size=6)
quotas = st.dictionaries(st.sampled_from("ab"), st.integers(0, 60))


def windows_of(stretches):
    """(capacity, periods) of each window."""
    return [(stretch.capacity, stretch.periods) for stretch in stretches for _ in range(stretch.windows)]


def one_by_one(stretches, n, fills, quotas):
    """Rule 1, one ID after the other: the first minute with room, in the first window whose quotas leave any."""
    available, added = dict(quotas), {}
    for offset, (capacity, periods) in enumerate(windows_of(stretches)):
        fill = fills.get(offset, EMPTY)
        for k in range(15):
            room = max(0, capacity[k] - fill[k])
            while room and n and all(available.get(period, 1) > 0 for period in periods):
                added.setdefault(offset, [0] * 15)[k] += 1
                room, n = room - 1, n - 1
                for period in periods:
                    if period in available:
                        available[period] -= 1
    return added


def by_window(runs: list[Run]) -> dict[int, list[int]]:
    return {run.first + n: list(run.added) for run in runs for n in range(run.windows)}


@given(stretches, st.integers(0, 300), fills_before, quotas)
def test_runs_agree_with_rule_1_applied_one_by_one(stretches, n, fills_before, quotas):
    runs = list(allocator.runs_within(stretches, n, fills=fills_before, quotas=quotas))
    assert by_window(runs) == one_by_one(stretches, n, fills_before, quotas)
    assert [run.first for run in runs] == sorted(run.first for run in runs)
    assert all(run.before == tuple(fills_before.get(run.first, EMPTY)) for run in runs)


def test_runs_of_equal_windows_without_quotas_are_those_carried_over():
    fills = {0: (2,) * 15, 3: tuple(range(15)), 7: (9,) * 15}
    stretch = Stretch(10**6, (5,) * 15)
    for n in (0, 1, 74, 75, 76, 1_000, 10**6):
        runs = list(allocator.runs_within([stretch], n, fills=fills, quotas={}))
        assert by_window(runs) == by_window(list(allocator.carry_over_runs(fills, 5, n)))


@given(stretches, st.integers(1, 300), fills_before, quotas)
def test_dispersed_list_takes_what_a_quota_leaves_and_the_rest_of_a_later_period(
    stretches, n, fills_before, quotas
):
    runs = list(allocator.dispersed_within(stretches, n, fills=fills_before, quotas=quotas))
    available, windows = dict(quotas), windows_of(stretches)
    for run in runs:
        capacity, periods = windows[run.first]
        fill = fills_before.get(run.first, EMPTY)
        assert run.added == allocator.counts(fill, capacity, run.ids)
        for period in set(periods) & set(available):
            available[period] -= run.ids
            assert available[period] >= 0
    taken = sum(run.ids for run in runs)
    assert taken <= n
    # All but the last used up what their period had.
    positions = list(accumulate((run.ids for run in runs), initial=0))
    for run, before in zip(runs, positions, strict=False):
        periods = windows[run.first][1]
        assert before + run.ids == n or any(available.get(period) == 0 for period in periods)


def test_memory_and_time_do_not_grow_with_the_ids():
    runs = allocator.runs_within([Stretch(10**9, (1,) * 15)], 10**9, fills={}, quotas={})
    assert list(runs) == [
        Run(0, 10**9 // 15, EMPTY, (1,) * 15),
        Run(10**9 // 15, 1, EMPTY, (1,) * 10 + (0,) * 5),
    ]


def test_stretches_are_read_no_further_than_the_ids_reach():
    # Without an end, as a queue's are.
    stretches = repeat(allocator.Stretch(1, (1,) * 15))
    runs = list(allocator.runs_within(stretches, 30, fills={}, quotas={}))
    assert sum(run.ids for run in runs) == 30
