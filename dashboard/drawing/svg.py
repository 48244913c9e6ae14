"""Drawings as markup.

In Python and not in a template, because a board has thirty bars and is polled each second.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from django.utils import timezone

from dashboard import addresses
from dashboard.drawing.charts import (
    DONE,
    FEW,
    GROUND,
    KINDS,
    TOP,
    Amount,
    Bar,
    Chart,
    Column,
    columns,
    progress_text,
    shares,
    stacked,
    summary,
)
from dashboard.drawing.charts import Part as BarPart
from dashboard.formatting import compact
from dashboard.markup import EMPTY, Markup, Part, join, markup


def plot(chart: Chart, *, name: str, prefix: str, queue_name: str = "", task_id: int | None = None) -> Markup:
    """Draw bars against their capacity. Each is a link to its minute's page, or to the task's IDs in it.

    name: the drawing in words. prefix: makes ids unique in the page. queue_name: of the minute's page; empty
    for all queues.
    """
    return plot_part(chart, name=name, prefix=prefix, queue_name=queue_name, task_id=task_id).render()


def plot_part(
    chart: Chart, *, name: str, prefix: str, queue_name: str = "", task_id: int | None = None
) -> Part:
    """Draw a plot in parts: each bar is a part that updates by itself."""
    zone = timezone.get_current_timezone()
    now = [
        markup(
            '<rect class="now" x="%s%%" width="%s%%" y="0" height="100%%" rx="3"/>', column.left, column.width
        )
        for column in (bar.column for bar in chart.bars if bar.is_now)
    ]
    bars = []
    for k, bar in enumerate(chart.bars):
        key, minute = f"{prefix}-{k}", bar.counts.minute
        place = _place(key, bar.column, minute, zone, chart.is_dense, queue_name, task_id, chart.span)
        bars.append(Part(f"{key}-bar", _bar(bar, place), inside="svg"))
    head = markup(
        '<div class="chart" id="%s-plot"><svg class="plot%s" role="group" aria-label="%s">%s'
        '<line class="ground" x1="0" x2="100%%" y1="%s%%" y2="%s%%"/>',
        *(prefix, " dense" if chart.is_dense else "", name, join(now), GROUND, GROUND),
    )
    foot = markup("%s</svg></div>", _capacity(chart) if chart.shows_capacity else EMPTY)
    return Part(f"{prefix}-plot", head, tuple(bars), foot)


class Place(NamedTuple):
    """The parts of a bar that stay the same while its numbers change: made once for each minute and column,
    then looked up.
    """

    key: str
    time: str
    link: Markup
    hit: Markup
    # By kind, up to the value of y.
    parts: dict[str, Markup]
    label: Markup
    mark: Markup


@lru_cache(maxsize=4096)
def _place(
    key: str,
    column: Column,
    minute: datetime,
    zone: tzinfo,
    is_dense: bool,
    queue_name: str,
    task_id: int | None,
    span: timedelta,
) -> Place:
    local = minute.astimezone(zone)
    is_long, minutes = span >= timedelta(hours=1), span // timedelta(minutes=1)
    time = f"{local:%-d %b %H:%M}" if is_long else f"{local:%H:%M}"
    href = addresses.minute(minute, queue_name)
    if task_id is not None:
        href = addresses.ids_of_task(task_id, minute, minutes)
    mark = time if is_dense or minutes > 1 else time[2:]
    if is_long:
        # Spans of days are labelled by the day, hours by the time; midnight by the day that begins.
        is_day = span >= timedelta(days=1) or (local.hour, local.minute) == (0, 0)
        mark = f"{local:%-d %b}" if is_day else f"{local:%H:%M}"
    part = '<rect class="part %s" id="%s-%s" x="%s%%" width="%s%%" y="'
    return Place(
        key=key,
        time=time,
        link=markup('<a href="%s" id="%s"', href, key),
        hit=markup('<rect class="hit" x="%s%%" width="%s%%"/>', column.left, column.width),
        parts={kind: markup(part, kind, key, kind, column.bar_x, column.bar_width) for kind in KINDS},
        label=markup('x="%s%%" y="', column.middle),
        mark=markup('x="%s%%" y="97.5%%">%s</text></a></g>', column.middle, mark),
    )


_OVER = Markup(' class="over"')
_PART = '%s%.2f%%" height="%.2f%%"/>'
_LABEL = '<text%s %s%.2f%%">%s</text>'


# By the number of parts and whether it has a label: each bar is filled by one format, because a board has thirty.
_BARS = {
    (count, bool(label)): f'<g class="bar%s" id="%s-bar">%s><title>%s: %s</title>%s{_PART * count}{label}'
    '<text class="minute%s" %s'
    for count in range(len(KINDS) + 1)
    for label in ("", _LABEL)
}


def _bar(bar: Bar, place: Place) -> Markup:
    heads = place.parts
    parts = [value for kind, y, height in bar.parts for value in (heads[kind], y, height)]
    label = (_OVER if bar.over else EMPTY, place.label, bar.label_y, bar.label) if bar.label else ()
    return markup(
        _BARS[len(bar.parts), bool(bar.label)],
        "" if bar.is_now else " rest" if not bar.is_labelled else " minor" if bar.is_minor else "",
        *(place.key, place.link, place.time, summary(bar.counts, bar.own_count), place.hit),
        *parts,
        *label,
        *(" now-name" if bar.is_now else "", place.mark),
    )


def _capacity(chart: Chart) -> Markup:
    axis = '%s<g class="axis"><text x="-6" y="%s%%" dy="4">%s</text></g>'
    return markup(axis, join(_capacity_lines(chart.bars)), chart.capacity_y, compact(chart.capacity))


def _capacity_lines(bars: Sequence[Bar]) -> Iterator[Markup]:
    """Draw the capacity line, in one piece for neighbours of the same capacity, so that its dashes don't
    restart.
    """
    start = 0
    for k in range(1, len(bars) + 1):
        if k == len(bars) or bars[k].line_y != bars[start].line_y:
            y = bars[start].line_y
            line = '<line class="capacity" x1="%s%%" x2="%s%%" y1="%.2f%%" y2="%.2f%%"/>'
            yield markup(line, bars[start].column.left, bars[k - 1].column.right, y, y)
            start = k


def amounts(amounts: Sequence[Amount], *, kind: str, name: str, prefix: str, every: int) -> Markup:
    """Draw counts as columns of one kind, each a link, with the largest count at the axis.

    every: of how many columns one is labelled; the last one always is.
    """
    top = max([1, *(amount.number for amount in amounts)])
    bars = []
    for k, (amount, column) in enumerate(zip(amounts, columns(len(amounts)), strict=True)):
        parts, highest = stacked([(kind, amount.number)], (GROUND - TOP) / top)
        bars.append(
            markup(
                '<g class="bar%s"><a href="%s" id="%s-%s"><title>%s: %s</title>'
                '<rect class="hit" x="%s%%" width="%s%%"/>%s'
                '<text x="%s%%" y="%.2f%%">%s</text><text class="minute" x="%s%%" y="97.5%%">%s</text></a></g>',
                "" if (len(amounts) - 1 - k) % every == 0 else " rest",
                *(amount.href, prefix, k, amount.words, f"{amount.number:,}", column.left, column.width),
                join(
                    markup(
                        '<rect class="part %s" x="%s%%" width="%s%%" y="%.2f%%" height="%.2f%%"/>',
                        *(css, column.bar_x, column.bar_width, y, height),
                    )
                    for css, y, height in parts
                ),
                *(column.middle, highest - 2, compact(amount.number) if _has_room(amounts, k) else ""),
                *(column.middle, amount.mark),
            )
        )
    return markup(
        '<div class="chart" id="%s-plot"><svg class="plot%s" role="group" aria-label="%s">'
        '<line class="ground" x1="0" x2="100%%" y1="%s%%" y2="%s%%"/>%s'
        '<g class="axis"><text x="-6" y="%s%%" dy="4">%s</text><text x="-6" y="%s%%" dy="4">0</text></g></svg></div>',
        *(prefix, " dense" if len(amounts) > FEW else "", name, GROUND, GROUND, join(bars)),
        *(TOP, compact(top), GROUND),
    )


def _has_room(amounts: Sequence[Amount], k: int) -> bool:
    """Return whether the number of a column can stand above it: among many, it is wider than its column, and a
    higher neighbour would be behind its digits.
    """
    beside = [amounts[j].number for j in (k - 1, k + 1) if 0 <= j < len(amounts)]
    return amounts[k].number > 0 and (len(amounts) <= FEW or amounts[k].number >= max(beside, default=0))


def progress(parts: Sequence[BarPart], *, label: str, key: str) -> Markup:
    """Draw a horizontal bar. parts: (kind, x, width), see charts.shares. key: unique in the page."""
    piece = '<rect class="%s" id="%s-%s" x="%.2f%%" width="%.2f%%" y="0" height="100%%"/>'
    pieces = [markup(piece, kind, key, kind, x, width) for kind, x, width in parts]
    return markup('<svg class="progress" role="img" aria-label="%s">%s</svg>', label, join(pieces))


def task_progress(task: Any) -> Markup:
    """Draw the bar of a task: its IDs by state, next to each other."""
    counts = [(kind, getattr(task, f"{kind}_count")) for kind in DONE]
    label = progress_text(task.sent_count, task.ids_count, task.cancelled_count)
    return progress(
        shares(counts, task.ids_count, cancelled=task.cancelled_count), label=label, key=f"p-{task.pk}"
    )
