"""The request log of a queue."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.parameters import refuse_unknown
from dashboard.tables import listings
from scheduling import models, store
from scheduling.reports import request_log

ROWS = 50


@require_safe
@viewer_required
def requests(request: OperatorRequest, name: str) -> HttpResponse:
    """Show the latest requests of a queue."""
    refuse_unknown(request, ())
    queue = get_object_or_404(models.Queue, name=name)
    rows = request_log.latest(queue, ROWS, at=store.now())
    table = listings.RequestTable(rows, queue=queue.name)
    return render(request, "dashboard/requests.html", {"queue": queue, "rows": rows, "table": table})
