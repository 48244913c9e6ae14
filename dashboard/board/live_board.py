"""The part of the board that updates live: the page and every poll draw it here.

In Python and not in a template, which took four times as long: a poll comes each second from everybody who looks.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from django.template.loader import render_to_string
from django.urls import reverse

from dashboard import addresses, formatting
from dashboard.board.strip import strip
from dashboard.board.viewpoint import Viewpoint, link
from dashboard.drawing import charts, svg
from dashboard.formatting import plural
from dashboard.markup import EMPTY, Markup, Part, join, markup
from scheduling.core import clock
from scheduling.models import Status
from scheduling.reports.board import TASKS_COUNTED
from scheduling.reports.cards import Board, Card, QueueTab, TaskLine

ALL = "*"
# With more queues than this, only the first few have a tab, so that tabs don't push the board down.
TABS, FIRST_TABS = 12, 5
DOT = Markup(" &middot; ")
DIV, SECTION, CELL = Markup("</div>"), Markup("</section>"), Markup("</td>")
NO_TASKS = Markup(
    '<p class="quiet" id="tasks-none">No tasks in progress. Lists stay here until everything is sent.</p>'
)
HEADS = Markup(
    '<thead><tr><th scope="col">Task</th><th scope="col">Queue</th><th scope="col" class="number">IDs</th>'
    '<th scope="col">State</th><th scope="col">Progress</th><th scope="col" class="number">Done at</th>'
    '<th scope="col">By</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>'
)


def draw(board: Board, *, queue_name: str, viewpoint: Viewpoint) -> Part:
    """Draw the live part. It contains nothing personal but the viewpoint.

    queue_name: as in the address, `*` for all.
    """
    # Both charts have one scale, so that their bars can be compared.
    minutes = (*board.running.minutes, *board.filling.minutes)
    scale = max([1, *(max(minute.filled, minute.capacity) for minute in minutes)])
    windows = (
        _running(board, queue_name, viewpoint, scale),
        _filling(board, queue_name, viewpoint, scale),
    )
    version = markup('<input type="hidden" id="version" name="version" value="%s">', board.version)
    children = (
        Part("version", version),
        *strip(board, viewpoint),
        Part("tabs", _tabs(board.queues, queue_name, viewpoint)),
        *([Part("first-steps", _empty(board.filling.runs_at, viewpoint))] if board.is_new else []),
        Part("windows", Markup('<div class="pair" id="windows">'), windows, DIV),
        _tasks(board, viewpoint),
    )
    return Part("board", Markup('<div id="board">'), children, DIV)


# --- Tabs ---


@lru_cache(maxsize=256)
def _tabs(queues: Sequence[QueueTab], chosen: str, viewpoint: Viewpoint) -> Markup:
    """Draw a tab for each queue, with its limit. The tabs are sent again only when one of them has changed."""
    count = len(queues) if len(queues) <= TABS else FIRST_TABS
    named = [tab for k, tab in enumerate(queues) if k < count or tab.name == chosen]
    tabs = [_tab(f"tab-{tab.name}", tab.name, _pace(tab), chosen) for tab in named]
    if len(queues) > 1:
        tabs.append(_tab("tab-all", ALL, "All queues", chosen))
    if more := len(queues) - len(named):
        tabs.append(markup('<a id="tab-more" href="%s">%s more&hellip;</a>', reverse("queues"), f"{more:,}"))
    shown = next((tab for tab in queues if tab.name == chosen), None)
    if shown:
        tabs.append(_queue_buttons(shown, viewpoint))
    return markup('<nav class="tabs" id="tabs" aria-label="Queues">%s</nav>', join(tabs))


def _queue_buttons(tab: QueueTab, viewpoint: Viewpoint) -> Markup:
    panel = reverse("queue_slow_down", args=[tab.name])
    # It opens beside the board; without JavaScript, it is a page of its own.
    attributes = markup(' hx-get="%s" hx-target="#slow-down" hx-swap="innerHTML"', panel)
    pause = viewpoint.action(Markup("Pause&hellip;"), panel, "to-queue", more=attributes)
    if tab.paused_at:
        resume = addresses.queue_operation(tab.name, "resume")
        pause = viewpoint.submit(Markup("Resume"), resume, "resume-shown")
    brake = viewpoint.action(Markup("Brake&hellip;"), panel, "to-brake", more=attributes)
    return markup('<span class="end">%s %s</span>', pause, brake)


def _tab(key: str, name: str, label: str, chosen: str) -> Markup:
    current = Markup(' aria-current="page"') if name == chosen else EMPTY
    href = addresses.with_query(reverse("board"), queue=name)
    return markup('<a id="%s" href="%s"%s>%s</a>', key, href, current, label)


def _pace(tab: QueueTab) -> Markup:
    if tab.paused_at:
        pace = "paused"
    elif tab.brake_per_minute is not None:
        pace = f"at most {tab.brake_per_minute:,}/min"
    else:
        pace = f"{tab.rpm:,}/min"
    return markup("%s &middot; %s", tab.name, pace)


@lru_cache(maxsize=64)
def _empty(runs_at: datetime, viewpoint: Viewpoint) -> Markup:
    """Draw the empty board, which says what to do first."""
    # This is drawn once a quarter-hour; board.js counts down.
    context = {"runs_at": runs_at, "countdown": "at most 15 minutes", "why": viewpoint.why_not}
    return markup("%s", render_to_string("dashboard/_board_empty.html", context))


# --- The two windows ---


_KEY = '<svg class="key" aria-hidden="true"><rect class="%s" width="12" height="12" rx="2"/></svg>'


class Numbers(NamedTuple):
    """Draws the numbers of a window, each a link to the IDs that it counts. prefix: of their element ids."""

    prefix: str
    queue_name: str
    card: Card

    def link(self, kind: str, label: Any, *, css: str = "") -> Markup:
        """Draw a link to the IDs of a kind. kind: see reports.drill_down; empty for all IDs."""
        address = addresses.drill_down(self.queue_name, self.card.starts_at, kind)
        return link(label, address, f"{self.prefix}-{kind or 'counts'}", css)

    def peak(self) -> Markup:
        """Draw the fullest minute."""
        peak = self.card.peak
        css = Markup(' class="notice"') if peak.over else EMPTY
        label = markup("<b%s>%s a minute</b>", css, f"{peak.filled:,}")
        full = link(label, addresses.minute(peak.minute, self.queue_name), f"{self.prefix}-peak")
        if not peak.over:
            return markup("%s of %s", full, f"{peak.capacity:,}")
        # There is no page of a window of all queues together, so this leads to the minute.
        href = addresses.minute(peak.minute, self.queue_name)
        if self.queue_name != ALL:
            href = _window_address(self.queue_name, self.card.starts_at)
        over = link(f"{peak.over:,} over {peak.capacity:,}", href, f"{self.prefix}-over")
        return markup("%s, %s", full, over)

    def legend(self, entries: Iterable[tuple[str, str, int]]) -> Part:
        """Draw the legend: (kind, word, count) for each colour.

        Entries keep their places, so that none moves.
        """
        key = f"{self.prefix}-legend"
        head = markup('<ul class="legend counted" id="%s" aria-label="IDs by state">', key)
        return Part(key, head, tuple(self._entry(*entry) for entry in entries), Markup("</ul>"))

    def _entry(self, kind: str, word: str, count: int) -> Part:
        key = f"{self.prefix}-key-{kind}"
        if not count:
            return Part(key, markup(f'<li id="%s">{_KEY}%s</li>', key, kind, word))
        address = addresses.drill_down(self.queue_name, self.card.starts_at, kind)
        entry = f'<li id="%s">{_KEY}<a id="%s-of-%s" href="%s">%s %s</a></li>'
        return Part(key, markup(entry, key, kind, self.prefix, kind, address, f"{count:,}", word))

    def window(
        self,
        viewpoint: Viewpoint,
        *,
        head: Markup,
        sentence: Markup,
        plot: Part,
        legend: Part,
        aside: Markup = EMPTY,
    ) -> Part:
        """Draw the panel of a window. aside: shown beside its name."""
        card, key = self.card, self.prefix
        times = (viewpoint.clock(card.runs_at), viewpoint.clock(card.ends_at))
        name = markup("%s %s &ndash; %s", head, *times)
        # There is no such page of all queues together.
        if self.queue_name != ALL:
            name = link(name, _window_address(self.queue_name, card.starts_at), f"{key}-window")
        start = markup(
            '<section class="panel" id="%s" aria-labelledby="%s-name"><h2 id="%s-name">%s%s</h2>',
            *(key, key, key, name, aside),
        )
        text = markup('<p class="sentence" id="%s-sentence">%s</p>', key, sentence)
        return Part(key, start, (Part(f"{key}-sentence", text), plot, legend), SECTION)


_window_address = lru_cache(maxsize=256)(addresses.window)


def _running(board: Board, queue_name: str, viewpoint: Viewpoint, scale: int) -> Part:
    card, sums = board.running, board.running.sums
    numbers = Numbers("running", queue_name, card)
    chart = charts.chart(card.minutes, now=clock.minute_start(board.at), scale=scale)
    late = card.late(board.at)
    sentence = [Markup("Nothing to send in this quarter-hour.")]
    if card.filled:
        count = markup("<b>%s</b>", f"{card.sent:,}")
        sent = numbers.link("sent", count) if card.sent else count
        sentence = [markup("%s of %s sent", sent, numbers.link("", f"{card.filled:,}"))]
        if card.failed:
            sentence.append(numbers.link("failed", f"{card.failed:,} failed", css="bad"))
        if card.over:
            sentence.append(numbers.peak())
        sentence.append(_outlook(board, viewpoint))
    return numbers.window(
        viewpoint,
        head=Markup("Running &middot;"),
        sentence=join(sentence, DOT),
        plot=svg.plot_part(
            chart, name="The running quarter-hour, by minute", prefix="run", queue_name=queue_name
        ),
        legend=numbers.legend(
            (
                *_counts(sums, Status.SUCCEEDED, Status.FAILED, Status.IN_FLIGHT),
                (Status.WAITING.css, Status.WAITING.label, sums.waiting - late),
                ("late", "late", late),
                ("past", "above the limit", 0),
                *_counts(sums, Status.EXPIRED),
                ("moved", "moved out", sums.moved),
            )
        ),
    )


def _counts(sums: Any, *statuses: Status) -> list[tuple[str, str, int]]:
    """Return entries of a legend."""
    return [(status.css, status.label, getattr(sums, status.word)) for status in statuses]


def _outlook(board: Board, viewpoint: Viewpoint) -> Markup:
    """Say when the running window will be done, unless something keeps its queue from the plan."""
    last_at = board.running.last_at
    if board.tab and board.tab.paused_at:
        return Markup('<span class="notice">paused</span>')
    if last_at is None:
        return Markup('<span class="good">all done</span>')
    if board.health.missing:
        return Markup('<span class="bad">nothing is being sent</span>')
    if board.blocks(board.queue):
        return Markup('<span class="bad">requests are blocked</span>')
    if board.tab and board.tab.brake_per_minute is not None:
        return _braked_outlook(board, board.tab.brake_per_minute, viewpoint)
    if last_at <= board.at:
        return Markup('<span class="notice">the rest is late</span>')
    done = markup("done at %s", viewpoint.clock(last_at))
    excepted = []
    if board.tab is None and any(tab.paused_at or tab.brake_per_minute is not None for tab in board.queues):
        excepted.append("paused and braked queues")
    if board.has_list_on_hold(board.queue):
        excepted.append("lists on hold")
    return markup("%s, except %s", done, ", and ".join(excepted)) if excepted else done


def _braked_outlook(board: Board, per_minute: int, viewpoint: Viewpoint) -> Markup:
    """Say how many IDs a brake lets through in the rest of the window. The others move to later minutes."""
    card, current = board.running, clock.minute_start(board.at)
    rest = sum(minute.waiting for minute in card.minutes)
    fits = min(rest, per_minute * sum(minute.minute > current for minute in card.minutes))
    brake = f"braked to {per_minute:,} a minute"
    later = f", {rest - fits:,} later" if rest > fits else ""
    return markup(
        '<span class="notice">%s: at most %s more by %s%s</span>',
        *(brake, f"{fits:,}", viewpoint.clock(card.ends_at), later),
    )


def _filling(board: Board, queue_name: str, viewpoint: Viewpoint, scale: int) -> Part:
    card, sums = board.filling, board.filling.sums
    numbers = Numbers("filling", queue_name, card)
    sentence = [Markup("Empty so far")]
    if card.filled:
        count, _, ids = plural(card.filled, "ID").partition(" ")
        sentence = [numbers.link("", markup("<b>%s</b> %s", count, ids)), markup("peak %s", numbers.peak())]
    closes = markup(
        ' <span class="quiet">&middot; accepts lists until %s</span>', viewpoint.clock_seconds(card.closes_at)
    )
    chart = charts.chart(card.minutes, scale=scale)
    return numbers.window(
        viewpoint,
        head=Markup("Filling &middot; runs"),
        aside=closes,
        sentence=join(sentence, DOT),
        plot=svg.plot_part(
            chart, name="The filling quarter-hour, by minute", prefix="fill", queue_name=queue_name
        ),
        legend=numbers.legend(
            (
                *_counts(sums, Status.WAITING),
                ("past", "above the limit", 0),
                *_counts(sums, Status.CANCELLED),
                ("moved", "moved out", sums.moved),
            )
        ),
    )


# --- Tasks in progress ---


def _tasks(board: Board, viewpoint: Viewpoint) -> Part:
    shown = len(board.tasks)
    more = EMPTY
    if board.tasks_count > shown:
        or_more = " or more" if board.tasks_count >= TASKS_COUNTED else ""
        more = markup(
            '<span class="quiet">the next %s of %s%s</span>', shown, f"{board.tasks_count:,}", or_more
        )
    head = markup(
        '<div class="row" id="tasks-head"><h2 id="tasks-name">Tasks in progress</h2>%s%s</div>',
        *(more, _task_links(viewpoint)),
    )
    none = Markup(
        '<p class="quiet" id="tasks-none">No tasks in progress. Lists stay here until everything is sent.</p>'
    )
    content = Part("tasks-none", none)
    if shown:
        start = markup(
            '<div class="scroll" id="tasks-table" data-hold><table class="list cards">%s<tbody>', HEADS
        )
        rows = tuple([_task(task, board, viewpoint) for task in board.tasks])
        content = Part("tasks-table", start, rows, Markup("</tbody></table></div>"))
    why = markup('<p class="hint">%s</p>', viewpoint.why_not) if viewpoint.why_not else EMPTY
    start = Markup('<section class="panel" id="tasks" aria-labelledby="tasks-name">')
    return Part("tasks", start, (Part("tasks-head", head), content), join([why, SECTION]))


@lru_cache(maxsize=64)
def _task_links(viewpoint: Viewpoint) -> Markup:
    """Draw the links to the other tasks and to the upload page."""
    upload = viewpoint.action(
        Markup("Upload a list"), reverse("upload"), "to-upload", css="button main small"
    )
    # The browser counts new tasks and keeps the rows in place, so this is empty at first.
    return markup(
        '<a class="small" id="to-tasks" href="%s">all tasks</a>'
        '<button type="button" class="button small offer" id="offer" data-offer></button>'
        '<span class="end">%s</span>',
        *(reverse("tasks"), upload),
    )


@lru_cache(maxsize=4096)
def _row_ends(
    key: int, name: str, queue: str, ids: int, by: str, viewpoint: Viewpoint
) -> tuple[Markup, Markup]:
    """Draw the parts of a row that stay the same while its numbers change."""
    page = _task_address(key)
    start = markup(
        '<tr id="row-%s"><td class="name"><a id="task-%s" href="%s">%s</a></td><td class="quiet">%s</td>'
        '<td class="number"><a id="ids-%s" href="%s#ids">%s<span class="on-cards"> %s</span></a></td>',
        *(key, key, page, name, queue, key, page, f"{ids:,}", "ID" if ids == 1 else "IDs"),
    )
    cancel = viewpoint.action(Markup("Cancel&hellip;"), f"{page}cancel/", f"cancel-{key}")
    return start, markup('<td class="quiet">%s</td><td class="act">%s</td></tr>', by, cancel)


def _task(task: TaskLine, board: Board, viewpoint: Viewpoint) -> Part:
    page, key = _task_address(task.id), task.id
    start, end = _row_ends(key, task.name, task.queue, task.ids, task.by, viewpoint)
    cells = (
        Part(
            f"state-{key}",
            markup('<td class="state-words" id="state-%s">%s</td>', key, _state(task, page, viewpoint)),
            inside="tr",
        ),
        Part(
            f"bar-{key}", markup('<td class="whole wide" id="bar-%s">%s</td>', key, _bar(task)), inside="tr"
        ),
        Part(
            f"done-{key}",
            markup(
                '<td class="number" data-name="done at" id="done-%s">%s</td>',
                *(key, _done_at(task, board, viewpoint)),
            ),
            inside="tr",
        ),
    )
    return Part(f"row-{key}", start, cells, end, inside="tbody")


def _bar(task: TaskLine) -> Markup:
    counts = [(kind, getattr(task, kind)) for kind in charts.DONE]
    parts = charts.shares(counts, task.ids, cancelled=task.cancelled)
    return svg.progress(
        parts, label=charts.progress_text(task.sent, task.ids, task.cancelled), key=f"p-{task.id}"
    )


def _done_at(task: TaskLine, board: Board, viewpoint: Viewpoint) -> Markup:
    """Return the end of the task's last minute, unless something keeps its queue from the plan."""
    tab = next((tab for tab in board.queues if tab.name == task.queue), None)
    reason = formatting.why_no_end(
        on_hold=task.is_on_hold,
        waits_for_canary=bool(task.canary),
        paused=tab is not None and tab.paused_at is not None,
    )
    if reason:
        return markup("%s", reason)
    planned = viewpoint.moment(task.done_at)
    if tab is not None and (tab.brake_per_minute is not None or board.blocks(tab.name)):
        return markup("%s%s", planned, formatting.OR_LATER)
    return planned


