"""Which bucket each ID goes to: the two rules, over one window and over many.

1. Consecutive: an ID goes to the first bucket that holds fewer than its capacity.
2. Dispersed: when every open bucket holds its capacity or more, it goes to the emptiest open bucket, the earliest on
   a tie.

A capacity is one number for all buckets (the queue's rpm), or 15 numbers, of which 0 closes a bucket: it gets nothing
by either rule. A limit is 15 more numbers: no bucket gets more than that in all, by either rule.

The fill is the whole state: how a list is cut into calls changes nothing, and the place of the p-th ID is a
function of p and the fill before. `places` is the lazy form, one bucket for each ID; `fill_after`, `counts`
and `place_at` are the closed form, in time that doesn't grow with the number of IDs. Late IDs and retries
never disperse: `free_places` and `carry_over_runs` know rule 1 only. `runs_within` and `dispersed_within` place a
list over windows whose capacities differ and whose periods have quotas.

Pure: no Django, no clock, no I/O. A fill is 15 whole numbers >= 0 and is never changed; ValueError for any
other fill, number of IDs or capacity (a bool is no number). Source: the two rules of docs/glossary.md,
tests/golden/distribution.json and capacities.json.
"""

import sys
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain, cycle, islice, pairwise, repeat

BUCKETS = 15

