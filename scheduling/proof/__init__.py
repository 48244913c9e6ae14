"""The check of the plan: whether logs, counters and rows agree. A difference is two numbers that should be one.

It is read-only and runs in pieces on live data, so a difference counts only if a second look finds it again.
Its time grows with the number of rows, its memory doesn't.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from . import at_work, chain, minutes, places, quotas, targets, tasks
from .base import START, Cursor, Difference, Piece

__all__ = ["STAGES", "START", "Difference", "Step", "check", "steps"]

Stage = Callable[[Cursor, datetime], Piece]
STAGES: tuple[Stage, ...] = (
    minutes.piece,
    tasks.piece,
    places.piece,
    at_work.piece,
    chain.piece,
    targets.piece,
    quotas.piece,
)


@dataclass(frozen=True)
class Step:
    """A piece that has been checked: its differences, and the stage and cursor at which the next begins.

    of_stage: its own. checked: how many of what.
    """

    stage: int
    cursor: Cursor
    differences: list[Difference]
    ids_count: int
    of_stage: int
    checked: Mapping[str, int]

    @property
    def is_last(self) -> bool:
        return self.stage == len(STAGES)


def check(now: Callable[[], datetime]) -> list[Difference]:
    """Run every check; return the differences that were found twice in a row."""
    return [difference for step in steps(now) for difference in step.differences]


def steps(now: Callable[[], datetime], *, stage: int = 0, cursor: Cursor = START) -> Iterator[Step]:
    """Check from a stage and a cursor in it on, and yield after each piece."""
    while stage < len(STAGES):
        piece = STAGES[stage](cursor, now())
        differences = piece.differences
        if differences:
            # On live data, a counter and its rows can be read before and after a transaction.
            first = {difference.same_as for difference in differences}
            again = set(STAGES[stage](cursor, now()).differences)
            differences = sorted(
                (again_difference for again_difference in again if again_difference.same_as in first), key=str
            )
        own = stage
        stage, cursor = (stage + 1, START) if piece.cursor is None else (stage, piece.cursor)
        yield Step(stage, cursor, differences, piece.ids_count, own, piece.checked)
