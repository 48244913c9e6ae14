"""Several tasks that were ticked in the list: cancel, hold, continue, or retry what failed, after a confirmation."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from dashboard.access import OperatorRequest, operator_required
from dashboard.formatting import plural
from dashboard.inputs import parameters
from dashboard.inputs.filters import SIZES
from dashboard.inputs.forms import ConfirmForm, HoldForm
from dashboard.inputs.parameters import refuse_unknown
from dashboard.views.progress import waiting_again
from operators.actor import Actor
from scheduling import models, store
from scheduling.core.errors import Refused
from scheduling.tasks import bulk_cancel, holds, resend
from scheduling.tasks.failures import FailureSelection


@dataclass(frozen=True)
class Action:
    """What can be done to several tasks. count: how many IDs of a task it is about. words: of that many IDs."""

    label: str
    count: Callable[[models.Task], int]
    words: str


ACTIONS = {
    "cancel": Action("Cancel", attrgetter("waiting_count"), "waiting and will be cancelled"),
    "hold": Action(
        "Hold", attrgetter("waiting_count"), "waiting and will not be sent until somebody continues"
    ),
    "continue": Action("Continue", attrgetter("waiting_count"), "waiting and will be sent"),
    "retry": Action("Retry failed IDs of", attrgetter("failed_count"), "failed and will be sent again"),
}


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def selected(request: OperatorRequest) -> HttpResponseBase:
    """Say how many IDs it is about, then do it."""
    if request.method != "POST":
        refuse_unknown(request, ())
        return redirect("tasks")
    name = request.POST.get("act", "")
    if name not in ACTIONS:
        raise BadRequest(f"act: {name[:40]!r} is none of {', '.join(ACTIONS)}.")
    tasks = _tasks(request)
    if not tasks:
        messages.info(request, "Tick the tasks first.")
        return redirect("tasks")
    action = ACTIONS[name]
    count = sum(action.count(task) for task in tasks)
    form = ConfirmForm(request.POST if "sure" in request.POST else None, count=count)
    reason = HoldForm(request.POST)
    if form.is_valid() and reason.is_valid():
        return _act(request, name, tasks, reason.cleaned_data["reason"])
    context = {"action": action, "act": name, "tasks": tasks, "count": count, "form": form}
    return render(request, "dashboard/tasks_selected.html", context)


def _tasks(request: OperatorRequest) -> list[models.Task]:
    """Return the tasks that were ticked. Raises BadRequest."""
    ids = request.POST.getlist("id")
    if len(ids) > SIZES[-1] or not all(map(parameters.is_number, ids)):
        raise BadRequest(f"id: the numbers of at most {SIZES[-1]} tasks.")
    return list(
        models.Task.objects.filter(pk__in=ids).select_related("queue").defer("payload").order_by("pk")
    )


def _act(request: OperatorRequest, name: str, tasks: list[models.Task], reason: str) -> HttpResponseBase:
    if name == "cancel":
        return _cancel(request, tasks)
    operations: dict[str, Callable[[models.Task], str]] = {
        "hold": lambda task: _held(task, reason, request.actor),
        "continue": lambda task: _continued(task, request.actor),
        "retry": lambda task: _retried(task, request.actor),
    }
    done = []
    for task in tasks:
        try:
            if words := operations[name](task):
                done.append((task.name, words))
        except Refused as error:
            messages.info(request, f"“{task.name}”: {error}")
    if len({words for _, words in done}) == 1:
        messages.success(request, f"{plural(len(done), 'task')}: {done[0][1]}.")
    elif done:
        messages.success(request, "; ".join(f"“{task_name}”: {words}" for task_name, words in done) + ".")
    return redirect("tasks")


def _cancel(request: OperatorRequest, tasks: list[models.Task]) -> HttpResponseBase:
    run = secrets.token_hex(6)
    ids = tuple(task.pk for task in tasks)
    matching = bulk_cancel.Matching(at=store.now(), up_to_id=ids[-1], ids=ids)
    done, remaining = bulk_cancel.cancel(matching, run=run, by=request.actor, now=store.now)
    if remaining:
        return redirect("progress", run=run)
    messages.success(request, f"{plural(done, 'task')} cancelled.")
    return redirect("tasks")


def _held(task: models.Task, reason: str, by: Actor) -> str:
    holds.hold(task, reason, by=by, now=store.now)
    return "on hold"


def _continued(task: models.Task, by: Actor) -> str:
    holds.resume(task, by=by, now=store.now)
    return "continued"


def _retried(task: models.Task, by: Actor) -> str:
    """Retry the failed IDs of a task; a job does what takes longer."""
    selection = FailureSelection(task_id=task.pk, at=store.now())
    if not (number := selection.count() - len(resend.erased_failures(selection))):
        return ""
    retried = resend.retry(selection, number=number, run=secrets.token_hex(6), by=by, now=store.now)
    return f"{waiting_again(retried.ids_count)}{', and a job does the rest' if retried.continues else ''}"
