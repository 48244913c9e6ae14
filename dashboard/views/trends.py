"""The trends of a queue: requests, failures and late IDs of the last days, and of the last hours."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.filters import day_bounds
from dashboard.inputs.parameters import refuse_unknown
from dashboard.tables.trends import TrendPanel
from scheduling import models, store
from scheduling.reports import trends as reports

DAYS, HOURS = 7, 24


@require_safe
@viewer_required
def trends(request: OperatorRequest, name: str) -> HttpResponse:
    """Show the last days of a queue, in the operator's zone, and its last hours."""
    refuse_unknown(request, ())
    queue = get_object_or_404(models.Queue, name=name)
    at = store.now()
    days = [day_bounds(timezone.localdate(at) - timedelta(days=number)) for number in reversed(range(DAYS))]
    windows = reports.of_windows(queue, begin=days[0][0], end=days[-1][1])
    panels = [
        TrendPanel(queue.name, "day", reports.by_span(windows, days)),
        TrendPanel(queue.name, "hour", reports.by_span(windows, _hours(at))),
    ]
    context = {
        "queue": queue,
        "panels": panels,
        "is_empty": not any(window.requests or window.late for window in windows),
        "is_cut": settings.RETENTION_DAYS < DAYS,
        "kept_days": settings.RETENTION_DAYS,
    }
    return render(request, "dashboard/trends.html", context)


def _hours(at: datetime) -> Sequence[tuple[datetime, datetime]]:
    """Return the hours by the operator's clock, of which the last one runs."""
    hour = timedelta(hours=1)
    current = timezone.localtime(at).replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    return [(current - number * hour, current - (number - 1) * hour) for number in reversed(range(HOURS))]
