"""An act on so many rows that a job goes on with it: how far it is, and a way to stop it."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from dashboard import addresses
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.inputs.parameters import refuse_unknown
from scheduling import store
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, BulkActKind

# By which htmx ends a poll.
END_OF_POLL = 286
# Title, what of the number is done, and what became of the rest of one that went to its end.
SAID = {
    BulkActKind.RETRY_FAILED: (
        "Trying again",
        "wait for a free place again",
        "had been tried again or cancelled by somebody else meanwhile",
    ),
    BulkActKind.SEND_AGAIN: (
        "Sending again",
        "wait for a free place again",
        "had been sent again or cancelled by somebody else meanwhile",
    ),
    BulkActKind.CANCEL_MATCHING: (
        "Cancelling",
        "tasks are cancelled",
        "were over or had been cancelled by somebody else meanwhile",
    ),
}


@require_safe
@viewer_required
def progress(request: OperatorRequest, run: str) -> HttpResponse:
    """How far it is."""
    refuse_unknown(request, ())
    return page(request, named(run))


def page(request: OperatorRequest, act: BulkAct, *, back: str = "", newer: int = 0) -> HttpResponse:
    """The page of an act, or for a poll the part that moves. newer: how many match by now that aren't meant."""
    title, done, rest = SAID[BulkActKind(act.kind)]
    context = {
        "run": act,
        "left": max(0, act.number - act.done_count),
        "title": title,
        "done": done,
        "rest": rest,
        "back": back or _back(act),
        "newer": newer,
    }
    if not request.htmx:
        return render(request, "dashboard/progress.html", context)
    # The last poll: nothing of it moves any more.
    status = END_OF_POLL if act.ended_at else 200
    return render(request, "dashboard/_progress.html", context, status=status)


def under_way(*kinds: BulkActKind, **asked: Any) -> list[BulkAct]:
    """The acts of these kinds that jobs go on with, as pages offer them."""
    wanted = {f"asked__{name}": value for name, value in asked.items()}
    return list(bulk_operations.unfinished().filter(kind__in=kinds, **wanted).order_by("pk"))


def named(run: str) -> BulkAct:
    """The act of that name. Raises Http404."""
    found = BulkAct.objects.filter(name=run, kind__in=SAID).first()
    if found is None:
        raise Http404("There is no such run: it is past its retention, or never was.")
    return found


def _back(act: BulkAct) -> str:
    if act.kind == BulkActKind.SEND_AGAIN:
        return addresses.task(act.asked["task"])
    return reverse("tasks" if act.kind == BulkActKind.CANCEL_MATCHING else "failures")


@require_POST
@operator_required
def stop(request: OperatorRequest, run: str) -> HttpResponse:
    """Let it end."""
    act = named(run)
    if bulk_operations.stop(act, by=request.actor, at=store.now()):
        messages.info(request, "It stops after the part that it is at. What is done already stays so.")
    else:
        messages.info(request, "It has ended already: nothing was stopped.")
    return redirect(_back(act))
