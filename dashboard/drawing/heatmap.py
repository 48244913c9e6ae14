"""A day as a heat map: a column is a window, a cell is a minute.

1,440 links would exceed the size limit of a page. So a column is one link with an image over it that sends
the position of the click (`ismap`, which needs no script), and each cell leads to its minute.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dashboard.drawing.charts import heat
from scheduling.core import clock
from scheduling.reports.days import Cell, Column

# The height of a cell in the style sheet, from which the minute of a click is computed.
CELL_PIXELS = 8
LEGEND = (
    ("heat-0", "none"),
    ("heat-2", "half of the limit"),
    ("heat-4", "full"),
    ("heat-past", "above the limit"),
)
# A minute that has just passed may have requests in flight.
FLIGHT = timedelta(minutes=1)
# Every eighth column has its time below it.
MARKED = 8


@dataclass(frozen=True)
class Mark:
    """A time below the heat map. x: percent."""

    at: datetime
    x: str


@dataclass(frozen=True)
class HeatMap:
    """A drawn heat map.

    inks: (kind, path) for each kind of cell, with one stroke for each run of equal cells; the ground shows
    the others. unsent: the path of past cells whose IDs were not all sent; empty if there are none. now_x:
    the running column, counted from the left; None if none of them is running.
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
        """Return the path of the lines between the rows."""
        return "".join(f"M0 {row}h{self.width}" for row in range(1, clock.BUCKETS))


def draw(columns: Sequence[Column], *, at: datetime) -> HeatMap:
    """Draw a day's windows. The one that is running at `at` is framed."""
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
    """Return a path for each kind of cell."""
    strokes: dict[str, list[str]] = {}
    for x, column in enumerate(columns):
        ends: dict[str, int] = {}
        for kind, first, count in _runs(column, kind_of):
            # After the first cell of a column, only the relative way to the next is written: half the length.
            move = f"m0 {first - ends[kind]}" if kind in ends else f"M{x} {first}"
            strokes.setdefault(kind, []).append(f"{move}v{count}")
            ends[kind] = first + count
    return {kind: "".join(paths) for kind, paths in strokes.items()}


def _runs(column: Column, kind_of: Callable[[Cell], str]) -> list[tuple[str, int, int]]:
    """Return (kind, first row, length) of runs of equal neighbours, so that a full day stays small."""
    runs: list[tuple[str, int, int]] = []
    for row, cell in enumerate(column.cells):
        kind = kind_of(cell)
        if kind == "heat-0":
            continue
        if runs and runs[-1][0] == kind and sum(runs[-1][1:]) == row:
            runs[-1] = (kind, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((kind, row, 1))
    return runs
