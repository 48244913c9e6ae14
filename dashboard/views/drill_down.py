"""The drill-down: the IDs behind a number, of a window, a minute or a day, by state; or all late IDs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from dashboard import addresses, exports, id_texts
from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs import columns
from dashboard.inputs.parameters import COLUMNS, refuse_unknown, whole_number
from dashboard.tables import listings
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.clock import iso
from scheduling.reports import drill_down as drill_downs

ROWS = 60
ALL = "*"
PARAMETERS = ("queue", "kind", "after", "format", COLUMNS)
# The longest day.
LONGEST = timedelta(hours=25)
HEADS = ("user_id", "task_id", "task_name", "queue", "minute", "status", "attempts", "moved_to")


@require_safe
@viewer_required
def drill_down(request: OperatorRequest) -> HttpResponseBase:
    """Show a page of the IDs; with `format`, all of them as a file."""
    refuse_unknown(request, {*PARAMETERS, *OF})
    name = request.GET.get("queue", ALL)
    queues = {queue.pk: queue.name for queue in models.Queue.objects.all() if name in (ALL, queue.name)}
    if not queues:
        raise BadRequest(f"There is no queue named {name!r}.")
    span = _span(request)
    kind, at = _kind(request, span), store.now()
    if span is None and kind != drill_downs.Kind.LATE:
        raise BadRequest(
            "window is missing, such as 2026-11-25T12:15Z. Only late IDs can be listed for all of them."
        )
    selection = drill_downs.DrillDown(tuple(queues), kind, at, *((span.begin, span.end) if span else ()))
    if form := request.GET.get("format"):
        exported = id_texts.exported(selection.rows(), lambda row: _export(row, queues, selection.kind))
        return exports.named(form, "ids", HEADS, exported)
    after = whole_number(request, "after") or 0
    rows = list(islice(selection.rows(after=after), ROWS + 1))
    has_more = len(rows) > ROWS
    count = selection.count()
    shown = columns.choose(request, listings.DrillDownTable)
    context = {
        "wanted": selection,
        "then": _then(span, selection, count),
        "span": span,
        "queue_name": name,
        "count": count,
        "rows": rows[:ROWS],
        "columns": shown,
        "table": listings.DrillDownTable(
            rows[:ROWS], queues=queues, happened=selection.kind.label, exclude=shown.hidden
        ),
        "next_after": rows[ROWS - 1].key if has_more else None,
        "is_all": not after and not has_more,
    }
    return render(request, "dashboard/drill_down.html", context)


@dataclass(frozen=True)
class Span:
    """The minutes that are listed. window: its start, if they are those of one window."""

    begin: datetime
    end: datetime
    window: datetime | None = None

    @property
    def minute(self) -> datetime | None:
        """Return the only minute, if it is just one."""
        return self.begin if self.end - self.begin == clock.MINUTE else None


# The parameters that name minutes.
OF = ("window", "minute", "from", "to")


@require_safe
@viewer_required
def former_address(request: OperatorRequest) -> HttpResponse:
    """Redirect from the address that links of earlier releases have."""
    refuse_unknown(request, {*PARAMETERS, *OF})
    return redirect(f"{reverse('drill_down')}?{request.META['QUERY_STRING']}")


def _kind(request: OperatorRequest, span: Span | None) -> drill_downs.Kind:
    word = request.GET.get("kind", "" if span else drill_downs.Kind.LATE)
    try:
        return drill_downs.Kind(word)
    except ValueError:
        names = ", ".join(kind.value for kind in drill_downs.Kind if kind.value)
        raise BadRequest(f"kind: {word!r} is not one of {names}.") from None


def _span(request: OperatorRequest) -> Span | None:
    names = [name for name in OF if request.GET.get(name)]
    if not names:
        return None
    if names not in (["window"], ["minute"], ["from", "to"]):
        raise BadRequest("Give one of: window, minute, or from and to.")
    if names == ["window"]:
        starts_at = _time(request, "window", addresses.read_quarter, "not the start of a quarter-hour")
        runs_at = clock.runs_at(starts_at)
        return Span(runs_at, runs_at + clock.QUARTER, starts_at)
    begin, *end = (_time(request, name, addresses.read_minute, "not a minute") for name in names)
    if not end:
        return Span(begin, begin + clock.MINUTE)
    if not timedelta(0) < end[0] - begin <= LONGEST:
        raise BadRequest("to: the time must be later than from, by at most 25 hours.")
    return Span(begin, end[0])


@dataclass(frozen=True)
class Then:
    """What the receipt says about the same IDs."""

    count: int
    at: datetime


def _then(span: Span | None, selection: drill_downs.DrillDown, count: int) -> Then | None:
    """Return the number in the receipt that the operator came from, if it differs."""
    if span is None or len(selection.queue_ids) > 1 or span.end - span.begin > clock.QUARTER:
        return None
    bucket = keys.bucket_at(selection.queue_ids[0], span.begin)
    window = models.Window.objects.filter(pk=keys.window_of_bucket(bucket)).first()
    if (
        window is None
        or not window.receipt
        or window.totalled_at is None
        or selection.kind.value not in window.receipt
    ):
        return None
    receipt = window.receipt if span.window else window.receipt["minutes"][keys.index_of_bucket(bucket)]
    then = receipt[selection.kind.value]
    # A receipt counts starts and late IDs differently.
    if selection.kind in (drill_downs.Kind.SENT, drill_downs.Kind.LATE) or then == count:
        return None
    return Then(then, window.totalled_at)


def _time(request: OperatorRequest, name: str, read: Callable[[str], datetime], is_wrong: str) -> datetime:
    text = request.GET[name]
    try:
        return read(text)
    except ValueError:
        raise BadRequest(f"{name}: {text[:60]!r} is {is_wrong}, such as 2026-11-25T12:15Z.") from None


def _export(row: drill_downs.Row, queues: dict[int, str], kind: drill_downs.Kind) -> list[Any]:
    return [
        row.task_id,
        row.task_name,
        queues[row.queue_id],
        iso(row.minute_at),
        row.status.word if row.status else kind.value,
        row.attempts,
        iso(row.to_minute),
    ]
