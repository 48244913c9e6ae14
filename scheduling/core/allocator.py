"""Which bucket each ID goes to: the two rules, over one window and over many.

1. Consecutive: an ID goes to the first bucket that holds fewer than `rpm`.
2. Dispersed: when every bucket holds `rpm` or more, it goes to the emptiest bucket, the earliest on a tie.

The fill is the whole state: how a list is cut into calls changes nothing, and the place of the p-th ID is a
function of p and the fill before. `places` is the lazy form, one bucket for each ID; `fill_after`, `counts`
and `place_at` are the closed form, in time that doesn't grow with the number of IDs. Late IDs and retries
never disperse: `free_places` and `carry_over_runs` know rule 1 only.

Pure: no Django, no clock, no I/O. A fill is 15 whole numbers >= 0 and is never changed; ValueError for any
other fill, number of IDs or rpm (a bool is no number). Source: DESIGN.md, "The two rules", and
golden/distribution.json.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, pairwise, repeat

BUCKETS = 15

Fill = tuple[int, ...]
EMPTY: Fill = (0,) * BUCKETS


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


def places(fill: Sequence[int], rpm: int) -> Iterator[int]:
    """Yield the bucket (0-14) of each next ID, lazily and without end.

    fill: IDs per bucket, 15 numbers >= 0, not changed. rpm: requests per minute, >= 1. Zipped with the IDs it
    costs constant memory. From position p on it is `places(fill_after(fill, rpm, p), rpm)`.
    Raises ValueError for any other fill or rpm, at the call. Source: the two rules, golden/distribution.json.
    """
    held = _fifteen(fill, "fill")
    steps = [_rounds(buckets, times) for buckets, times in _steps(held, _at_least(1, rpm, "rpm"))]
    # Iterators written in C all the way down: a generator would take six times as long.
    return chain.from_iterable([*steps, cycle(range(BUCKETS))])


def fill_after(fill: Sequence[int], rpm: int, n: int) -> Fill:
    """Return the fill after `n` more IDs, in time that doesn't grow with `n`.

    Arguments as for `places`; n >= 0. Equal to counting the first `n` of `places` on top of `fill`.
    """
    held = list(_fifteen(fill, "fill"))
    left = _at_least(0, n, "n")
    for buckets, times in _steps(tuple(held), _at_least(1, rpm, "rpm")):
        full = min(times, left // len(buckets))
        for k in buckets:
            held[k] += full
        left -= full * len(buckets)
        if full < times:
            # The step ends within a round: the earliest buckets have one more, and nothing is left.
            for k in buckets[:left]:
                held[k] += 1
            return tuple(held)
    # All are even from here on.
    full, rest = divmod(left, BUCKETS)
    return tuple(number + full + (k < rest) for k, number in enumerate(held))


def counts(fill: Sequence[int], rpm: int, n: int) -> Fill:
    """Return how many of the next `n` IDs each bucket gets: 15 numbers that add up to `n`."""
    return tuple(after - before for after, before in zip(fill_after(fill, rpm, n), fill, strict=True))


def place_at(fill: Sequence[int], rpm: int, position: int) -> int:
    """Return the bucket of the ID at `position` (from 0): that item of `places`, without walking to it."""
    return next(places(fill_after(fill, rpm, position), rpm))


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


def free_places(fill: Sequence[int], capacity: Sequence[int], n: int, first_bucket: int = 0) -> Fill:
    """Return how many of `n` IDs each bucket takes by rule 1 alone: 15 numbers that add up to `n` or less.

    capacity: 15 numbers >= 0; a bucket that holds as many or more takes none. first_bucket: the first one
    that may take some, 0 to 15 (15: none may). What doesn't fit is for the next window.
    """
    held, most = _fifteen(fill, "fill"), _fifteen(capacity, "capacity")
    left = _at_least(0, n, "n")
    if _at_least(0, first_bucket, "first_bucket") > BUCKETS:
        raise ValueError(f"first_bucket must be 0 to {BUCKETS}, not {first_bucket}")
    added = [0] * BUCKETS
    for k in range(first_bucket, BUCKETS):
        added[k] = min(left, max(0, most[k] - held[k]))
        left -= added[k]
    return tuple(added)


def carry_over_runs(fills: Mapping[int, Sequence[int]], rpm: int, n: int) -> Iterator[Run]:
    """Yield where `n` IDs go by rule 1 alone, over as many windows as it takes, in order, without full ones.

    fills: the fills of windows by their offset (>= 0) from the first that may take some; absent ones are
    empty. rpm: what each bucket takes.

    There is no horizon: whoever has one compares it with the last run. The time grows with the number of
    windows that are named, and with neither `n` nor the number of empty windows. Raises ValueError at the
    call.
    """
    left = _at_least(0, n, "n")
    level = (_at_least(1, rpm, "rpm"),) * BUCKETS
    if min(fills, default=0) < 0:
        raise ValueError(f"a window's offset must be >= 0, not {min(fills)}")
    # Each fill is looked at now, so that a wrong one is refused here and not in the middle of the list.
    known = [(offset, _fifteen(fills[offset], "fill")) for offset in sorted(fills)]
    return _carry_over_runs(known, level, left)


def _carry_over_runs(known: list[tuple[int, Fill]], level: Fill, left: int) -> Iterator[Run]:
    following = 0
    for offset, fill in known:
        for run in _empty_windows(following, offset - following, level, left):
            yield run
            left -= run.ids
        if not left:
            return
        added = free_places(fill, level, left)
        if taken := sum(added):
            yield Run(offset, 1, fill, added)
            left -= taken
        following = offset + 1
    yield from _empty_windows(following, left, level, left)


def _empty_windows(first: int, windows: int, level: Fill, left: int) -> Iterator[Run]:
    """Yield what at most `windows` empty windows take: the full ones as one run, and the last in part."""
    room = sum(level)
    full = min(windows, left // room)
    if full:
        yield Run(first, full, EMPTY, level)
    if full < windows and (rest := left - full * room):
        yield Run(first + full, 1, EMPTY, free_places(EMPTY, level, rest))


def _steps(held: Fill, rpm: int) -> list[tuple[tuple[int, ...], int]]:
    """Return the way from a fill to an even one past rpm, as (buckets, rounds): each round, one ID to each.

    At most 15 steps of rule 1 and 14 of rule 2, whatever the numbers: both forms walk these.
    """
    steps: list[tuple[tuple[int, ...], int]] = [
        ((k,), rpm - number) for k, number in enumerate(held) if number < rpm
    ]
    # Rule 2 begins when all hold rpm or more. The lowest ones rise together, one round after the other in
    # order of index, until they reach the next level; those that stood there join them.
    raised = [max(number, rpm) for number in held]
    for level, above in pairwise(sorted(set(raised))):
        lowest = tuple(k for k in range(BUCKETS) if raised[k] <= level)
        steps.append((lowest, above - level))
    return steps


def _rounds(buckets: tuple[int, ...], times: int) -> Iterator[int]:
    """Yield `buckets` in order, `times` times over, in constant memory."""
    # itertools counts in machine words. Nobody lives to see the difference.
    number = min(times * len(buckets), sys.maxsize)
    return repeat(buckets[0], number) if len(buckets) == 1 else islice(cycle(buckets), number)


def _at_least(least: int, number: int, name: str) -> int:
    if type(number) is not int or number < least:
        raise ValueError(f"{name} must be a whole number >= {least}, not {number!r}")
    return number


def _fifteen(numbers: Sequence[int], name: str) -> Fill:
    checked = tuple(numbers)
    if len(checked) != BUCKETS or any(type(number) is not int or number < 0 for number in checked):
        raise ValueError(f"{name} must be {BUCKETS} whole numbers >= 0, not {numbers!r}")
    return checked
