"""The calendar of a queue: its coming days at a glance, and when a list of some length would be done."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required
from dashboard.formatting import plural
from dashboard.inputs.filters import day_bounds
from dashboard.inputs.parameters import refuse_unknown, whole_number
from dashboard.tables import totals
from dashboard.views.preview import refused_words
from scheduling import models, store
from scheduling.core import clock
from scheduling.core.errors import BadFields, PlanRefused
from scheduling.placement import reservations
from scheduling.reports import coming_days

DAYS = 14
FIRST = "default"


@require_safe
@viewer_required
def calendar(request: OperatorRequest) -> HttpResponse:
    """Show the coming days of a queue in the operator's zone. ids: of a list that is imagined; nothing is stored."""
    refuse_unknown(request, {"queue", "ids"})
    queues = list(models.Queue.objects.order_by("name"))
    name = request.GET.get("queue", "")
    # Without a name: the first queue, which every installation begins with, or any.
    matches = [queue for queue in queues if queue.name == (name or FIRST)] or ([] if name else queues[:1])
    if name and not matches:
        raise BadRequest(f"There is no queue named {name[:60]!r}.")
    ids = whole_number(request, "ids", low=1)
    if ids is not None and ids > settings.INTAKE_MAX_IDS:
        raise BadRequest(f"ids: a list has at most {plural(settings.INTAKE_MAX_IDS, 'ID')}.")
    context: dict[str, Any] = {"queues": queues, "ids": ids, "max_ids": settings.INTAKE_MAX_IDS}
    if matches:
        context |= _of_queue(matches[0], ids, at=store.now())
    return render(request, "dashboard/calendar.html", context)


def _of_queue(queue: models.Queue, ids: int | None, *, at: datetime) -> dict[str, Any]:
    today = timezone.localdate(at)
    bounds = [day_bounds(today + timedelta(days=number)) for number in range(DAYS)]
    days = coming_days.coming_days(queue, bounds, at=at)
    return {
        "queue": queue,
        "days": days,
        "table": totals.ComingDaysTable(days, queue=queue.name),
        "imagined": _imagined(queue, ids, at=at) if ids else None,
    }


def _imagined(queue: models.Queue, ids: int, *, at: datetime) -> dict[str, Any]:
    """Where a list would go that is accepted now, or why it would not be."""
    try:
        plan = reservations.plan(queue, ids, at=at)
    except BadFields as error:
        return {"refusal": str(error)}
    preview: dict[str, Any] = {"plan": plan}
    if plan.last_at is not None:
        preview["ends_at"] = plan.last_at + clock.MINUTE
    try:
        reservations.check(queue, plan, at=at)
    except PlanRefused as error:
        preview["refusal"] = refused_words(error, queue)
    return preview
