"""A day as a heat map: a column is a window, a cell a minute.

1,440 links would weigh more than the page may. So a column is one link with an image over it that tells where
it was pointed at (`ismap`, which needs no script), and each cell leads to its minute.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dashboard.drawing.charts import heat
from scheduling.core import clock
from scheduling.reports.days import Cell, Column

# A cell's height, as the style sheet has it: by it a point is told which minute it lies in.
CELL_PIXELS = 8
LEGEND = (
    ("heat-0", "none"),
    ("heat-2", "half of the limit"),
    ("heat-4", "full"),
    ("heat-past", "above the limit"),
)
# A minute that has just gone by may have requests in flight.
FLIGHT = timedelta(minutes=1)
# Every eighth column has its time below.
MARKED = 8


@dataclass(frozen=True)
class Mark:
    """A time below the map. x: percent."""

    at: datetime
    x: str


@dataclass(frozen=True)
class HeatMap:
    """All of it. inks: (kind, path) for each kind of cell, a stroke a run; the ground shows the rest.

    unsent: the path of the cells that are over and of which not all was sent; empty where there are none.
    now_x: the column that runs now, in columns from the left; None where none of them does.
    """

    columns: Sequence[Column]
    inks: tuple[tuple[str, str], ...]
    unsent: str
    marks: tuple[Mark, ...]
    now_x: int | None

    @property
    def width(self) -> int:
        return len(self.columns)

    @property
    def gaps(self) -> str:
        """The path of the lines between the rows."""
        return "".join(f"M0 {row}h{self.width}" for row in range(1, clock.BUCKETS))


def draw(columns: Sequence[Column], *, at: datetime) -> HeatMap:
    """Draw a day's windows; the one that runs at `at` is framed."""
    now_x = None
    for x, column in enumerate(columns):
        last = column.cells[-1].minute
        if column.runs_at <= at < last + (last - column.cells[-2].minute):
            now_x = x
    over = at - FLIGHT - timedelta(minutes=1)
    unsent = _strokes(
        columns, lambda cell: "unsent" if cell.sent < cell.filled and cell.minute <= over else "heat-0"
    )
    marks = tuple(
        Mark(column.runs_at, f"{100 * x / len(columns):.2f}")
        for x, column in enumerate(columns)
        if x % MARKED == 0
    )
    inks = _strokes(columns, lambda cell: heat(cell.filled, cell.capacity))
    return HeatMap(columns, tuple(sorted(inks.items())), unsent.get("unsent", ""), marks, now_x)


def _strokes(columns: Sequence[Column], kind_of: Callable[[Cell], str]) -> dict[str, str]:
    """A path for each kind of cell."""
    strokes: dict[str, list[str]] = {}
    for x, column in enumerate(columns):
        ends: dict[str, int] = {}
        for kind, first, count in _runs(column, kind_of):
            # Behind the first of a column only the way from one to the next is said: shorter by a half.
            move = f"m0 {first - ends[kind]}" if kind in ends else f"M{x} {first}"
            strokes.setdefault(kind, []).append(f"{move}v{count}")
            ends[kind] = first + count
    return {kind: "".join(found) for kind, found in strokes.items()}


def _runs(column: Column, kind_of: Callable[[Cell], str]) -> list[tuple[str, int, int]]:
    """(kind, first row, how many): equal neighbours are one stroke, so that a full day stays small."""
    found: list[tuple[str, int, int]] = []
    for row, cell in enumerate(column.cells):
        kind = kind_of(cell)
        if kind == "heat-0":
            continue
        if found and found[-1][0] == kind and sum(found[-1][1:]) == row:
            found[-1] = (kind, found[-1][1], found[-1][2] + 1)
        else:
            found.append((kind, row, 1))
    return found
