"""The board: what fills and what runs, live."""

from datetime import timedelta

from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from dashboard import addresses, drawings, heatmap
from dashboard.access import OperatorRequest, viewer_required
from dashboard.filters import day_bounds
from dashboard.queries import refuse_unknown
from scheduling import board as boards
from scheduling import clock, days, models, store

ALL = "*"
FIRST = "default"
LEGEND = (
    ("succeeded", "succeeded"),
    ("failed", "failed"),
    ("in_flight", "in flight"),
    ("waiting", "waiting"),
    ("past", "past rpm"),
    ("late", "late"),
)


@require_safe
@viewer_required
def board(request: OperatorRequest) -> HttpResponse:
    """The page, and the part of it that moves: nothing (204) where the poll has what there is."""
    refuse_unknown(request, {"queue", "version"})
    name = request.GET.get("queue", FIRST)
    snapshot = boards.snapshot("" if name == ALL else name, at=store.now())
    if request.htmx and request.GET.get("version") == snapshot.version:
        return _varied(HttpResponse(status=204))
    if request.htmx:
        return _varied(HttpResponse(_fragment(snapshot, name)))
    found = _board(snapshot, name)
    context = {**_drawn(found), "queue_name": name}
    return _varied(render(request, "dashboard/board.html", context | _ahead(name)))


def _board(snapshot: boards.Snapshot, name: str) -> boards.Board:
    found = snapshot.board()
    if name not in (ALL, FIRST) and found.tab is None:
        raise BadRequest(f"There is no queue named {name!r}.")
    return found


# The same for all who look at a queue in a zone: rendered without a request, so nobody's own is in it.
_fragments: dict[tuple[str, str, str], str] = {}
FRAGMENTS_KEPT = 64


def _fragment(snapshot: boards.Snapshot, name: str) -> str:
    """The part that moves; rendered once for each state of the board, however many look at it."""
    key = (snapshot.version, name, timezone.get_current_timezone_name())
    if key not in _fragments:
        if len(_fragments) >= FRAGMENTS_KEPT:
            _fragments.clear()
        context = {**_drawn(_board(snapshot, name)), "queue_name": name}
        _fragments[key] = render_to_string("dashboard/_board.html", context)
    return _fragments[key]


@require_safe
@viewer_required
def ahead(request: OperatorRequest) -> HttpResponse:
    """What moves slowly: the windows to come, and the day as a heat map."""
    refuse_unknown(request, {"queue"})
    name = request.GET.get("queue", FIRST)
    return render(request, "dashboard/_ahead.html", {**_ahead(name), "queue_name": name})


def _ahead(name: str) -> dict:
    at = store.now()
    queues = [queue for queue in models.Queue.objects.all() if name in (ALL, queue.name)]
    day = timezone.localdate(at)
    begin, end = day_bounds(day)
    columns = days.columns(queues, begin=begin, end=end)
    return {
        "ahead": days.windows_ahead(queues, at=at),
        "again": days.placed_again(queues, at=at),
        "day": day,
        "previous": day - timedelta(days=1),
        "map": heatmap.draw(columns, at=at),
        "heat_legend": heatmap.LEGEND,
        "only_queue": queues[0].name if len(queues) == 1 else "",
        "sent": sum(column.sent for column in columns),
        "failed": sum(column.failed for column in columns),
    }


def _drawn(found: boards.Board) -> dict:
    current = clock.minute_start(found.at)
    cards = (found.running, found.filling)
    # One scale for both, so that a bar on the left can be compared with one on the right.
    scale = max([1, *(max(m.filled, m.capacity) for card in cards for m in card.minutes)])
    return {
        "board": found,
        "running": drawings.chart(found.running.minutes, now=current, scale=scale),
        "filling": drawings.chart(found.filling.minutes, scale=scale),
        "legend": LEGEND,
        "filling_legend": [entry for entry in LEGEND if entry[0] in ("waiting", "past")],
        "next_quarter_at": clock.quarter_start(found.at) + clock.QUARTER,
        # What the numbers of the two sentences count; all queues together have no such page.
        "running_url": _window(found, found.running),
        "filling_url": _window(found, found.filling),
    }


def _window(found: boards.Board, card) -> str:
    return addresses.window(found.tab.name, card.starts_at) if found.tab and card.filled else ""


def _varied(response: HttpResponse) -> HttpResponse:
    patch_vary_headers(response, ["HX-Request"])
    return response
