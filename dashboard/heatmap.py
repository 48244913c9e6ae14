"""A day as a heat map: a column is a window, a cell a minute. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dashboard.drawings import heat

# A row's height, as the style sheet has it: by it a point is told which minute it lies in.
CELL_PIXELS = 8
TOP, GROUND = 2.0, 86.0
LEGEND = (("heat-0", "none"), ("heat-2", "half of rpm"), ("heat-4", "full"), ("heat-past", "past rpm"))


class Cell(Protocol):
    """One minute."""

    minute: datetime
    capacity: int
    filled: int


class Column(Protocol):
    """One window, by the time in which it runs."""

    runs_at: datetime
    filled: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Square:
    """A cell, drawn. y, height: percent."""

    kind: str
    y: str
    height: str


@dataclass(frozen=True)
class Stripe:
    """A column, drawn: only cells that hold something, since the ground shows the rest."""

    column: Column
    x: str
    width: str
    squares: tuple[Square, ...]
    is_now: bool
    has_mark: bool


@dataclass(frozen=True)
class HeatMap:
    """All of it. marks: every eighth column has its time below."""

    stripes: tuple[Stripe, ...]
    top: str = f"{TOP}"
    height: str = f"{GROUND - TOP}"


def draw(columns: Sequence[Column], *, at: datetime) -> HeatMap:
    """Draw a day's windows; the one that runs at `at` is framed."""
    step = 100 / max(1, len(columns))
    return HeatMap(tuple(_stripe(column, k, step, at) for k, column in enumerate(columns)))


def _stripe(column: Column, k: int, step: float, at: datetime) -> Stripe:
    size = (GROUND - TOP) / len(column.cells)
    # Equal neighbours are one rectangle: a full day stays a small page.
    squares: list[Square] = []
    start, kind = 0, ""
    kinds = [heat(cell.filled, cell.capacity) for cell in column.cells]
    for index, name in enumerate([*kinds, ""]):
        if name != kind:
            if kind not in ("", "heat-0"):
                y, height = TOP + start * size, (index - start) * size
                squares.append(Square(kind, f"{y:.1f}", f"{height:.1f}"))
            start, kind = index, name
    last = column.cells[-1].minute
    return Stripe(
        column=column,
        x=f"{k * step:.3f}",
        width=f"{step * 0.92:.3f}",
        squares=tuple(squares),
        is_now=column.runs_at <= at < last + (last - column.cells[-2].minute),
        has_mark=k % 8 == 0,
    )
