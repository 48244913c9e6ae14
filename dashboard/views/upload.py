"""Uploads: a list is read as it arrives and stored as a draft, which its preview shows."""

import os
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import JsonResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from dashboard.access import OperatorRequest, operator_required
from dashboard.inputs import uploads
from dashboard.inputs.forms import start_choices
from dashboard.tables import totals
from scheduling import models, store
from scheduling.core import clock
from scheduling.core.errors import ErasedMeanwhile
from scheduling.parsing import errors
from scheduling.placement.reservations import Start

# The families of errors, with the status that a script gets.
STATUSES = (
    (errors.NoSpace, 507),
    (errors.TooLarge, 413),
    (errors.NotAccepted, 415),
    (errors.LengthUnknown, 411),
)
PREVIEWS_SHOWN = 5
# An example for newcomers: three IDs that run at once.
EXAMPLE = {"task_name": "A first try", "payload": "1001, 1002, 1003", "start": Start.FIRST_FREE}
# More are read than shown, since some of them belong to replacements.
DRAFTS_READ = 50


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def upload(request: OperatorRequest) -> HttpResponseBase:
    """Show the form. A POST reads the list and leads to its preview."""
    is_example = uploads.read_options(request)["example"]
    if request.method != "POST":
        example = {"given": EXAMPLE} if is_example else {}
        return render(request, "dashboard/upload.html", {**form_context(request), **example})
    try:
        reading = uploads.read(request)
    except errors.ReadingError as error:
        return refused(request, error)
    except uploads.CsrfFailed:
        return not_ours(request)
    with reading:
        values = reading.fields.values
        name = uploads.without_controls(values.get("task_name") or "") or _name_of(reading.file_name)
        queue = values.get("queue") or "default"
        if not models.Queue.objects.filter(name=queue).exists():
            refusal = {"sentence": f"There is no queue named {queue[:50]}. The list was not stored."}
            values = {**values, "payload": reading.payload_as_sent or ""}
            return _show_refusal(request, refusal, 422, "dashboard/upload.html", {"given": values})
        start = values.get("start") or Start.NEXT_WINDOW
        if start not in list(Start):
            raise BadRequest(f"start: {start[:40]!r} is not one of {', '.join(Start)}.")
        try:
            draft = uploads.store_draft(
                reading, name=name[:200], queue=queue, start=start, operator=request.user, at=store.now()
            )
        except ErasedMeanwhile as error:
            return not_stored(request, error)
    address = reverse("preview", args=[draft.pk])
    if request.htmx:
        return JsonResponse({"address": address}, status=201)
    return redirect(address)


def form_context(request: OperatorRequest) -> dict[str, Any]:
    """Return what the form shows besides its fields."""
    drafts = models.IdList.objects.filter(accepted_at=None).order_by("-created_at")[:DRAFTS_READ]
    previews = [
        draft for draft in drafts if not draft.about.get("writing") and not draft.about.get("replaces")
    ]
    return {
        "queues": models.Queue.objects.all(),
        "chosen_queue": "default",
        "starts": start_choices(),
        "next_quarter_at": clock.quarter_start(store.now()) + clock.QUARTER,
        "max_bytes": settings.INTAKE_MAX_BODY_BYTES,
        "max_ids": settings.INTAKE_MAX_IDS,
        "previews": previews[:PREVIEWS_SHOWN],
        "previews_count": len(previews),
        "drafts_table": totals.DraftTable(previews[:PREVIEWS_SHOWN], csrf_token=get_token(request)),
    }


def _name_of(file_name: str | None) -> str:
    plain = uploads.without_controls(file_name or "")
    base = os.path.splitext(os.path.basename(plain.replace("\\", "/")))[0]
    return base or "pasted list"


def refused(
    request: OperatorRequest,
    error: errors.ReadingError,
    page: str = "dashboard/upload.html",
    context: dict[str, Any] | None = None,
) -> HttpResponseBase:
    """Say why a list could not be read: as JSON for a script, else on the page that it came from."""
    status = next((status for family, status in STATUSES if isinstance(error, family)), 422)
    refusal = {
        "sentence": _sentence(error),
        "choices": [choice._asdict() for choice in getattr(error, "choices", ())],
        # The choice to be made: a column or a sheet.
        "parameter": error.facts.get("parameter", ""),
        "faults": [fault.sentence for fault in getattr(error, "faults", ())],
    }
    return _show_refusal(request, refusal, status, page, {"given": error.fields_read, **(context or {})})


def _sentence(error: errors.ReadingError) -> str:
    """Return the reason in the words of the page: a form has no parameters, and shows the columns below."""
    if isinstance(error, errors.ColumnUnclear):
        return f"It is not clear which column contains the IDs: {error.facts['problem']}."
    if isinstance(error, errors.ColumnUnknown):
        return f"There is no column {error.facts['given']}."
    if isinstance(error, errors.SheetUnclear):
        return "It is not clear which sheet contains the list: several could."
    if isinstance(error, errors.SheetUnknown):
        return f"There is no sheet {error.facts['given']}."
    return str(error)


def not_ours(
    request: OperatorRequest, page: str = "dashboard/upload.html", context: dict[str, Any] | None = None
) -> HttpResponseBase:
    """Refuse a form whose token doesn't fit the session."""
    refusal = {"sentence": "The page is older than your sign-in, so the list was not stored. Send it again."}
    return _show_refusal(request, refusal, 403, page, context)


def not_stored(
    request: OperatorRequest,
    error: Exception,
    page: str = "dashboard/upload.html",
    context: dict[str, Any] | None = None,
) -> HttpResponseBase:
    """Say why a list that was read could not be stored."""
    return _show_refusal(request, {"sentence": str(error)}, 409, page, context)


def _show_refusal(
    request: OperatorRequest, refusal: dict[str, Any], status: int, page: str, context: dict[str, Any] | None
) -> HttpResponseBase:
    if request.htmx:
        return JsonResponse(refusal, status=status)
    context = {**form_context(request), **(context or {}), "refused": refusal}
    context["chosen_queue"] = context.get("given", {}).get("queue") or context["chosen_queue"]
    return render(request, page, context, status=status)