Fill = tuple[int, ...]
EMPTY: Fill = (0,) * BUCKETS
_ALL = tuple(range(BUCKETS))
# One number for all buckets, or 15 numbers.
Capacity = int | Sequence[int]


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive windows that all take the same: most of a long list is one run of empty windows.

    first: offset of the first window, in windows. windows: how many, >= 1. before: the fill of each of them,
    15 numbers. added: what each of them takes, 15 numbers, not all 0.
    """

    first: int
    windows: int
    before: Fill
    added: Fill

    @property
    def ids(self) -> int:
        """How many IDs all windows of the run take together."""
        return self.windows * sum(self.added)


def places(fill: Sequence[int], capacity: Capacity, limit: Sequence[int] | None = None) -> Iterator[int]:
    """Yield the bucket (0-14) of each next ID, lazily; without end where there is no limit.

    fill: IDs per bucket, 15 numbers >= 0, not changed. capacity: requests per minute, >= 1, or 15 numbers >= 0, not
    all 0. Zipped with the IDs it costs constant memory. From position p on it is
    `places(fill_after(fill, capacity, p), capacity)`. Raises ValueError for anything else, at the call. Source: the
    two rules, golden/distribution.json, golden/capacities.json.
    """
    filled, most = _fifteen(fill, "fill"), _open(capacity)
    if limit is not None:
        limited = _limited_steps(filled, most, _fifteen(limit, "limit"))
        return chain.from_iterable([_rounds(buckets, times) for buckets, times in limited])
    steps = [_rounds(buckets, times) for buckets, times in _steps(filled, most)]
    # Iterators written in C all the way down: a generator would take six times as long.
    return chain.from_iterable([*steps, cycle(_open_buckets(most))])


def fill_after(fill: Sequence[int], capacity: Capacity, n: int, limit: Sequence[int] | None = None) -> Fill:
    """Return the fill after `n` more IDs, in time that doesn't grow with `n`.

    Arguments as for `places`; n >= 0. Equal to counting the first `n` of `places` on top of `fill`: less than `n`
    where the limit leaves room for less.
    """
    filled, most = list(_fifteen(fill, "fill")), _open(capacity)
    remaining = _at_least(0, n, "n")
    if limit is None:
        steps = _steps(tuple(filled), most)
    else:
        steps = _limited_steps(tuple(filled), most, _fifteen(limit, "limit"))
    for buckets, times in steps:
        rounds = min(times, remaining // len(buckets))
        for k in buckets:
            filled[k] += rounds
        remaining -= rounds * len(buckets)
        if rounds < times:
            # The step ends within a round: the earliest buckets have one more, and nothing remains.
            for k in buckets[:remaining]:
                filled[k] += 1
            return tuple(filled)
    if limit is not None:
        return tuple(filled)
    # All open ones are even from here on.
    opened = _open_buckets(most)
    rounds, rest = divmod(remaining, len(opened))
    for number, k in enumerate(opened):
        filled[k] += rounds + (number < rest)
    return tuple(filled)


def counts(fill: Sequence[int], capacity: Capacity, n: int, limit: Sequence[int] | None = None) -> Fill:
    """Return how many of the next `n` IDs each bucket gets: 15 numbers that add up to `n`, or to what the limit
    leaves room for.
    """
    filled = fill_after(fill, capacity, n, limit)
    return tuple(after - before for after, before in zip(filled, fill, strict=True))


def place_at(fill: Sequence[int], capacity: Capacity, position: int) -> int:
    """Return the bucket of the ID at `position` (from 0): that item of `places`, without walking to it."""
    return next(places(fill_after(fill, capacity, position), capacity))


def places_of(
    positions: Sequence[int], fill: Sequence[int], capacity: Capacity, limit: Sequence[int] | None = None
) -> Iterator[int]:
    """Yield the buckets of the IDs at `positions` (from 0, ascending): those items of `places`, without the others.

    Other arguments as for `places`.
    """
    filled, most = _fifteen(fill, "fill"), _open(capacity)
    if limit is not None:
        return _of_steps(positions, _limited_steps(filled, most, _fifteen(limit, "limit")))
    return _of_steps(positions, [*_steps(filled, most), (_open_buckets(most), sys.maxsize)])


def in_order(counts: Sequence[int], position: int = 0) -> Iterator[int]:
    """Yield the buckets of IDs that rule 1 alone has placed, from the ID at `position` (from 0) on.

    counts: how many each bucket takes, as `free_places` says: one bucket after the other.
    """
    passed = 0
    runs: list[Iterator[int]] = []
    for k, count in enumerate(_fifteen(counts, "counts")):
        runs.append(repeat(k, max(0, count - max(0, position - passed))))
        passed += count
    return chain.from_iterable(runs)


def in_order_of(positions: Sequence[int], counts: Sequence[int]) -> Iterator[int]:
    """Yield the buckets of the IDs at `positions` (from 0, ascending): those items of `in_order`."""
    return _of_steps(positions, [((k,), count) for k, count in enumerate(_fifteen(counts, "counts"))])


def free_places(fill: Sequence[int], capacity: Sequence[int], n: int, first_bucket: int = 0) -> Fill:
    """Return how many of `n` IDs each bucket takes by rule 1 alone: 15 numbers that add up to `n` or less.

    capacity: 15 numbers >= 0; a bucket that holds as many or more takes none. first_bucket: the first one
    that may take some, 0 to 15 (15: none may). What doesn't fit is for the next window.
    """
    filled, most = _fifteen(fill, "fill"), _fifteen(capacity, "capacity")
    remaining = _at_least(0, n, "n")
    if _at_least(0, first_bucket, "first_bucket") > BUCKETS:
        raise ValueError(f"first_bucket must be 0 to {BUCKETS}, not {first_bucket}")
    added = [0] * BUCKETS
    for k in range(first_bucket, BUCKETS):
        added[k] = min(remaining, max(0, most[k] - filled[k]))
        remaining -= added[k]
    return tuple(added)


def carry_over_runs(fills: Mapping[int, Sequence[int]], rpm: int, n: int) -> Iterator[Run]:
    """Yield where `n` IDs go by rule 1 alone, over as many windows as it takes, in order, without full ones.

    fills: the fills of windows by their offset (>= 0) from the first that may take some; absent ones are
    empty. rpm: what each bucket takes.

    There is no horizon: a caller that has one compares it with the last run. The time grows with the number of
    windows that are named, and with neither `n` nor the number of empty windows. Raises ValueError at the
    call.
    """
    remaining = _at_least(0, n, "n")
    level = (_at_least(1, rpm, "rpm"),) * BUCKETS
    if min(fills, default=0) < 0:
        raise ValueError(f"a window's offset must be >= 0, not {min(fills)}")
    # Each fill is looked at now, so that a wrong one is refused here and not in the middle of the list.
    checked_fills = [(offset, _fifteen(fills[offset], "fill")) for offset in sorted(fills)]
    return _carry_over_runs(checked_fills, level, remaining)


def _carry_over_runs(checked_fills: list[tuple[int, Fill]], level: Fill, remaining: int) -> Iterator[Run]:
    following = 0
    for offset, fill in checked_fills:
        for run in _empty_windows(following, offset - following, level, remaining):
            yield run
            remaining -= run.ids
        if not remaining:
            return
        added = free_places(fill, level, remaining)
        if added_count := sum(added):
            yield Run(offset, 1, fill, added)
            remaining -= added_count
        following = offset + 1
    yield from _empty_windows(following, remaining, level, remaining)


def _empty_windows(first: int, windows: int, level: Fill, remaining: int) -> Iterator[Run]:
    """Yield what at most `windows` empty windows take: the full ones as one run, and the last in part."""
    room = sum(level)
    full = min(windows, remaining // room) if room else 0
    if full:
        yield Run(first, full, EMPTY, level)
    if room and full < windows and (rest := remaining - full * room):
        yield Run(first + full, 1, EMPTY, free_places(EMPTY, level, rest))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive windows with the same capacities, in the same periods of every quota.

    windows: how many, >= 1. capacity: of the buckets of each of them, 15 numbers. periods: keys of the periods in
    which they lie, for those periods that have a quota. limit: what a bucket may hold by both rules; without one, IDs
    go by rule 1 alone.
    """

    windows: int
    capacity: Fill
    periods: tuple[Hashable, ...] = ()
    limit: Fill | None = None


