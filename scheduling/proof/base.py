"""The differences that a check of the plan finds, and the pieces in which it runs.

A check resumes at a cursor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings


@dataclass(frozen=True)
class Difference:
    """A difference between the number that the tables state and the number that was found."""

    check: str
    of: str
    said: int
    found: int
    # Its numbers are ages, which are larger at the second look.
    by_clock: bool = False

    @property
    def same_as(self) -> tuple[str | int, ...]:
        """Return whether two looks found the same difference. Numbers that differ between them are changing."""
        return (self.check, self.of) if self.by_clock else (self.check, self.of, self.said, self.found)

    def __str__(self) -> str:
        return f"{self.check}: {self.of}: {self.said} by the tables, {self.found} found"


# A key, and a position within its record. Everything before it has been checked.
Cursor = tuple[int, int]
START: Cursor = (0, 0)


@dataclass(frozen=True)
class Piece:
    """A part of a stage that takes a few seconds at most. cursor: where the next piece begins; None after the last.

    ids_count: IDs whose place was checked. checked: how many of what, as a page says it.
    """

    differences: list[Difference] = field(default_factory=list)
    cursor: Cursor | None = None
    ids_count: int = 0
    checked: Mapping[str, int] = field(default_factory=dict)


def retained_since(at: datetime) -> datetime:
    """Return when the retention begins: older windows are deleted bit by bit."""
    return at - timedelta(days=settings.RETENTION_DAYS)
