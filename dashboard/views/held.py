"""The list behind a number: the IDs of a window by what became of them, or all that are late."""

from datetime import datetime
from itertools import islice

from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from dashboard import addresses, exports, tables
from dashboard.access import OperatorRequest, viewer_required
from dashboard.paging import whole_number
from dashboard.queries import refuse_unknown
from scheduling import held as holding
from scheduling import models, store

ROWS = 60
ALL = "*"
HEADS = ("user_id", "task_id", "task_name", "queue", "minute", "status", "attempts", "moved_to")


@require_safe
@viewer_required
def held(request: OperatorRequest) -> HttpResponse:
    """A page of them; all of them as a file with `format`."""
    refuse_unknown(request, {"queue", "window", "kind", "after", "format"})
    name = request.GET.get("queue", ALL)
    queues = {queue.pk: queue.name for queue in models.Queue.objects.all() if name in (ALL, queue.name)}
    if not queues:
        raise BadRequest(f"There is no queue named {name!r}.")
    wanted = holding.Held(tuple(queues), _kind(request), store.now(), _window(request))
    if wanted.starts_at is None and wanted.kind != holding.Kind.LATE:
        raise BadRequest("window: of which one, such as 2026-11-25T12:15Z? Only late ones may be of any.")
    if form := request.GET.get("format"):
        return exports.named(form, "ids", HEADS, (_export(row, queues, wanted.kind) for row in wanted.rows()))
    after = whole_number(request, "after") or 0
    rows = list(islice(wanted.rows(after=after), ROWS + 1))
    has_more = len(rows) > ROWS
    context = {
        "wanted": wanted,
        "queue_name": name,
        "count": wanted.count(),
        "rows": rows[:ROWS],
        "table": tables.HeldTable(rows[:ROWS], queues=queues, happened=wanted.kind.label),
        "next_after": rows[ROWS - 1].key if has_more else None,
        "is_all": not after and not has_more,
    }
    return render(request, "dashboard/held.html", context)


def _kind(request: OperatorRequest) -> holding.Kind:
    word = request.GET.get("kind", "" if "window" in request.GET else holding.Kind.LATE)
    try:
        return holding.Kind(word)
    except ValueError:
        known = ", ".join(kind.value for kind in holding.Kind if kind.value)
        raise BadRequest(f"kind: {word!r} is none of {known}.") from None


def _window(request: OperatorRequest) -> datetime | None:
    text = request.GET.get("window", "")
    if not text:
        return None
    try:
        return addresses.read_quarter(text)
    except ValueError:
        raise BadRequest(f"window: {text!r} is the start of none, such as 2026-11-25T12:15Z.") from None


def _export(row: holding.Row, queues: dict[int, str], kind: holding.Kind) -> list:
    return [
        str(row.user_id),
        row.task_id,
        row.task_name,
        queues[row.queue_id],
        row.minute_at.isoformat(),
        row.status.word if row.status else kind.value,
        row.attempts,
        row.to_minute.isoformat() if row.to_minute else None,
    ]