def runs_within(
    stretches: Iterable[Stretch],
    n: int,
    *,
    fills: Mapping[int, Sequence[int]],
    quotas: dict[Hashable, int],
) -> Iterator[Run]:
    """Yield where `n` IDs go by rule 1, over windows whose capacities and quotas differ; also by rule 2 up to a limit.

    stretches: one after the other, from the first window that may take some; read as far as the IDs reach. fills: as
    for `carry_over_runs`. quotas: how many more IDs each period may take; a period that isn't named takes any number.
    The time grows with the number of stretches and of windows that are named, not with `n`. IDs for which the
    stretches have no room are in no run.
    """
    remaining = _at_least(0, n, "n")
    offsets = sorted(fills)
    checked_fills = {offset: _fifteen(fills[offset], "fill") for offset in offsets}
    available = copy(quotas)
    first = 0
    for stretch in stretches:
        if not remaining:
            return
        level = _fifteen(stretch.capacity, "capacity")
        if not any(level) or not _most(remaining, stretch.periods, available):
            first += stretch.windows
            continue
        named = offsets[bisect_left(offsets, first) : bisect_left(offsets, first + stretch.windows)]
        for offset, windows, fill in _pieces(
            first, stretch.windows, {key: checked_fills[key] for key in named}
        ):
            if not remaining:
                return
            most = _most(remaining, stretch.periods, available)
            if stretch.limit is None:
                runs = _of_piece(offset, windows, fill, level, most)
            else:
                runs = _within_limit(offset, windows, fill, stretch, most)
            yield from runs
            added_count = sum(run.ids for run in runs)
            remaining -= added_count
            _book(added_count, stretch.periods, available)
        first += stretch.windows


def _pieces(first: int, windows: int, named: dict[int, Fill]) -> Iterator[tuple[int, int, Fill | None]]:
    """Yield (offset, windows, fill) in order: each window that is named, and the empty ones between (fill None)."""
    following, end = first, first + windows
    for offset, fill in named.items():
        if offset > following:
            yield following, offset - following, None
        yield offset, 1, fill
        following = offset + 1
    if following < end:
        yield following, end - following, None


def _of_piece(offset: int, windows: int, fill: Fill | None, level: Fill, most: int) -> list[Run]:
    if fill is None:
        return list(_empty_windows(offset, windows, level, most))
    added = free_places(fill, level, most)
    return [Run(offset, 1, fill, added)] if any(added) else []


