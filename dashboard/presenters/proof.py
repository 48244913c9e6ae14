"""A check of the plan as its page shows it: what was checked, with figures, and the quarter-hours one by one."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard.formatting import plural
from scheduling import models
from scheduling.core import clock, keys
from scheduling.reports import planning

# In the order of proof.STAGES: what each looks at, and what it has to find.
STAGES = (
    (
        "Quarter-hours and minutes",
        "The log of reservations, replayed, leads to the fill of every minute; every counter equals the rows that "
        "it counts; every request left a trace.",
    ),
    (
        "Tasks",
        "Each is the sum of its minutes, and a finished one has nothing left to send. Nothing started while one was on "
        "hold, and only its first IDs before its canary had passed.",
    ),
    ("IDs", "Each has one row, in the minute that the rules and its moves gave it."),
    ("Work in progress", "Nothing waits in a minute that is over, and every claim has a living owner."),
    ("Receipts", "Each leads to its hash, and follows the one before it in the chain of its queue."),
    ("Targets", "No 60 seconds saw more starts of all its queues than a target's budget allows."),
    ("Quotas", "No hour, day or month has had more starts than its quota allows."),
)
WINDOWS_SHOWN = 48
_PLACE = re.compile(r"\b(window|bucket) (\d+)")


@dataclass(frozen=True)
class Part:
    """A part of a check. checked: in words. found: how many differences. is_done: whether all of it was checked."""

    name: str
    about: str
    checked: str
    found: int
    is_done: bool = True


@dataclass(frozen=True)
class CheckedWindow:
    """A quarter-hour of a queue: what was planned, what became of it, and how much of that does not hold."""

    queue: str
    starts_at: datetime
    planning: planning.Planning
    found: int

    @property
    def runs_at(self) -> datetime:
        return clock.runs_at(self.starts_at)


def parts(check: models.BulkAct) -> list[Part]:
    """The parts of a check with their figures; empty for one that kept none."""
    figures = check.asked.get("figures") or []
    # Of a check that is in progress, those before the stage at which it goes on.
    done = len(STAGES) if check.ended_at else check.asked.get("stage", 0)
    return [
        Part(name, about, _counts_in_words(each["checked"]), each["found"], is_done=k < done)
        for k, ((name, about), each) in enumerate(zip(STAGES, figures, strict=False))
    ]


def _counts_in_words(counts: dict[str, int]) -> str:
    # PostgreSQL's JSON keeps no order: quarter-hours stand before their minutes.
    return ", ".join(plural(counts[word], word) for word in sorted(counts, reverse=True))


def windows(
    stored_differences: Iterable[dict[str, Any]], queues: dict[int, str], *, at: datetime
) -> list[CheckedWindow]:
    """The latest quarter-hours with IDs in them, and all with differences, latest first.

    stored_differences: those that are kept. at: when the check began.
    """
    differences = Counter(
        window
        for difference in stored_differences
        for window in {_window_of(*place) for place in _PLACE.findall(difference["of"])}
    )
    latest = models.Window.objects.filter(starts_at__lte=clock.open_window_start(at), version__gt=0)
    ids = latest.order_by("-starts_at", "queue_id").values_list("pk", flat=True)[:WINDOWS_SHOWN]
    planned = planning.by_window([*{*ids, *list(differences)[:WINDOWS_SHOWN]}])
    rows = [
        CheckedWindow(
            queues.get(keys.queue_of_window(pk), ""),
            keys.starts_at_of_window(pk),
            each,
            differences[pk],
        )
        for pk, each in planned.items()
    ]
    return sorted(rows, key=lambda row: (row.starts_at, row.queue), reverse=True)


def _window_of(kind: str, key: str) -> int:
    return int(key) if kind == "window" else keys.window_of_bucket(int(key))
