"""How a quarter-hour filled, in lines: a list is one, and many small moves for one reason are one together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from scheduling.models import ReservationKind


@dataclass(frozen=True)
class Entry:
    """A change of the fill, or neighbours of one kind. steps: how many changes. first_at: None for a single one."""

    made_at: datetime
    first_at: datetime | None
    kind: str
    label: str
    task_id: int | None
    task_name: str
    ids_count: int
    note: str
    steps: int

    @property
    def list_kind(self) -> str:
        """The kind of the list of its IDs, where there is one."""
        return "moved" if self.kind == ReservationKind.MOVE_OUT else ""


def grouped(changes: Sequence[Any]) -> list[Entry]:
    """Return the entries, latest first. changes: reservations with the `task_name` of their task, latest first."""
    return [_entry(list(group)) for _, group in groupby(changes, _kind_and_object)]


def _kind_and_object(change: Any) -> tuple[Any, ...]:
    # What somebody did to a list stays a line of its own.
    own = change.version if change.kind in (ReservationKind.RESERVE, ReservationKind.CANCEL) else None
    return (change.kind, change.note, change.task_id, own)


def _entry(changes: list[Any]) -> Entry:
    latest, earliest = changes[0], changes[-1]
    return Entry(
        made_at=latest.made_at,
        first_at=earliest.made_at if len(changes) > 1 else None,
        kind=latest.kind,
        label=latest.get_kind_display(),
        task_id=latest.task_id,
        task_name=latest.task_name,
        ids_count=sum(change.ids_count for change in changes),
        note=latest.note.replace("_", " "),
        steps=len(changes),
    )
