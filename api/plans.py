"""Plans and times as JSON."""

from typing import Any

from scheduling.core.clock import iso
from scheduling.placement.reservations import Plan

WINDOWS_SHOWN = 96


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, with the first 96 of its windows, which is one day."""
    return {
        "first_at": iso(plan.first_at),
        "last_at": iso(plan.last_at),
        "peak_per_minute": plan.peak_per_minute,
        "rpm": plan.rpm,
        "share": None
        if plan.share is None
        else {
            "percent": plan.share.percent,
            "places_left": plan.share.left,
            "last_at": iso(plan.share.last_at),
        },
        "windows": [
            {
                "starts_at": iso(window.starts_at),
                "before": list(window.before),
                "added": list(window.added),
                "capacity": None if window.level is None else list(window.level),
            }
            for window in plan.windows[:WINDOWS_SHOWN]
        ],
    }
