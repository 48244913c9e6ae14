"""How long it takes to plan a year of windows with hours, a ramp, quotas and a target's budget.

CPU time, the best of some rounds: `python -m benchmarks capacity`.
"""

import time
from datetime import UTC, datetime

from benchmarks.rows import Row
from scheduling.core import allocator, capacity

ROUNDS = 7
WINDOWS = 366 * 96
LIMIT_MS = 50.0
BEGIN = datetime(2026, 11, 30, tzinfo=UTC)
HOURS = {
    "zone": "Europe/Berlin",
    "open": ["mon-fri 09:00-18:00", "sat 10:00-12:30"],
    "closed": ["2026-12-25"],
}
RAMP = {"from": "2026-11-30", "start_rpm": 5, "factor": 1.1, "every": 1, "unit": "days"}
HOURS_OF_TARGET = {"zone": "America/New_York", "open": ["mon-fri 07:00-20:00"]}
QUOTA_OF_TARGET = {"limit": 15_000, "per": "day", "zone": "America/New_York"}
QUOTA = {"limit": 20_000, "per": "day", "zone": "Europe/Berlin"}


def run() -> list[Row]:
    """Measure, and return the rows."""
    hours = capacity.Hours.read(HOURS)
    ramp = capacity.Ramp.read(RAMP, hours.zone)
    quotas = (capacity.Quota.read(QUOTA),)
    return [
        _row("hours and a quota", capacity.Shape(60, hours, None, quotas)),
        _row("hours, a ramp and a quota", capacity.Shape(60, hours, ramp, quotas)),
        _row(
            "hours and a quota, of a target with both",
            capacity.Shape(60, hours, None, quotas).within(_target()),
        ),
    ]


def _target() -> capacity.Shape:
    return capacity.Shape(
        50, capacity.Hours.read(HOURS_OF_TARGET), None, (capacity.Quota.read(QUOTA_OF_TARGET),)
    )


def _row(name: str, shape: capacity.Shape) -> Row:
    best = min(_milliseconds(shape) for _ in range(ROUNDS))
    return {
        "name": f"capacity: a year of windows with {name} is planned in",
        "value": round(best, 1),
        "limit": LIMIT_MS,
        "unit": "ms of CPU time, at most",
        "ok": best <= LIMIT_MS,
    }


def _milliseconds(shape: capacity.Shape) -> float:
    """Plan more IDs than a year takes, from its capacities to the runs of the list."""
    began = time.process_time()
    stretches, windows = [], 0
    for stretch in shape.stretches(BEGIN):
        stretches.append(stretch)
        windows += stretch.windows
        if windows >= WINDOWS:
            break
    quota_room = shape.quotas_left(stretches, {})
    runs = list(allocator.runs_within(stretches, 10**9, fills={}, quotas=quota_room))
    if len(runs) < 250:
        raise RuntimeError("a year has more days than that")
    return 1_000 * (time.process_time() - began)