_task_address = lru_cache(maxsize=1024)(addresses.task)


def _state(task: TaskLine, page: str, viewpoint: Viewpoint) -> Markup:
    """Draw a task's progress in words. Each number leads to the IDs that it counts."""

    def counted(count: int, status: Status, word: str = "", css: str = "") -> Markup:
        label = f"{count:,} {word or status.label}"
        return link(label, f"{page}?status={status.word}#ids", f"{status.word}-{task.id}", css)

    parts = []
    if task.is_on_hold:
        parts.append(link("on hold", f"{page}hold/", f"held-{task.id}", "notice"))
    elif task.canary:
        parts.append(markup("canary: %s", task.canary))
    if task.placed_at is None:
        parts.append(Markup("being placed"))
    elif task.is_late:
        parts.append(counted(task.waiting, Status.WAITING, "late", "notice"))
    elif not task.sent and not task.in_flight:
        parts.append(markup("waits for %s", viewpoint.moment(task.first_at)))
    if task.succeeded:
        parts.append(counted(task.succeeded, Status.SUCCEEDED))
    if task.failed:
        parts.append(counted(task.failed, Status.FAILED, css="bad"))
    if not parts:
        parts.append(counted(task.in_flight, Status.IN_FLIGHT))
    return join(parts, Markup(", "))
