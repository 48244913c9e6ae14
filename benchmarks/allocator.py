"""How fast the allocator is beside the barest loop there is, and whether its memory stays flat.

Ratios of one run on one machine, never absolute times. `run()` gives rows as dicts: `name`, `value`, `limit`,
`unit` and `ok`. Run it alone by `python -m benchmarks.allocator`.
"""

import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat

from benchmarks.rows import Row
from scheduling.core import allocator

RPM = 120
IDS = 1_000_000
# Rounds alternate between what is compared, so that a busy moment of the machine meets both.
ROUNDS = 7

FILLS = {
    "an empty window": allocator.EMPTY,
    "a window that is even past rpm": (200,) * 15,
    "a window that is uneven past rpm": tuple(RPM + k * 7_919 % 13 * 10_000 for k in range(15)),
}


def run() -> list[Row]:
    """Measure, and return the rows."""
    return [
        *(_speed(name, fill) for name, fill in FILLS.items()),
        *(_memory(name, fill) for name, fill in FILLS.items()),
        _closed_form(),
        _carry_over(),
    ]


def _row(name: str, value: float, limit: float, unit: str, ok: bool) -> Row:
    return {"name": name, "value": round(value, 3), "limit": limit, "unit": unit, "ok": ok}


def _speed(name: str, fill: Sequence[int]) -> Row:
    def bare() -> Iterable[int]:
        # The same buckets, as a chain that needs no thought.
        return chain.from_iterable(repeat(k % 15, RPM) for k in range(IDS // RPM + 1))

    bare_seconds, own_seconds = _best(lambda: _zip(bare()), lambda: _zip(allocator.places(fill, RPM)))
    ratio = bare_seconds / own_seconds
    return _row(
        f"allocator: 1 million places in {name}",
        ratio,
        0.5,
        "of the rate of deque(zip(ids, chain), maxlen=0), at least",
        ratio >= 0.5,
    )


def _memory(name: str, fill: Sequence[int]) -> Row:
    small, large = (_peak_bytes(fill, ids) for ids in (IDS, 10 * IDS))
    return _row(
        f"allocator: peak memory of 10 million places in {name}",
        large / small,
        1.1,
        "of the peak of 1 million, at most",
        large / small <= 1.1,
    )


def _closed_form() -> Row:
    small, large = _best(
        lambda: [allocator.fill_after(allocator.EMPTY, RPM, 10**4) for _ in range(2_000)],
        lambda: [allocator.fill_after(allocator.EMPTY, RPM, 10**12) for _ in range(2_000)],
    )
    return _row(
        "allocator: fill after 10^12 IDs in closed form",
        large / small,
        1.5,
        "of the time for 10^4 IDs, at most",
        large / small <= 1.5,
    )


def _carry_over() -> Row:
    # As many windows both times, 100 times as many IDs.
    few, many = _best(lambda: _carried(rpm=RPM), lambda: _carried(rpm=100 * RPM))
    return _row(
        f"allocator: {100 * IDS:,} IDs carried over as many windows as {IDS:,}",
        many / few,
        1.5,
        "of the time, at most",
        many / few <= 1.5,
    )


def _carried(rpm: int) -> None:
    for _ in range(2_000):
        deque(allocator.carry_over_runs({}, rpm, IDS * rpm // RPM), maxlen=0)


def _zip(places: Iterable[int], ids: int = IDS) -> None:
    deque(zip(range(ids), places, strict=False), maxlen=0)


def _best(call: Callable[[], object], other_call: Callable[[], object]) -> tuple[float, float]:
    """Return the best time of each in seconds: the others were disturbed by something."""
    times: list[tuple[float, float]] = [(_seconds(call), _seconds(other_call)) for _ in range(ROUNDS)]
    return min(first for first, _ in times), min(second for _, second in times)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_bytes(fill: Sequence[int], ids: int) -> int:
    tracemalloc.start()
    try:
        _zip(allocator.places(fill, RPM), ids)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    for row in run():
        mark = "ok" if row["ok"] else "MISSED"
        print(f"{mark:6} {row['name']}: {row['value']} (limit {row['limit']} {row['unit']})")
