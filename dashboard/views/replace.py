"""Replacing the list of a task: the new list is read like an upload, compared with the old one, then
exchanged.
"""

from django.contrib import messages
from django.http import Http404, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from dashboard import addresses
from dashboard.access import OperatorRequest, operator_required
from dashboard.formatting import plural
from dashboard.inputs import uploads
from dashboard.inputs.forms import ConfirmForm
from dashboard.inputs.parameters import refuse_unknown
from dashboard.views import upload
from dashboard.views.preview import refused_words
from scheduling import models, store
from scheduling.core.errors import ErasedMeanwhile, PastPeak, Refused
from scheduling.intake import acceptance
from scheduling.lists import overlaps
from scheduling.lists.record_lists import StoredRecords, is_record_list
from scheduling.parsing import errors
from scheduling.tasks import edits


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def replace(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Show the form. A POST reads the list and leads to its preview."""
    task = get_object_or_404(models.Task, pk=task_id)
    uploads.read_options(request)
    if request.method != "POST":
        return render(request, "dashboard/task_replace.html", {"task": task, **upload.form_context(request)})
    try:
        reading = uploads.read(request, id_type=task.id_type)
    except errors.ReadingError as error:
        return upload.refused(request, error, "dashboard/task_replace.html", {"task": task})
    except uploads.CsrfFailed:
        return upload.not_ours(request, "dashboard/task_replace.html", {"task": task})
    with reading:
        try:
            draft = uploads.store_draft(
                reading, name=task.name, queue="", operator=request.user, at=store.now(), replaces=task.pk
            )
        except ErasedMeanwhile as error:
            return upload.not_stored(request, error, "dashboard/task_replace.html", {"task": task})
    address = reverse("replace_preview", args=[task.pk, draft.pk])
    return JsonResponse({"address": address}, status=201) if request.htmx else redirect(address)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def preview(request: OperatorRequest, task_id: int, draft_id: int) -> HttpResponseBase:
    """Show what would be kept, added and cancelled.

    A POST replaces the list; if it cancels many IDs, their number has to be typed.
    """
    task = get_object_or_404(models.Task.objects.select_related("queue"), pk=task_id)
    draft = models.IdList.objects.filter(pk=draft_id, accepted_at=None).first()
    if draft is None or draft.about.get("replaces") != task.pk:
        raise Http404("This preview no longer exists: it was placed, discarded, or deleted after a day.")
    refuse_unknown(request, set())
    refusal = None
    against = overlaps.compare_with_task(task, draft.pk)
    form = ConfirmForm(request.POST if request.method == "POST" else None, count=against.cancelled)
    if request.method == "POST" and form.is_valid():
        try:
            done = edits.replace(
                task,
                StoredRecords(draft) if is_record_list(draft) else overlaps.StoredSource(draft),
                payload=draft.about.get("payload"),
                column=(draft.about.get("column") or {}).get("name") or "",
                allow_peak=request.POST.get("allow_peak") == "on",
                by=request.actor,
                now=store.now,
            )
        except Refused as error:
            refusal = error
        else:
            acceptance.delete_draft(draft)
            messages.success(request, _result(done))
            return redirect(addresses.task(task.pk))
    context = {
        "task": task,
        "draft": draft,
        "about": draft.about,
        "against": against,
        "form": form,
        "refusal": refused_words(refusal, task.queue) if refusal else "",
        "may_insist": isinstance(refusal, PastPeak),
    }
    return render(request, "dashboard/replace_preview.html", context)


def _result(done: edits.Replaced) -> str:
    kept_words = f"{plural(done.kept, 'ID')} kept {'its place' if done.kept == 1 else 'their places'}"
    changed = f"{kept_words}, {done.added:,} added, {done.cancelled:,} cancelled"
    return f"{changed}; {done.already_sent:,} had been sent, {done.in_flight:,} were in flight."
