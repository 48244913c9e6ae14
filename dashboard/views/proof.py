"""The proof: what the last checks of the plan found, and a button that starts one."""

from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from dashboard import exports
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.inputs import parameters
from dashboard.inputs.parameters import refuse_unknown
from dashboard.presenters import proof as presenter
from dashboard.tables.plan_checks import (
    CheckedWindowsTable,
    ChecksTable,
    DifferenceTable,
    PartsTable,
    result,
    seconds_of,
)
from scheduling import models, store
from scheduling.proof import checks as plan_checks

CHECKS = 30
# The differences that a page shows; an export has all that are stored.
SHOWN = 100
HEADS = ("check", "of", "said", "found")


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def proof(request: OperatorRequest) -> HttpResponseBase:
    """Show the newest check, or the one that is asked for. A POST starts a check."""
    if request.method == "POST":
        return _begin(request)
    refuse_unknown(request, {"check", "format"})
    chosen = parameters.whole_number(request, "check", low=1)
    checks = list(plan_checks.stored().defer("found")[:CHECKS])
    shown = _shown(chosen or (checks[0].pk if checks else None))
    found = (shown.found or []) if shown else []
    if wanted := request.GET.get("format"):
        if shown is None:
            raise BadRequest("The plan has never been checked, so there is nothing to export.")
        return exports.named(wanted, f"check-{shown.pk}", HEADS, _rows(shown, found))
    queues = dict(models.Queue.objects.values_list("pk", "name"))
    parts = presenter.parts(shown) if shown else []
    has_ended = shown is not None and shown.ended_at is not None
    windows = presenter.windows(found, queues, at=shown.began_at) if shown and has_ended else []
    context = {
        "parts_table": PartsTable(parts) if parts else None,
        "windows": windows,
        "windows_table": CheckedWindowsTable(windows),
        "shown": shown,
        "is_newest": shown is not None and shown.pk == checks[0].pk,
        "seconds": seconds_of(shown) if shown else None,
        "result": result(shown) if shown else "",
        "limit": SHOWN,
        "found_table": DifferenceTable(found[:SHOWN], queues=queues),
        "checks": checks,
        "checks_table": ChecksTable(checks),
    }
    if not request.htmx:
        return render(request, "dashboard/proof.html", context)
    part = render(request, "dashboard/_check.html", context)
    if shown and shown.ended_at:
        # Its row in the table of all checks has to change, too.
        part["HX-Refresh"] = "true"
    return part


def _rows(shown: models.BulkAct, found: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for one in found:
        yield [one[name] for name in HEADS]
    if shown.found_count > len(found):
        yield [f"CUT: the first {len(found):,} of {shown.found_count:,}", "", None, None]


def _shown(pk: int | None) -> models.BulkAct | None:
    if pk is None:
        return None
    found: models.BulkAct | None = plan_checks.stored().filter(pk=pk).first()
    if found is None:
        raise Http404(f"There is no check {pk}: it is past its retention, or never existed.")
    return found


@operator_required
def _begin(request: OperatorRequest) -> HttpResponseBase:
    check = plan_checks.begin(by=request.actor, at=store.now())
    messages.info(request, "The plan is being checked. Findings appear here as they come.")
    return redirect(f"{request.path}?check={check.pk}")
