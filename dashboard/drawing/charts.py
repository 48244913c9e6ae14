"""The geometry of drawings, in percent, so that they fit any width without a script.

A strict CSP silently drops `style="..."`, so geometry goes into SVG attributes and colour into classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from dashboard.formatting import as_words, compact, plural, shortest
from scheduling.models import Status
from scheduling.reports.cards import Minute

# From the bottom up: finished IDs below those to come.
STACK = tuple(status.css for status in Status.in_charts())
DONE = tuple(kind for kind in STACK if kind != Status.WAITING.css)
KINDS = (*STACK, "late", "past", "mine")
TOP, GROUND = 10.0, 90.0
# A thinner part could not be seen, and a single ID should be visible.
THINNEST = 0.9
BAR_SHARE = 0.8
LABELLED = 3
FEW = 20


# A piece of a bar: its kind, y and height. kind: a state; `past`: waits above capacity; `late`: overstayed;
# `mine`: of the list that is previewed.
# A plain tuple, because a board draws a hundred of them per reader and second.
Part = tuple[str, float, float]


class Column(NamedTuple):
    """The position of a bar, in percent of the drawing, as text: of its column, of itself, and of its middle."""

    left: str
    width: str
    right: str
    bar_x: str
    bar_width: str
    middle: str


class Bar(NamedTuple):
    """One minute as it is drawn. y of its label and line: in percent of the drawing."""

    counts: Minute
    parts: Sequence[Part]
    column: Column
    line_y: float
    label: str
    label_y: float
    over: int
    is_now: bool
    is_labelled: bool
    # Its label is shown only where the drawing is wide.
    is_minor: bool
    # The IDs of the list that is previewed.
    own_count: int = 0


class Amount(NamedTuple):
    """A count of a span of time, drawn as a column that leads to `href`. mark: its time at the axis; words: in full."""

    mark: str
    words: str
    number: int
    href: str


@dataclass(frozen=True)
class Chart:
    """Bars (usually 15), with the capacity at the axis."""

    bars: tuple[Bar, ...]
    capacity: int
    capacity_y: str
    shows_capacity: bool
    is_dense: bool
    # The length of time that a bar covers.
    span: timedelta = timedelta(minutes=1)
    ground_y: str = f"{GROUND}"


def chart(
    minutes: Sequence[Minute],
    *,
    now: datetime | None = None,
    scale: int | None = None,
    span: timedelta = timedelta(minutes=1),
) -> Chart:
    """Draw minutes, or longer spans, as bars against their capacity.

    now: the start of the current minute, which is marked. scale: the count at the top, if several drawings
    are to be compared; by default the largest fill or capacity.
    """
    top = scale or max([1, *(max(m.filled, m.capacity) for m in minutes)])
    per_id = (GROUND - TOP) / top
    places = columns(len(minutes))
    # Labels must not collide: every third bar has one, or with many bars every tenth part of the drawing.
    is_dense = len(minutes) > FEW
    every = -(-len(minutes) // 10) if is_dense else LABELLED
    # The current minute always has a label, and none is as near as a label is wide.
    apart = every if is_dense else 1
    current = next((k for k, m in enumerate(minutes) if m.minute == now), None)
    bars = tuple(
        _bar(
            m,
            places[k],
            per_id,
            now,
            labelled=k % every == 0 and (current is None or k == current or abs(k - current) > apart),
            minor=k % (2 * every) != 0,
        )
        for k, m in enumerate(minutes)
    )
    capacity = minutes[0].capacity if minutes else 0
    return Chart(
        bars,
        capacity,
        _percent(GROUND - capacity * per_id),
        shows_capacity=capacity <= top,
        is_dense=is_dense,
        span=span,
    )


def plan_chart(
    before: Sequence[Minute],
    added: Sequence[int],
    *,
    now: datetime | None = None,
    span: timedelta = timedelta(minutes=1),
) -> Chart:
    """Draw a plan: what minutes, or longer spans, already contain, and on top of it what a list adds."""
    after = [
        minute._replace(waiting=minute.waiting + count) for minute, count in zip(before, added, strict=True)
    ]
    drawing = chart(after, now=now, span=span)
    per_id = (GROUND - TOP) / max([1, *(max(m.filled, m.capacity) for m in after)])
    bars = tuple(
        bar._replace(
            parts=stacked([("waiting", bar.counts.filled - count), ("mine", count)], per_id)[0],
            own_count=count,
        )
        for bar, count in zip(drawing.bars, added, strict=True)
    )
    return replace(drawing, bars=bars)


@lru_cache(maxsize=64)
def columns(count: int) -> tuple[Column, ...]:
    """Return the positions of this many bars next to each other."""
    step = 100 / max(1, count)
    return tuple(
        Column(
            left=_percent(k * step),
            width=_percent(step),
            right=_percent((k + 1) * step),
            bar_x=_percent(k * step + step * (1 - BAR_SHARE) / 2),
            bar_width=_percent(step * BAR_SHARE),
            middle=_percent((k + 0.5) * step),
        )
        for k in range(count)
    )


def _bar(
    counts: Minute, column: Column, per_id: float, now: datetime | None, *, labelled: bool, minor: bool
) -> Bar:
    is_over = now is not None and counts.minute < now
    filled, capacity = counts.filled, counts.capacity
    parts, highest = _parts(counts, filled, per_id, is_over)
    over = filled - capacity if filled > capacity else 0
    label = f"+{shortest(over)}" if over else compact(filled) if filled else ""
    return Bar(
        counts,
        parts,
        column,
        GROUND - capacity * per_id,
        label,
        highest - 2,
        over,
        is_now=counts.minute == now,
        is_labelled=labelled,
        is_minor=minor,
    )


def _parts(counts: Minute, filled: int, per_id: float, is_over: bool) -> tuple[list[Part], float]:
    """Return the parts of a bar from the bottom up, and where the last one ends."""
    waiting, past = counts.waiting, 0
    if is_over:
        sizes = [(kind, getattr(counts, kind)) for kind in DONE] + [("late", waiting)]
    else:
        past = min(waiting, max(0, filled - counts.capacity))
        sizes = [(kind, getattr(counts, kind)) for kind in DONE] + [
            ("waiting", waiting - past),
            ("past", past),
        ]
    return stacked(sizes, per_id)


def stacked(sizes: Sequence[tuple[str, int]], per_id: float) -> tuple[list[Part], float]:
    """Return parts of these sizes from the bottom up, and where the last one ends."""
    parts: list[Part] = []
    ground = GROUND
    for kind, size in sizes:
        if size:
            height = size * per_id
            if height < THINNEST:
                height = THINNEST
            ground -= height
            parts.append((kind, ground, height))
    return parts, ground


def shares(counts: Sequence[tuple[str, int]], whole: int, *, cancelled: int = 0) -> list[Part]:
    """Return (kind, x, width) in percent for each (kind, count), for a horizontal bar.

    cancelled: how many of the IDs will not be sent any more; they take the far end.
    """
    parts: list[Part] = []
    x = 0.0
    for kind, count in counts:
        if count and whole:
            width = min(max(100 * count / whole, 0.5), 100 - x)
            parts.append((kind, x, width))
            x += width
    if cancelled and whole:
        width = min(100 * cancelled / whole, 100 - x)
        parts.append((Status.CANCELLED.css, 100 - width, width))
    return parts


def progress_text(sent: int, ids: int, cancelled: int) -> str:
    """Return how far a task is: "100 of 100 sent, 50 cancelled"."""
    return f"{sent:,} of {ids - cancelled:,} sent" + (f", {cancelled:,} cancelled" if cancelled else "")


def heat(count: int, capacity: int) -> str:
    """Return the class of a cell of the heat map: how full a minute is, in five steps, or past its capacity."""
    if count <= 0:
        return "heat-0"
    if count > capacity:
        return "heat-past"
    return f"heat-{min(4, 1 + 4 * (count - 1) // max(1, capacity))}"


def _percent(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


_WORDS = tuple((kind, as_words(kind)) for kind in STACK)


def summary(counts: Minute, own_count: int = 0) -> str:
    """Describe a minute: "157 IDs, 37 over 120, 3 failed, 154 waiting".

    own_count: how many of its IDs belong to the list that is previewed.
    """
    filled, capacity = counts.filled, counts.capacity
    if not filled:
        return f"nothing, of {capacity:,}"
    words = plural(filled, "ID")
    if filled > capacity:
        words += f", {filled - capacity:,} over {capacity:,}"
    for kind, word in _WORDS:
        if count := getattr(counts, kind):
            words += f", {count:,} {word}"
    return f"{words}, {own_count:,} of this list" if own_count else words
