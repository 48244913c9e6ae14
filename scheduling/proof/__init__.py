"""Do the tables keep their promises? Each check says what it found, as two numbers that should be one.

Read-only, in pieces, on live data: what moves meanwhile is looked at again before it is called wrong. What it
costs grows with the rows, and what it holds in memory doesn't.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from . import at_work, minutes, places, tasks
from .base import START, Cursor, Difference, Piece

__all__ = ["STAGES", "START", "Difference", "Step", "check", "steps"]

Stage = Callable[[Cursor, datetime], Piece]
STAGES: tuple[Stage, ...] = (minutes.piece, tasks.piece, places.piece, at_work.piece)


@dataclass(frozen=True)
class Step:
    """A piece that is done: what doesn't hold in it, and the stage and the place where the next begins."""

    stage: int
    cursor: Cursor
    differences: list[Difference]
    ids_count: int

    @property
    def is_last(self) -> bool:
        return self.stage == len(STAGES)


def check(now: Callable[[], datetime]) -> list[Difference]:
    """Run every check; return what doesn't hold twice in a row."""
    return [difference for step in steps(now) for difference in step.differences]


def steps(now: Callable[[], datetime], *, stage: int = 0, cursor: Cursor = START) -> Iterator[Step]:
    """Go on from a stage and a place in it, and yield after each piece."""
    while stage < len(STAGES):
        piece = STAGES[stage](cursor, now())
        found = piece.differences
        if found:
            # On live data a counter and its rows may be read on two sides of a transaction.
            first = {difference.same_as for difference in found}
            again = set(STAGES[stage](cursor, now()).differences)
            found = sorted((one for one in again if one.same_as in first), key=str)
        stage, cursor = (stage + 1, START) if piece.cursor is None else (stage, piece.cursor)
        yield Step(stage, cursor, found, piece.ids_count)
