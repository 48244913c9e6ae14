"""Drawings as markup. In Python and not in a template: a board has thirty bars and polls each second."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from dashboard import addresses
from dashboard.drawing.charts import DONE, GROUND, KINDS, Bar, Chart, Column, shares, summary
from dashboard.formatting import compact


def plot(
    chart: Chart, *, name: str, prefix: str, queue_name: str = "", task_id: int | None = None
) -> SafeString:
    """Bars against their capacity; each is a link to its minute's page, or to what a task has in it.

    name: the drawing in words. prefix: makes ids unique in the page, by which htmx lets bars grow and keeps
    the focus. queue_name: of the minute's page; empty for all queues.
    """
    zone = timezone.get_current_timezone()
    parts = [
        f'<div class="chart"><svg class="plot{" dense" if chart.is_dense else ""}" role="group"'
        f' aria-label="{escape(name)}">'
    ]
    parts += [
        f'<rect class="now" x="{bar.column.left}%" width="{bar.column.width}%" y="0" height="100%" rx="3"/>'
        for bar in chart.bars
        if bar.is_now
    ]
    parts.append(f'<line class="ground" x1="0" x2="100%" y1="{GROUND}%" y2="{GROUND}%"/>')
    for k, bar in enumerate(chart.bars):
        minute, column = bar.counts.minute, bar.column
        place = _place(f"{prefix}-{k}", column, minute, zone, chart.is_dense, queue_name, task_id, chart.span)
        parts.append(_bar(bar, place))
    if chart.shows_capacity:
        parts += _capacity(chart.bars)
        capacity = compact(chart.capacity)
        parts.append(f'<g class="axis"><text x="-6" y="{chart.capacity_y}%" dy="4">{capacity}</text></g>')
    parts.append("</svg></div>")
    return mark_safe("".join(parts))


class Place(NamedTuple):
    """What stays the same of a bar while its numbers move: made once a minute and column, then looked up."""

    time: str
    link: str
    hit: str
    # By kind: up to where its y is said.
    parts: dict[str, str]
    label: str
    mark: str


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
    if task_id is None:
        href = escape(addresses.minute(minute, queue_name))
    else:
        href = escape(addresses.ids_of_task(task_id, minute, minutes))
    mark = f"{local:%-d %b}" if is_long else time if is_dense else time[2:]
    x, width = column.bar_x, column.bar_width
    return Place(
        time=time,
        link=f'<a href="{href}" id="{key}"',
        hit=f'<rect class="hit" x="{column.left}%" width="{column.width}%"/>',
        parts={
            kind: f'<rect class="part {kind}" id="{key}-{kind}" x="{x}%" width="{width}%" y="'
            for kind in KINDS
        },
        label=f'x="{column.middle}%" y="',
        mark=f'x="{column.middle}%" y="97.5%">{mark}</text></a></g>',
    )


def _bar(bar: Bar, place: Place) -> str:
    rest = "" if bar.is_labelled or bar.is_now else " rest"
    heads = place.parts
    pieces = "".join([f'{heads[kind]}{y}%" height="{height}%"/>' for kind, y, height in bar.parts])
    over = ' class="over"' if bar.over else ""
    label = f'<text{over} {place.label}{bar.label_y}%">{bar.label}</text>' if bar.label else ""
    now = " now-name" if bar.is_now else ""
    said = f"{place.time}: {summary(bar.counts)}"
    return (
        f'<g class="bar{rest}">{place.link}><title>{said}</title>{place.hit}'
        f'{pieces}{label}<text class="minute{now}" {place.mark}'
    )


def _capacity(bars: Sequence[Bar]) -> Iterable[str]:
    """The line, in one piece for neighbours of the same capacity, so that its dashes don't begin anew."""
    start = 0
    for k in range(1, len(bars) + 1):
        if k == len(bars) or bars[k].line_y != bars[start].line_y:
            y = bars[start].line_y
            x1, x2 = bars[start].column.left, bars[k - 1].column.right
            yield f'<line class="capacity" x1="{x1}%" x2="{x2}%" y1="{y}%" y2="{y}%"/>'
            start = k


def progress(parts: Sequence[tuple[str, str, str]], *, said: str, key: str) -> SafeString:
    """A bar that lies. parts: (kind, x, width), see drawings.shares. said: ours. key: unique in the page."""
    pieces = "".join(
        [
            f'<rect class="{kind}" id="{key}-{kind}" x="{x}%" width="{width}%" y="0" height="100%"/>'
            for kind, x, width in parts
        ]
    )
    return mark_safe(f'<svg class="progress" role="img" aria-label="{said}">{pieces}</svg>')


def task_progress(task: Any) -> SafeString:
    """The bar of a task: what became of its IDs, next to each other."""
    counts = [(kind, getattr(task, f"{kind}_count")) for kind in DONE]
    said = f"{task.sent_count:,} of {task.ids_count:,} sent"
    return progress(shares(counts, task.ids_count), said=said, key=f"p-{task.pk}")
