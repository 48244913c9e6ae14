"""The history of any stored day, as a heat map and as numbers, in the operator's zone."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard import addresses, exports
from dashboard.access import OperatorRequest, viewer_required
from dashboard.drawing import heatmap
from dashboard.inputs import columns
from dashboard.inputs.filters import day_bounds
from dashboard.inputs.parameters import COLUMNS, EARLIEST, LATEST, refuse_unknown
from dashboard.tables import totals
from scheduling import models, store
from scheduling.core.clock import iso
from scheduling.reports import days, planning

ALL = "*"
# More queues than this are chosen from a list, and their table scrolls.
TABS = 12
HEADS = ("minute", "capacity", "ids", "sent", "failed")
WINDOW_HEADS = ("runs_at", *planning.NAMES, "ids", "sent", "failed", "peak")
QUEUE_COUNTS = ("filled", "started", *(status.word for status in models.Status.ended()), "moved")
QUEUE_HEADS = ("queue", "ids", "requests_made", *QUEUE_COUNTS[2:-1], "moved_out")


@require_safe
@viewer_required
def today(request: OperatorRequest) -> HttpResponseBase:
    """Redirect to today in the operator's zone, or to the day that the form asks for."""
    refuse_unknown(request, {"day", "queue"})
    day = request.GET.get("day") or timezone.localdate().isoformat()
    try:
        date.fromisoformat(day)
    except ValueError:
        raise BadRequest(f"day: {day[:40]!r} is not a day, such as 2026-11-25.") from None
    name = request.GET.get("queue", "")
    return redirect(addresses.with_query(reverse("history", args=[day]), queue=name))


@require_safe
@viewer_required
def history(request: OperatorRequest, day: str) -> HttpResponseBase:
    """Show one day, of 23, 24 or 25 hours."""
    refuse_unknown(request, {"queue", "format", "list", COLUMNS})
    chosen = _day(day)
    name = request.GET.get("queue", ALL)
    every = list(models.Queue.objects.all())
    shown = [queue for queue in every if name in (ALL, queue.name)]
    if not shown and name != ALL:
        raise BadRequest(f"There is no queue named {name!r}.")
    begin, end = day_bounds(chosen)
    quarters = days.columns(shown, begin=begin, end=end)
    if form := request.GET.get("format"):
        content = exports.wanted_list(request, "minutes", "windows", "queues")
        if content == "queues":
            return _export_queues(form, chosen, days.sums_by_queue(shown, begin=begin, end=end))
        if content == "windows":
            planned = planning.of_windows(shown, begin=begin, end=end)
            return _export_windows(form, chosen, quarters, planned)
        return _export_minutes(form, chosen, quarters)
    busy = list(filter(_is_busy, quarters))
    only_queue = shown[0].name if len(shown) == 1 else ""
    chosen_columns = columns.choose(request, totals.DayOfWindowsTable)
    context = {
        "day": chosen,
        "previous": chosen - timedelta(days=1),
        "following": chosen + timedelta(days=1),
        "queues": every,
        "tabs": [queue for queue in every if len(every) <= TABS or queue.name == name],
        "are_many": len(shown) > TABS,
        "queue_name": name,
        "map": heatmap.draw(quarters, at=store.now()),
        "hours": len(quarters) / 4,
        "busy": busy,
        "windows_table": totals.DayOfWindowsTable(
            busy,
            queue=only_queue,
            planned=planning.of_windows(shown, begin=begin, end=end),
            exclude=chosen_columns.hidden,
        ),
        "columns": chosen_columns,
        "queues_table": totals.DayOfQueuesTable(
            # Active queues come first.
            sorted(days.sums_by_queue(shown, begin=begin, end=end), key=lambda row: not any(row[1].values())),
            begin=begin,
            end=end,
        ),
        "sent_url": addresses.drill_down_between(name, begin, end, "sent"),
        "failed_url": addresses.drill_down_between(name, begin, end, "failed"),
        "sent": sum(column.sent for column in quarters),
        "failed": sum(column.failed for column in quarters),
        # Older windows are deleted, so it is unknown what was planned then.
        "is_forgotten": end <= store.now() - timedelta(days=settings.RETENTION_DAYS),
        "kept_days": settings.RETENTION_DAYS,
        "heat_legend": heatmap.LEGEND,
        "only_queue": only_queue,
    }
    return render(request, "dashboard/history.html", context)


def _export_queues(form: str, day: date, sums: Sequence[tuple[str, dict[str, int]]]) -> HttpResponseBase:
    rows = ([name, *(counts[each] for each in QUEUE_COUNTS)] for name, counts in sums)
    return exports.named(form, f"day-{day}-queues", QUEUE_HEADS, rows)


def _is_busy(column: days.Column) -> bool:
    # A window counts even if all of its IDs have moved away.
    return bool(column.filled or column.moved)


def _export_windows(
    form: str, day: date, columns: Sequence[days.Column], planned: Mapping[datetime, planning.Planning]
) -> HttpResponseBase:
    """Return the rows of the windows with IDs in them, as on the page."""
    rows = (
        [
            iso(column.runs_at), *planned.get(column.runs_at, planning.Planning()).values,
            column.filled, column.sent, column.failed, column.peak,
        ]
        for column in filter(_is_busy, columns)
    )  # fmt: skip
    return exports.named(form, f"day-{day}-windows", WINDOW_HEADS, rows)


def _export_minutes(form: str, day: date, columns: Sequence[days.Column]) -> HttpResponseBase:
    """By minute, the empty ones too."""
    cells = (cell for column in columns for cell in column.cells)
    rows = ((iso(cell.minute), cell.capacity, cell.filled, cell.sent, cell.failed) for cell in cells)
    return exports.named(form, f"day-{day}", HEADS, rows)


def _day(text: str) -> date:
    try:
        chosen = date.fromisoformat(text)
    except ValueError:
        raise Http404("A day's address is like 2026-11-25.") from None
    if not EARLIEST <= chosen <= LATEST:
        raise Http404("That day is out of range.")
    return chosen
