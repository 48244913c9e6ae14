"""The proof: what the last checks of the plan found, and a button that starts one."""

from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from dashboard import exports
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.inputs import parameters
from dashboard.inputs.forms import ReceiptsForm
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
from scheduling.core.errors import BadFields, SigningKeyUnreadable
from scheduling.proof import checks as plan_checks
from scheduling.reports import receipt_files

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
    differences = (shown.found or []) if shown else []
    if export_format := request.GET.get("format"):
        if shown is None:
            raise BadRequest("The plan has never been checked, so there is nothing to export.")
        return exports.named(export_format, f"check-{shown.pk}", HEADS, _rows(shown, differences))
    context = _context(checks, shown, differences)
    if not request.htmx:
        return render(request, "dashboard/proof.html", context)
    part = render(request, "dashboard/_check.html", context)
    if shown and shown.ended_at:
        # Its row in the table of all checks has to change, too.
        part["HX-Refresh"] = "true"
    return part


def _context(
    checks: list[models.BulkAct], shown: models.BulkAct | None, differences: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the page shows. shown: one of the checks, or an older one. found: its differences."""
    queues = dict(models.Queue.objects.values_list("pk", "name"))
    parts = presenter.parts(shown) if shown else []
    has_ended = shown is not None and shown.ended_at is not None
    windows = presenter.windows(differences, queues, at=shown.began_at) if shown and has_ended else []
    return {
        "parts_table": PartsTable(parts) if parts else None,
        "windows": windows,
        "windows_table": CheckedWindowsTable(windows),
        "shown": shown,
        "is_newest": shown is not None and shown.pk == checks[0].pk,
        "seconds": seconds_of(shown) if shown else None,
        "result": result(shown) if shown else "",
        "limit": SHOWN,
        "difference_table": DifferenceTable(differences[:SHOWN], queues=queues),
        "checks": checks,
        "checks_table": ChecksTable(checks),
        "receipts_form": ReceiptsForm.of_yesterday(store.now()),
    }


def _rows(shown: models.BulkAct, differences: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for difference in differences:
        yield [difference[name] for name in HEADS]
    if shown.found_count > len(differences):
        yield [f"CUT: the first {len(differences):,} of {shown.found_count:,}", "", None, None]


def _shown(pk: int | None) -> models.BulkAct | None:
    if pk is None:
        return None
    act: models.BulkAct | None = plan_checks.stored().filter(pk=pk).first()
    if act is None:
        raise Http404(f"There is no check {pk}: it is past its retention, or never existed.")
    return act


@require_safe
@viewer_required
def receipts(request: OperatorRequest) -> HttpResponseBase:
    """Export the receipts of a queue, or of all, as a signed file."""
    refuse_unknown(request, {"queue", "since", "until"})
    form, at = ReceiptsForm(request.GET), store.now()
    try:
        if not form.is_valid():
            raise BadFields(**{name: str(errors[0]) for name, errors in form.errors.items()})
        since, until = form.cleaned_data["since"], form.cleaned_data["until"]
        receipt_files.check_range(since, until, at=at)
        lines = receipt_files.write(form.queues(), since, until, at=at)
    except BadFields as error:
        messages.error(request, "No file: " + " ".join(form.words(error.reasons)))
        return redirect("proof")
    except SigningKeyUnreadable as error:
        messages.error(request, str(error))
        return redirect("proof")
    return exports.attachment(lines, receipt_files.FILE_NAME, receipt_files.MEDIA_TYPE)


@operator_required
def _begin(request: OperatorRequest) -> HttpResponseBase:
    check = plan_checks.begin(by=request.actor, at=store.now())
    messages.info(request, "The plan is being checked. Findings appear here as they come.")
    return redirect(f"{request.path}?check={check.pk}")
