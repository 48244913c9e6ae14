"""Numbers in words. Pure."""

from dashboard.drawings import STACK, Counts

STATES = {
    "succeeded": "succeeded",
    "failed": "failed",
    "expired": "expired",
    "in_flight": "in flight",
    "waiting": "waiting",
    "cancelled": "cancelled",
}


def ids(count: int) -> str:
    """1 ID, 2,346 IDs."""
    return f"{count:,} ID{'' if count == 1 else 's'}"


def minute(counts: Counts) -> str:
    """What is in a minute: "157 IDs, 37 over 120, 3 failed, 154 waiting"."""
    filled, capacity = counts.filled, counts.capacity
    if not filled:
        return f"nothing, of {capacity:,}"
    said = ids(filled)
    if filled > capacity:
        said += f", {filled - capacity:,} over {capacity:,}"
    for kind in STACK:
        if count := getattr(counts, kind):
            said += f", {count:,} {STATES[kind]}"
    return said


def span(seconds: float) -> str:
    """A span of time as somebody would say it: 0.4 s, 38 s, 7 min, 3.2 h, 3.9 days."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def length(minutes: int) -> str:
    """A whole number of minutes: 1 minute, 15 minutes, 6 hours, 7 days."""
    count, unit = minutes, "minute"
    if minutes % 60 == 0:
        count, unit = (minutes // 1440, "day") if minutes % 1440 == 0 else (minutes // 60, "hour")
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes: 312 B, 312 kB, 58.2 MB."""
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}" if count < 100 and unit != "kB" else f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} TB"
