"""How a plan and a moment are written."""

from datetime import UTC, datetime
from typing import Any

from scheduling.placement.reservations import Plan

WINDOWS_SHOWN = 96


def moment(at: datetime | None) -> str | None:
    """ISO 8601 in UTC with Z."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def plan_answer(plan: Plan) -> dict[str, Any]:
    """A plan, with the first 96 of its windows: a day."""
    return {
        "first_at": moment(plan.first_at),
        "last_at": moment(plan.last_at),
        "peak_per_minute": plan.peak_per_minute,
        "rpm": plan.rpm,
        "windows": [
            {
                "starts_at": moment(window.starts_at),
                "before": list(window.before),
                "added": list(window.added),
            }
            for window in plan.windows[:WINDOWS_SHOWN]
        ],
    }
