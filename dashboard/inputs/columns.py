"""Which columns a table shows: as the address says, else as it last said, else those that the table begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from django.core.exceptions import BadRequest
from django.http import HttpRequest

from dashboard.inputs.parameters import COLUMNS

# In the session.
KEPT = "columns"
USUAL = "*"


class Choosable(Protocol):
    """What is asked of a table: its columns with their names, and those that are not shown at first."""

    __name__: str
    hidden_at_first: tuple[str, ...]

    @classmethod
    def choosable(cls) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True)
class Choice:
    """The columns of a table that may be shown or not."""

    every: tuple[tuple[str, str], ...]
    shown: frozenset[str]
    is_usual: bool

    @property
    def hidden(self) -> tuple[str, ...]:
        """As a table's `exclude`."""
        return tuple(name for name, _ in self.every if name not in self.shown)

    @property
    def boxes(self) -> list[tuple[str, str, bool]]:
        """(name, label, whether it is ticked)."""
        return [(name, label, name in self.shown) for name, label in self.every]


def choose(request: HttpRequest, table: type[Choosable]) -> Choice:
    """Read the choice of `table`'s columns, and remember it for the session. Raises BadRequest."""
    every = tuple(table.choosable())
    every_name = {name for name, _ in every}
    usual = every_name - set(table.hidden_at_first)
    stored = request.session.get(KEPT, {})
    if COLUMNS not in request.GET:
        return _choice(every, every_name & set(stored.get(table.__name__, usual)), usual)
    ticked = {name for name in request.GET.getlist(COLUMNS) if name}
    # The button sends it beside the boxes, as they are ticked.
    if USUAL in ticked:
        ticked = set()
    if unknown := ticked - every_name:
        names = ", ".join(name for name, _ in every)
        raise BadRequest(f"columns: {sorted(unknown)[0][:40]!r} is none of {names}.")
    # None at all: those that the table begins with.
    shown = ticked or usual
    if shown != set(stored.get(table.__name__, usual)):
        request.session[KEPT] = {**stored, table.__name__: sorted(shown)}
    return _choice(every, shown, usual)


def _choice(every: tuple[tuple[str, str], ...], shown: set[str], usual: set[str]) -> Choice:
    return Choice(every, frozenset(shown), shown == usual)
