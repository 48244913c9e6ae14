"""The part of the board that moves, as markup: the page and every poll draw it here.

In Python and not in a template: a poll comes each second from everybody who looks, and as a template this took
four times as long. What people wrote (names of tasks and queues, who they are, where requests go) passes
`written`, which escapes it; everything else is numbers, times and addresses of our own. Signs stand as entities:
one letter beyond ASCII doubles what is copied.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from dashboard import addresses
from dashboard.board.markup import Hand, link, written
from dashboard.board.strip import strip
from dashboard.drawing import charts, svg
from dashboard.formatting import plural
from scheduling.core import clock
from scheduling.reports.board import TASKS_COUNTED
from scheduling.reports.cards import Board, Card, QueueTab, TaskLine

ALL = "*"
# Of more queues than this only the first few have a tab: the board begins where it is looked for.
TABS, FIRST_TABS = 12, 5
HEADS = (
    '<thead><tr><th scope="col">Task</th><th scope="col">Queue</th><th scope="col" class="number">IDs</th>'
    '<th scope="col">State</th><th scope="col">Progress</th><th scope="col" class="number">Done at</th>'
    '<th scope="col">By</th><th scope="col"><span class="visually-hidden">Acts</span></th></tr></thead>'
)


def draw(board: Board, *, queue_name: str, hand: Hand) -> SafeString:
    """All of it. queue_name: as the address has it, `*` for all. hand: for whom; nothing else is of theirs."""
    # One scale for both, so that a bar on the left can be compared with one on the right.
    minutes = (*board.running.minutes, *board.filling.minutes)
    scale = max([1, *(max(minute.filled, minute.capacity) for minute in minutes)])
    # The version has no id: htmx would carry attributes over that others put on it.
    return mark_safe(
        f'<div id="board"><input type="hidden" name="version" value="{board.version}">'
        f"{strip(board, hand)}{_tabs(board.queues, queue_name, hand)}"
        f"{_empty(board.filling.runs_at, hand) if board.is_empty else ''}"
        f'<div class="pair">{_running(board, queue_name, hand, scale)}'
        f"{_filling(board, queue_name, hand, scale)}</div>{_tasks(board, hand)}</div>"
    )


# --- Tabs ---


@lru_cache(maxsize=256)
def _tabs(queues: Sequence[QueueTab], chosen: str, hand: Hand) -> str:
    """A tab a queue, by what it may send; drawn anew only where one of them changed."""
    count = len(queues) if len(queues) <= TABS else FIRST_TABS
    named = [tab for k, tab in enumerate(queues) if k < count or tab.name == chosen]
    tabs = [_tab(f"tab-{written(tab.name)}", tab.name, _pace(tab), chosen) for tab in named]
    if len(queues) > 1:
        tabs.append(_tab("tab-all", ALL, "All queues", chosen))
    if more := len(queues) - len(named):
        tabs.append(f'<a id="tab-more" href="{reverse("queues")}">{more:,} more&hellip;</a>')
    shown = next((tab for tab in queues if tab.name == chosen), None)
    if shown:
        page = addresses.queue(shown.name)
        pause = hand.act("Pause&hellip;", page, "to-queue")
        if shown.paused_at:
            pause = hand.post("Resume", addresses.act(shown.name, "resume"), "resume-shown")
        brake = hand.act("Brake&hellip;", f"{page}#brake", "to-brake")
        tabs.append(f'<span class="end">{pause} {brake}</span>')
    return f'<nav class="tabs" aria-label="Queues">{"".join(tabs)}</nav>'


def _tab(key: str, name: str, said: str, chosen: str) -> str:
    here = ' aria-current="page"' if name == chosen else ""
    href = written(addresses.with_query(reverse("board"), queue=name))
    return f'<a id="{key}" href="{href}"{here}>{said}</a>'


def _pace(tab: QueueTab) -> str:
    if tab.paused_at:
        pace = "paused"
    elif tab.brake_per_minute is not None:
        pace = f"at most {tab.brake_per_minute:,}/min"
    else:
        pace = f"{tab.rpm:,}/min"
    return f"{written(tab.name)} &middot; {pace}"


@lru_cache(maxsize=64)
def _empty(runs_at: datetime, hand: Hand) -> str:
    """What to do first."""
    return render_to_string("dashboard/_board_empty.html", {"runs_at": runs_at, "why": hand.why_not})


# --- The two windows ---


class Numbers(NamedTuple):
    """Numbers of a window, each a link to the list of exactly what it counts.

    prefix: of their ids in the page. base: the address of the list, for a kind to follow.
    """

    prefix: str
    queue_name: str
    card: Card
    base: str

    @classmethod
    def of(cls, prefix: str, queue_name: str, card: Card) -> "Numbers":
        """Those of a card."""
        return cls(prefix, queue_name, card, addresses.drill_down(queue_name, card.starts_at))

    def link(self, kind: str, said: str, *, where: str = "", css: str = "") -> str:
        """kind: see reports.drill_down; empty for all of them. where: tells two links of a kind apart."""
        return link(said, f"{self.base}{kind}", f"{self.prefix}{where}-{kind or 'counts'}", css)

    def peak(self) -> str:
        """The fullest minute."""
        peak = self.card.peak
        css = ' class="notice"' if peak.over else ""
        said = f"<b{css}>{peak.filled:,} a minute</b>"
        href = written(addresses.minute(peak.minute, self.queue_name))
        full = link(said, href, f"{self.prefix}-peak")
        if not peak.over:
            return f"{full} of {peak.capacity:,}"
        over = f"{peak.over:,} over {peak.capacity:,}"
        # Of all queues together a window has no page: its minute is what there is.
        if self.queue_name != ALL:
            href = _window_address(self.queue_name, self.card.starts_at)
        return f"{full}, {link(over, href, f'{self.prefix}-over')}"

    def legend(self, entries: Iterable[tuple[str, str, int]]) -> str:
        """(kind, word, count): what a colour means, with what it counts. Places are fixed, so that none jumps."""
        found = "".join(
            f'<li><svg class="key" aria-hidden="true"><rect class="{kind}" width="12" height="12" rx="2"/></svg>'
            f"{self.link(kind, f'{count:,} {word}', where='-of') if count else word}</li>"
            for kind, word, count in entries
        )
        return f'<ul class="legend counted" aria-label="Its IDs by state">{found}</ul>'


def _window(numbers: Numbers, hand: Hand, *, head: str, sentence: str, plot: str, legend: str) -> str:
    card, key = numbers.card, numbers.prefix
    name = f"{head} {hand.clock(card.runs_at)} &ndash; {hand.clock(card.ends_at)}"
    # All queues together have no such page.
    if numbers.queue_name != ALL:
        name = link(name, _window_address(numbers.queue_name, card.starts_at), f"{key}-window")
    return (
        f'<section class="panel" aria-labelledby="{key}-name"><h2 id="{key}-name">{name}</h2>'
        f'<p class="sentence">{sentence}</p>{plot}{legend}</section>'
    )


_window_address = lru_cache(maxsize=256)(addresses.window)


def _running(board: Board, queue_name: str, hand: Hand, scale: int) -> str:
    card, sums = board.running, board.running.sums
    numbers = Numbers.of("running", queue_name, card)
    chart = charts.chart(card.minutes, now=clock.minute_start(board.at), scale=scale)
    late = card.late(board.at)
    said = ["Nothing to send in this quarter."]
    if card.filled:
        sent = numbers.link("sent", f"<b>{card.sent:,}</b>") if card.sent else "<b>0</b>"
        said = [f"{sent} of {numbers.link('', f'{card.filled:,}')} sent"]
        if card.failed:
            said.append(numbers.link("failed", f"{card.failed:,} failed", css="bad"))
        if card.over:
            said.append(numbers.peak())
        said.append(_outlook(board, hand))
    return _window(
        numbers,
        hand,
        head="Running &middot;",
        sentence=" &middot; ".join(said),
        plot=svg.plot(chart, name="The window that runs, by minute", prefix="run", queue_name=queue_name),
        legend=numbers.legend(
            (
                ("succeeded", "succeeded", sums.succeeded),
                ("failed", "failed", sums.failed),
                ("in_flight", "in flight", sums.in_flight),
                ("waiting", "waiting", sums.waiting - late),
                ("late", "late", late),
                ("past", "past rpm", 0),
                ("expired", "expired", sums.expired),
                ("moved", "moved away", sums.moved),
            )
        ),
    )


def _outlook(board: Board, hand: Hand) -> str:
    """When the window that runs will be done."""
    last_at = board.running.last_at
    if board.tab and board.tab.paused_at:
        return '<span class="notice">paused</span>'
    if last_at is None:
        return '<span class="good">all done</span>'
    if last_at <= board.at:
        return '<span class="notice">the rest is late</span>'
    return f"done at {hand.clock(last_at)}"


def _filling(board: Board, queue_name: str, hand: Hand, scale: int) -> str:
    card, sums = board.filling, board.filling.sums
    numbers = Numbers.of("filling", queue_name, card)
    said = ["Empty until now"]
    if card.filled:
        ids = plural(card.filled, "ID").replace(f"{card.filled:,}", f"<b>{card.filled:,}</b>")
        said = [numbers.link("", ids), f"peak {numbers.peak()}"]
    said.append(f"closes for lists at {hand.clock_seconds(card.closes_at)}")
    chart = charts.chart(card.minutes, scale=scale)
    return _window(
        numbers,
        hand,
        head="Filling &middot; runs",
        sentence=" &middot; ".join(said),
        plot=svg.plot(chart, name="The window that fills, by minute", prefix="fill", queue_name=queue_name),
        legend=numbers.legend(
            (
                ("waiting", "waiting", sums.waiting),
                ("past", "past rpm", 0),
                ("cancelled", "cancelled", sums.cancelled),
                ("moved", "moved away", sums.moved),
            )
        ),
    )


# --- Tasks in progress ---


def _tasks(board: Board, hand: Hand) -> str:
    shown = len(board.tasks)
    more = ""
    if board.tasks_count > shown:
        or_more = " or more" if board.tasks_count >= TASKS_COUNTED else ""
        more = f'<span class="quiet">the newest {shown} of {board.tasks_count:,}{or_more}</span>'
    rows = "".join([_task(task, hand) for task in board.tasks])
    table = f'<table class="list cards" data-hold>{HEADS}<tbody>{rows}</tbody></table>'
    none = '<p class="quiet">None. What is uploaded or posted stands here until all of it is sent.</p>'
    why = f'<p class="hint">{written(hand.why_not)}</p>' if hand.why_not else ""
    return (
        '<section class="panel" aria-labelledby="tasks-name"><div class="row">'
        f'<h2 id="tasks-name">Tasks in progress</h2>{more}{_ways(hand)}</div>'
        f"{table if shown else none}{why}</section>"
    )


@lru_cache(maxsize=64)
def _ways(hand: Hand) -> str:
    """To the other tasks, and to a new one."""
    upload = hand.act("Upload a list", reverse("upload"), "to-upload", css="button main small")
    all_tasks = f'<a class="small" id="to-tasks" href="{reverse("tasks")}">all tasks</a>'
    # What is new is counted by the browser, which keeps the rows in place: empty until then.
    offer = '<button type="button" class="button small offer" id="offer" data-offer></button>'
    return f'{all_tasks}{offer}<span class="end">{upload}</span>'


def _task(task: TaskLine, hand: Hand) -> str:
    page, key = _task_address(task.id), task.id
    parts = charts.shares([(kind, getattr(task, kind)) for kind in charts.DONE], task.ids)
    bar = svg.progress(parts, said=f"{task.sent:,} of {task.ids:,} sent", key=f"p-{key}")
    ids = f'{task.ids:,}<span class="on-cards"> ID{"" if task.ids == 1 else "s"}</span>'
    return (
        f'<tr><td class="name"><a id="task-{key}" href="{page}">{written(task.name)}</a></td>'
        f'<td class="quiet">{written(task.queue)}</td>'
        f'<td class="number">{link(ids, f"{page}#ids", f"ids-{key}")}</td>'
        f'<td class="state-words">{_state(task, page, hand)}</td><td class="whole wide">{bar}</td>'
        f'<td class="number" data-name="done at">{hand.moment(task.done_at)}</td>'
        f'<td class="quiet">{written(task.by)}</td>'
        f'<td class="act">{hand.act("Cancel&hellip;", f"{page}cancel/", f"cancel-{key}")}</td></tr>'
    )


_task_address = lru_cache(maxsize=1024)(addresses.task)


def _state(task: TaskLine, page: str, hand: Hand) -> str:
    """How far it is, in words; each number leads to the IDs that it counts."""

    def counted(count: int, status: str, word: str, css: str = "") -> str:
        return link(f"{count:,} {word}", f"{page}?status={status}#ids", f"{status}-{task.id}", css)

    said = []
    if task.placed_at is None:
        said.append("being placed")
    elif task.is_late:
        said.append(counted(task.waiting, "waiting", "late", "notice"))
    elif not task.sent and not task.in_flight:
        said.append(f"waits for {hand.moment(task.first_at)}")
    if task.succeeded:
        said.append(counted(task.succeeded, "succeeded", "succeeded"))
    if task.failed:
        said.append(counted(task.failed, "failed", "failed", "bad"))
    if not said:
        said.append(counted(task.in_flight, "in_flight", "in flight"))
    return ", ".join(said)
