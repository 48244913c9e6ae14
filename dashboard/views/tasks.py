"""Tasks: the list, the page of one with its IDs, and the operations on it."""

import secrets
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard import addresses, exports, formatting
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.formatting import plural
from dashboard.inputs import columns, paging, parameters
from dashboard.inputs.filters import SIZES, PlaceFilter, TaskFilter, page_size
from dashboard.inputs.forms import ConfirmForm, HoldForm, RenameForm
from dashboard.inputs.parameters import refuse_unknown
from dashboard.inputs.saved import opens_saved_views
from dashboard.presenters import task_detail
from dashboard.tables import listings
from dashboard.views import progress
from dashboard.views.progress import waiting_again
from operators.roles import Permission, needed_for_data
from scheduling import models, store
from scheduling.core import limits
from scheduling.core.errors import Refused
from scheduling.reports import planning
from scheduling.store.blocks import in_blocks
from scheduling.tasks import bulk_cancel, cancellation, edits, holds, resend

HEADS = (
    "id", "task_name", "state", "queue", "ids", "repeats", *(status.word for status in models.Status),
    "first_at", "last_at", "created_at", "created_by",
)  # fmt: skip
SEVERAL = ("queue", "state", "q")
ENTRIES_SHOWN = 50


@require_safe
@viewer_required
@opens_saved_views
def tasks(request: OperatorRequest) -> HttpResponseBase:
    """Show the list, or export everything that matches."""
    at = store.now()
    chosen = TaskFilter.of(request)
    tasks = chosen.tasks(at=at)
    if export_format := request.GET.get("format"):
        return exports.named(
            export_format, "tasks", HEADS, (task_detail.row(task, at) for task in in_blocks(tasks))
        )
    size, newest = page_size(request), _newest()
    page = (
        paging.by_value(request, tasks, size, chosen.order)
        if chosen.order
        else paging.by_id(request, tasks, size)
    )
    lines = [task_detail.Line(task, at) for task in page.rows]
    shown = columns.choose(request, listings.TaskTable)
    context = {
        "tasks": lines,
        "columns": shown,
        "table": listings.TaskTable(lines, exclude=shown.hidden, selectable=request.user.may(Permission.ACT)),
        "page": page,
        "filter": chosen,
        "size": size,
        "count": tasks.count(),
        "sizes": SIZES,
        "newer_url": addresses.with_query(reverse("tasks_newer"), **chosen.parameters, than=newest),
        "cancel_all": _cancel_all_address(chosen, at, newest),
        "under_way": progress.under_way(models.BulkActKind.CANCEL_MATCHING),
        "can_cancel_all": not set(chosen.parameters) - {*SEVERAL, "sort"},
    }
    return render(request, "dashboard/tasks.html", context)


@require_safe
@viewer_required
def newer(request: OperatorRequest) -> HttpResponseBase:
    """Say how many matching tasks came in since the list was drawn.

    They are offered, so that no row moves by itself.
    """
    chosen = TaskFilter(request.GET)
    refuse_unknown(request, {*chosen.fields, *chosen.beside, "than"})
    chosen.refuse_faults()
    than = parameters.whole_number(request, "than") or 0
    count = chosen.tasks(at=store.now()).filter(pk__gt=than).count()
    if not count:
        return HttpResponse(status=204)
    back = addresses.with_query(reverse("tasks"), **chosen.parameters)
    return render(request, "dashboard/_newer.html", {"count": count, "back": back})


def _cancel_all_address(chosen: TaskFilter, at: datetime, newest: int) -> str:
    """Return an address with the filter, the moment of the page, and its newest task, so that later tasks are
    not included.
    """
    filters = {name: value for name, value in chosen.parameters.items() if name in SEVERAL}
    return addresses.with_query(reverse("tasks_cancel"), **filters, at=at.isoformat(), up_to=newest)


def _newest() -> int:
    return models.Task.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