def _within_limit(offset: int, windows: int, fill: Fill | None, stretch: Stretch, most: int) -> list[Run]:
    """The same by both rules: windows that hold their limit, and one that takes the rest."""
    before = EMPTY if fill is None else fill
    full = counts(before, stretch.capacity, sys.maxsize, stretch.limit)
    if not (room := sum(full)):
        return []
    whole = min(windows, most // room)
    runs = [Run(offset, whole, before, full)] if whole else []
    if whole < windows and (rest := most - whole * room):
        added = counts(before, stretch.capacity, rest, stretch.limit)
        runs.append(Run(offset + whole, 1, before, added))
    return runs


def _most(n: int, periods: tuple[Hashable, ...], available: Mapping[Hashable, int]) -> int:
    """How many of `n` IDs the quotas of these periods leave room for."""
    return max(0, min([n, *(available[period] for period in periods if period in available)]))


def _book(count: int, periods: tuple[Hashable, ...], available: dict[Hashable, int]) -> None:
    for period in periods:
        if period in available:
            available[period] -= count


def dispersed_within(
    stretches: Iterable[Stretch],
    n: int,
    *,
    fills: Mapping[int, Sequence[int]],
    quotas: dict[Hashable, int],
) -> Iterator[Run]:
    """Yield where `n` IDs go by both rules: all into the first window with an open bucket that a quota leaves room in.

    What the quota of its period doesn't leave room for goes to the first such window of a later period. Arguments as
    for `runs_within`.
    """
    remaining = _at_least(0, n, "n")
    available = copy(quotas)
    first = 0
    for stretch in stretches:
        most = _most(remaining, stretch.periods, available)
        if most and any(stretch.capacity):
            fill = _fifteen(fills.get(first, EMPTY), "fill")
            yield Run(first, 1, fill, counts(fill, stretch.capacity, most))
            remaining -= most
            _book(most, stretch.periods, available)
        if not remaining:
            return
        first += stretch.windows


def _open(capacity: Capacity) -> Fill:
    """Return the 15 capacities. Raises ValueError if no bucket is open."""
    if isinstance(capacity, str) or not isinstance(capacity, Sequence):
        return (_at_least(1, capacity, "rpm"),) * BUCKETS
    most = _fifteen(capacity, "capacity")
    if not any(most):
        raise ValueError("no bucket is open")
    return most


def _open_buckets(most: Fill) -> tuple[int, ...]:
    return _ALL if all(most) else tuple(k for k, number in enumerate(most) if number)


def _steps(filled: Fill, most: Fill) -> list[tuple[tuple[int, ...], int]]:
    """Return the way from a fill to an even one past all capacities, as (buckets, rounds): each round, one ID to each.

    At most 15 steps of rule 1 and 14 of rule 2, whatever the numbers: both forms walk these.
    """
    pairs = list(zip(filled, most, strict=True))
    steps: list[tuple[tuple[int, ...], int]] = [
        ((k,), top - number) for k, (number, top) in enumerate(pairs) if number < top
    ]
    # Rule 2 begins when all open buckets hold their capacity or more. The lowest ones rise together, one round after
    # the other in order of index, until they reach the next level; those that stood there join them.
    raised = [number if number > top else top for number, top in pairs]
    opened = _open_buckets(most)
    for level, above in pairwise(sorted({raised[k] for k in opened})):
        steps.append((tuple(k for k in opened if raised[k] <= level), above - level))
    return steps


def _limited_steps(filled: Fill, most: Fill, limit: Fill) -> list[tuple[tuple[int, ...], int]]:
    """The same way up to a limit: the lowest rise together, and each leaves them at its limit. At most 45 steps."""
    top = tuple(map(min, most, limit))
    steps: list[tuple[tuple[int, ...], int]] = [
        ((k,), top[k] - number) for k, number in enumerate(filled) if number < top[k]
    ]
    raised = tuple(map(max, filled, top))
    opened = _open_buckets(most)
    levels = sorted({raised[k] for k in opened} | {limit[k] for k in opened})
    for level, above in pairwise(levels):
        if rising := tuple(k for k in opened if raised[k] <= level < limit[k]):
            steps.append((rising, above - level))
    return steps


def _rounds(buckets: tuple[int, ...], times: int) -> Iterator[int]:
    """Yield `buckets` in order, `times` times over, in constant memory."""
    # itertools counts in machine words. Nobody lives to see the difference.
    number = min(times * len(buckets), sys.maxsize)
    return repeat(buckets[0], number) if len(buckets) == 1 else islice(cycle(buckets), number)


def _of_steps(positions: Sequence[int], steps: Iterable[tuple[tuple[int, ...], int]]) -> Iterator[int]:
    """Yield the buckets at positions, ascending, of the way that these steps describe."""
    pieces: list[Iterable[int]] = []
    begins_at = first = 0
    for buckets, times in steps:
        each = len(buckets)
        ends_at = begins_at + times * each
        last = bisect_left(positions, ends_at, first)
        if each == 1:
            pieces.append(repeat(buckets[0], last - first))
        elif first < last:
            pieces.append([buckets[(position - begins_at) % each] for position in positions[first:last]])
        begins_at, first = ends_at, last
    return chain.from_iterable(pieces)


def _at_least(least: int, number: int, name: str) -> int:
    if type(number) is not int or number < least:
        raise ValueError(f"{name} must be a whole number >= {least}, not {number!r}")
    return number


def _fifteen(numbers: Sequence[int], name: str) -> Fill:
    fill = tuple(numbers)
    if len(fill) != BUCKETS or {*map(type, fill)} != {int} or min(fill) < 0:
        raise ValueError(f"{name} must be {BUCKETS} whole numbers >= 0, not {numbers!r}")
    return fill
