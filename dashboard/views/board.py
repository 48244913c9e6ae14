"""The board: the filling and the running window, live."""

import re
from datetime import datetime, timedelta
from html import unescape
from typing import Any

from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.utils.html import strip_tags
from django.views.decorators.http import require_safe

from dashboard import addresses
from dashboard.access import REASONS, OperatorRequest, viewer_required
from dashboard.board import live_board, strip
from dashboard.board.viewpoint import Viewpoint
from dashboard.drawing import heatmap
from dashboard.inputs.filters import day_bounds
from dashboard.inputs.parameters import refuse_unknown
from dashboard.markup import Markup, Part, changed_parts, update
from dashboard.presenters import quota_use
from dashboard.presenters.quota_use import QuotaUse
from dashboard.presenters.task_detail import Line
from dashboard.tables.listings import TaskTable
from operators.compression import compress
from operators.roles import Permission
from scheduling import models, store
from scheduling.core import clock
from scheduling.reports import board as boards
from scheduling.reports import budget_use, days, planning
from scheduling.reports.cards import Board

ALL = "*"
FIRST = "default"
FINISHED_SHOWN = 5
AHEAD_SHOWN = 12
# The queues whose quotas are shown.
QUOTAS_SHOWN = 12
NOT_ON_BOARD = ("progress", *TaskTable.hidden_at_first)
BUTTON_OR_SIGN = re.compile(r"<button.*?</button>|<span class=\"sign\".*?</span>", re.DOTALL)
POINT = re.compile(r"(\d{1,5}),(\d{1,5})")


@require_safe
@viewer_required
def board(request: OperatorRequest) -> HttpResponseBase:
    """Show the page, or its live part: an empty 204 if the poll already has everything."""
    refuse_unknown(request, {"queue", "version"})
    name = request.GET.get("queue", FIRST)
    snapshot = boards.snapshot("" if name == ALL else name, at=store.now())
    version = request.GET.get("version", "")
    if request.htmx and version == snapshot.version:
        return _varied(HttpResponse(status=204))
    why_not = "" if request.user.may(Permission.ACT) else REASONS[Permission.ACT]
    if request.htmx:
        # Nothing personal is in it, and nothing that the request said.
        return _varied(compress(request, HttpResponse(_update(snapshot, name, why_not, version))))
    board = _board(snapshot, name)
    context = {
        "board": board,
        "live_board": _draw(snapshot, name, why_not).render(),
        "queue_name": name,
        "jump_to": board.queues if len(board.queues) > live_board.TABS else (),
        "next_quarter_at": clock.quarter_start(board.at) + clock.QUARTER,
    }
    return _varied(render(request, "dashboard/board.html", context | _ahead(name)))


def _board(snapshot: boards.Snapshot, name: str) -> Board:
    board = snapshot.board()
    if name not in (ALL, FIRST) and board.tab is None:
        raise BadRequest(f"There is no queue named {name!r}.")
    return board


# Shared by all operators with the same queue, zone and permission: it contains nothing personal. It is kept so that a
# poll can be answered with the changes since the version that the browser has.
_boards: dict[tuple[str, str, str, str], Part] = {}
BOARDS_KEPT = 64


def _key(version: str, name: str, why_not: str) -> tuple[str, str, str, str]:
    return (version, name, timezone.get_current_timezone_name(), why_not)


def _draw(snapshot: boards.Snapshot, name: str, why_not: str) -> Part:
    """Draw the live part, once for each state of the board, however many operators look at it."""
    key = _key(snapshot.version, name, why_not)
    if key not in _boards:
        viewpoint = Viewpoint.at(snapshot.at, why_not)
        part = live_board.draw(_board(snapshot, name), queue_name=name, viewpoint=viewpoint)
        # The oldest ones go; other threads may do the same.
        for oldest in list(_boards)[: len(_boards) + 1 - BOARDS_KEPT]:
            _boards.pop(oldest, None)
        _boards[key] = part
    return _boards[key]


def _update(snapshot: boards.Snapshot, name: str, why_not: str, version: str) -> str:
    """Return what has changed since the version that the browser has, or all of it if that version is no
    longer known.
    """
    new, old = _draw(snapshot, name, why_not), _boards.get(_key(version, name, why_not))
    return update([new] if old is None else changed_parts(old, new))


@require_safe
@viewer_required
def alarms(request: OperatorRequest) -> HttpResponseBase:
    """What needs attention, as sentences in JSON: for the titles and icons of all other pages."""
    refuse_unknown(request, ())
    snapshot = boards.snapshot("", at=store.now())
    # Without buttons, which a title can't show.
    viewpoint = Viewpoint.at(snapshot.at, REASONS[Permission.ACT])
    chips = strip.alarms(snapshot.board(), viewpoint)
    return JsonResponse({"alarms": [_words(chip) for chip in chips]}, headers={"Cache-Control": "no-store"})