@require_safe
@viewer_required
def task(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Show a task; with `format`, export its IDs."""
    at = store.now()
    chosen = PlaceFilter.of(request)
    if request.htmx:
        return _live_part(request, task_id, at)
    task = get_object_or_404(models.Task.objects.select_related("queue", "list"), pk=task_id)
    if export_format := request.GET.get("format"):
        sees_data = request.user.may(needed_for_data())
        data_columns = (task.data_columns or []) if sees_data else []
        heads = [*task_detail.PLACE_HEADS, *(f"data.{name}" for name in data_columns)]
        places = task_detail.all_places(task, chosen, at=at)
        rows = task_detail.exported_places(task, places, data_columns, as_text=export_format == "csv")
        return exports.named(export_format, f"task-{task.pk}", heads, rows)
    shown = columns.choose(request, listings.PlaceTable)
    page = task_detail.places(task, chosen, after=parameters.whole_number(request, "after") or 0, at=at)
    context = _drawing(task, at) | {
        "version": task_detail.version(task.pk, at),
        "places": page,
        "columns": shown,
        "table": listings.PlaceTable(page.rows, queue=task.queue.name, exclude=shown.hidden),
        "filter": chosen,
        "history": models.Activity.objects.filter(object_kind="task", object_id=task.pk)[: ENTRIES_SHOWN + 1],
        "entries_shown": ENTRIES_SHOWN,
        "under_way": progress.under_way(models.BulkActKind.SEND_AGAIN, task=task.pk),
        "rename": RenameForm(initial={"name": task.name, "version": task.version}),
    }
    return _varied(render(request, "dashboard/task.html", context))


def _drawing(task: models.Task, at: datetime) -> dict[str, Any]:
    line = task_detail.Line(task, at)
    actions = task_detail.actions(line)
    return {
        "line": line,
        "task": task,
        "actions": actions,
        # The reason on a disabled button shows only on hover, so the reasons are listed, too.
        "reasons": [(action.label.rstrip("…"), action.why_not) for action in actions if action.why_not],
        "chart": task_detail.chart(task, at=at),
        "planning": planning.of_task(task),
    }


def _live_part(request: OperatorRequest, task_id: int, at: datetime) -> HttpResponseBase:
    """Return the part of a task's page that updates.

    An empty 204 if the poll already has it, and a last 286, with which htmx ends the poll, once nothing will
    change any more.
    """
    version = task_detail.version(task_id, at)
    if request.GET.get("version") == version:
        return _varied(HttpResponse(status=204))
    task = get_object_or_404(models.Task.objects.select_related("queue"), pk=task_id)
    context = _drawing(task, at) | {"version": version}
    status = progress.END_OF_POLL if context["line"].has_ended else 200
    return _varied(render(request, "dashboard/_task.html", context, status=status))


def _varied(response: HttpResponseBase) -> HttpResponseBase:
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def rename(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Rename the task."""
    refuse_unknown(request, ())
    task = get_object_or_404(models.Task, pk=task_id)
    if request.method == "POST":
        form = RenameForm(request.POST)
        try:
            if form.is_valid():
                fields = form.cleaned_data
                edits.rename(
                    task, fields["name"], by=request.actor, at=store.now(), if_version=fields["version"]
                )
                messages.success(request, f"The task is now called “{fields['name']}”.")
            else:
                messages.error(
                    request, " ".join(str(message) for errors in form.errors.values() for message in errors)
                )
        except Refused as error:
            messages.error(request, str(error))
    return redirect(addresses.task(task.pk))


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def cancel(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Ask with the number, then cancel the IDs that have not been sent."""
    refuse_unknown(request, ())
    task = get_object_or_404(models.Task.objects.select_related("queue"), pk=task_id)
    form = ConfirmForm(request.POST if request.method == "POST" else None, count=task.waiting_count)
    if request.method == "POST" and task.cancelled_at is not None:
        # Another operator was faster, or the page was outdated.
        messages.info(request, "The task had already been cancelled; nothing was changed.")
        return redirect(addresses.task(task.pk))
    if request.method == "POST" and form.is_valid():
        answer = cancellation.cancel(task, by=request.actor, now=store.now)
        messages.success(
            request,
            f"{plural(answer['cancelled'], 'ID')} cancelled, and their places are free;"
            f" {answer['already_sent']:,} had been sent, {answer['in_flight']:,} were in flight.",
        )
        return redirect(addresses.task(task.pk))
    context = {"line": task_detail.Line(task, store.now()), "task": task, "form": form}
    return render(request, "dashboard/task_cancel.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def hold(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Ask; then put the task on hold. Of one that is on hold, what continuing or cancelling it would do."""
    refuse_unknown(request, ())
    task = get_object_or_404(models.Task.objects.select_related("queue"), pk=task_id)
    if request.method == "POST":
        form = HoldForm(request.POST)
        if not form.is_valid():
            raise BadRequest(f"A reason has at most {limits.REASON_CHARACTERS} characters.")
        try:
            holds.hold(task, form.cleaned_data["reason"], by=request.actor, now=store.now)
            messages.success(request, "The task is on hold. No more of its requests start.")
        except Refused as error:
            messages.info(request, str(error))
        return redirect(parameters.board_address(request) or addresses.task(task.pk))
    at = store.now()
    line = task_detail.Line(task, at)
    effect = holds.effect_of_resume(task, at=at) if line.is_on_hold else None
    context = {"line": line, "task": task, "effect": effect, "form": HoldForm()}
    return render(request, "dashboard/task_hold.html", context)


@require_POST
@operator_required
def resume(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Continue a task that is on hold."""
    refuse_unknown(request, ())
    task = get_object_or_404(models.Task, pk=task_id)
    try:
        holds.resume(task, by=request.actor, now=store.now)
        messages.success(request, "The task continues. Its late IDs take free places, at the planned pace.")
    except Refused as error:
        messages.info(request, str(error))
    return redirect(addresses.task(task.pk))


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def send_again(request: OperatorRequest, task_id: int) -> HttpResponseBase:
    """Ask with the number, then resend the IDs that succeeded."""
    refuse_unknown(request, ())
    task = get_object_or_404(models.Task.objects.select_related("queue"), pk=task_id)
    posted = request.method == "POST"
    at = parameters.read_moment(request.POST.get("at", "")) if posted else store.now()
    number = resend.count_to_resend(task, at=at)
    form = ConfirmForm(request.POST if posted else None, count=number)
    if posted and form.is_valid():
        run = secrets.token_hex(6)
        try:
            sent = resend.resend(task, looked_at=at, number=number, run=run, by=request.actor, now=store.now)
        except Refused as error:
            messages.error(request, str(error))
        else:
            if sent.continues:
                return redirect("progress", run=run)
            messages.success(request, f"{waiting_again(sent.ids_count)}.")
        return redirect(addresses.task(task.pk))
    context = {"task": task, "form": form, "number": number, "at": at}
    return render(request, "dashboard/task_send_again.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def cancel_matching(request: OperatorRequest) -> HttpResponseBase:
    """Ask with the number, then cancel all tasks that matched when the list was opened."""
    matching = _matching(request)
    count = bulk_cancel.count(matching)
    form = ConfirmForm(
        request.POST if request.method == "POST" else None,
        count=count.ids,
        always=matching.queue_id is None and not matching.name,
    )
    if request.method == "POST" and form.is_valid():
        run = secrets.token_hex(6)
        done, remaining = bulk_cancel.cancel(matching, run=run, by=request.actor, now=store.now)
        if remaining:
            return redirect("progress", run=run)
        messages.success(request, f"{plural(done, 'task')} cancelled.")
        return redirect("tasks")
    filters = matching.words()
    words = ", ".join(f"{formatting.as_words(name)}: {value}" for name, value in filters.items())
    context = {"count": count, "form": form, "asked": filters, "asked_words": words}
    return render(request, "dashboard/tasks_cancel.html", context)


def _matching(request: OperatorRequest) -> bulk_cancel.Matching:
    """Return what the list showed: its filter, its moment and its newest task, all from the address."""
    chosen = TaskFilter(request.GET)
    names = {*SEVERAL, "at", "up_to"}
    refuse_unknown(request, names)
    chosen.refuse_faults()
    up_to = parameters.whole_number(request, "up_to")
    if up_to is None:
        raise BadRequest("up_to is missing: the newest task when you looked.")
    filters = chosen.cleaned_data
    at = parameters.read_moment(request.GET.get("at", ""))
    queue = filters["queue"]
    return bulk_cancel.Matching(
        at=at, up_to_id=up_to, queue_id=queue.pk if queue else None, state=filters["state"], name=filters["q"]
    )
