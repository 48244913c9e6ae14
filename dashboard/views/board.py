"""The board: what fills and what runs, live."""

from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from dashboard import drawings
from dashboard.access import OperatorRequest, viewer_required
from dashboard.queries import refuse_unknown
from scheduling import board as boards
from scheduling import clock, store

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
    found = snapshot.board()
    if name not in (ALL, FIRST) and found.tab is None:
        raise BadRequest(f"There is no queue named {name!r}.")
    page = "dashboard/_board.html" if request.htmx else "dashboard/board.html"
    return _varied(render(request, page, {**_drawn(found), "queue_name": name}))


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
        "next_quarter_at": clock.quarter_start(found.at) + clock.QUARTER,
    }


def _varied(response: HttpResponse) -> HttpResponse:
    patch_vary_headers(response, ["HX-Request"])
    return response