def _words(chip: Markup) -> str:
    """A chip as plain text, without its sign and buttons."""
    text = BUTTON_OR_SIGN.sub("", chip)
    return " ".join(unescape(strip_tags(text)).split())


@require_safe
@viewer_required
def ahead(request: OperatorRequest) -> HttpResponseBase:
    """Show the part that changes slowly: the later windows, and the day as a heat map."""
    refuse_unknown(request, {"queue"})
    name = request.GET.get("queue", FIRST)
    if name not in (ALL, FIRST) and not models.Queue.objects.filter(name=name).exists():
        raise BadRequest(f"queue: there is none named {name[:60]!r}.")
    return render(request, "dashboard/_ahead.html", {**_ahead(name), "queue_name": name, "is_part": True})


def _ahead(name: str) -> dict[str, Any]:
    at = store.now()
    every = list(models.Queue.objects.all())
    queues = [queue for queue in every if name in (ALL, queue.name)]
    day = timezone.localdate(at)
    begin, end = day_bounds(day)
    columns = days.columns(queues, begin=begin, end=end)
    previous_quarter = clock.quarter_start(at) - clock.QUARTER
    planned = planning.of_windows(queues, begin=previous_quarter, end=previous_quarter + clock.QUARTER)
    upcoming = days.upcoming_windows(queues, at=at, count=AHEAD_SHOWN + 1)
    budgets = budget_use.of_targets({queue.target_id for queue in queues if queue.target_id}, at)
    return {
        "budgets": budgets,
        "last_quarter": next((column for column in columns if column.runs_at == previous_quarter), None),
        "last_quarter_urls": {
            kind or "filled": addresses.drill_down(name, previous_quarter - clock.QUARTER, kind)
            for kind in ("", "sent", "failed", "moved")
        },
        "planning": planned.get(previous_quarter),
        "finished": TaskTable(_finished_lately(queues, at), exclude=NOT_ON_BOARD),
        "quotas": _quotas(queues, [use.target for use in budgets], at),
        "ahead": upcoming[:AHEAD_SHOWN],
        "has_more_ahead": len(upcoming) > AHEAD_SHOWN,
        # Late IDs of all queues, whichever queue is shown: they come first on the page.
        "replanned": days.replanned_late_ids(every, at=at),
        "day": day,
        "previous": day - timedelta(days=1),
        "following": day + timedelta(days=1),
        "sent_url": addresses.drill_down_between(name, begin, end, "sent"),
        "failed_url": addresses.drill_down_between(name, begin, end, "failed"),
        "map": heatmap.draw(columns, at=at),
        "heat_legend": heatmap.LEGEND,
        "only_queue": queues[0].name if len(queues) == 1 else "",
        "sent": sum(column.sent for column in columns),
        "failed": sum(column.failed for column in columns),
    }


def _quotas(queues: list[models.Queue], targets: list[models.Target], at: datetime) -> list[QuotaUse]:
    """Return how much of its quotas each queue, and each target of theirs, has booked in the periods that run now."""
    sending = {queue.target_id: queue for queue in queues}
    of_targets = [
        use
        for target in targets
        if target.quotas
        for use in quota_use.of_target(target, sending[target.pk], at=at)
    ]
    with_quotas = [queue for queue in queues if queue.quotas][:QUOTAS_SHOWN]
    return [*of_targets, *(use for queue in with_quotas for use in quota_use.of_queue(queue, at=at))]


def _finished_lately(queues: list[models.Queue], at: datetime) -> list[Line]:
    """Return the newest tasks that are done or cancelled."""
    rows = models.Task.objects.filter(queue__in=queues).exclude(finished_at=None, cancelled_at=None)
    newest = rows.select_related("queue").defer("payload").order_by("-pk")
    return [Line(task, at) for task in newest[:FINISHED_SHOWN]]


@require_safe
@viewer_required
def cell(request: OperatorRequest, stamp: str, name: str = "") -> HttpResponseBase:
    """Redirect from a point of a heat map's column, which the browser adds as `?x,y`, to the minute at that
    point.

    A column that is opened by the keyboard, without a point, leads to its window; with all queues, to its
    IDs.
    """
    try:
        runs_at = addresses.read_quarter(stamp)
    except ValueError:
        raise Http404("A column's address is like 2026-11-25T12:15Z.") from None
    match = POINT.fullmatch(request.META["QUERY_STRING"] or "0,0")
    if match is None:
        raise BadRequest("A point is like ?4,57.")
    x, y = map(int, match.groups())
    if (x, y) == (0, 0):
        starts_at = runs_at - clock.QUARTER
        return redirect(addresses.window(name, starts_at) if name else addresses.drill_down(ALL, starts_at))
    k = min(clock.BUCKETS - 1, y // heatmap.CELL_PIXELS)
    return redirect(addresses.minute(runs_at + k * clock.MINUTE, name or ALL))


def _varied(response: HttpResponseBase) -> HttpResponseBase:
    patch_vary_headers(response, ["HX-Request"])
    return response
