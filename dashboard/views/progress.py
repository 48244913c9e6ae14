"""The progress of an operation that a job continues because it has many rows, and a way to stop it."""

from typing import Any

from django.contrib import messages
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from dashboard import addresses
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.formatting import plural
from dashboard.inputs.parameters import refuse_unknown
from scheduling import store
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, BulkActKind

# The status with which htmx ends a poll.
END_OF_POLL = 286
# The title, what has been done to the counted rows, and what happened to the others once it has ended.
WORDS = {
    BulkActKind.RETRY_FAILED: (
        "Retrying",
        "are waiting to be retried",
        "were retried or cancelled by somebody else in the meantime",
    ),
    BulkActKind.SEND_AGAIN: (
        "Resending",
        "are waiting for a free place",
        "were resent or cancelled by somebody else in the meantime",
    ),
    BulkActKind.CANCEL_MATCHING: (
        "Cancelling",
        "tasks have been cancelled",
        "had ended or were cancelled by somebody else in the meantime",
    ),
}


def waiting_again(count: int) -> str:
    """Return "23 IDs are waiting to be retried"."""
    return f"{plural(count, 'ID')} {'is' if count == 1 else 'are'} waiting to be retried"


@require_safe
@viewer_required
def progress(request: OperatorRequest, run: str) -> HttpResponseBase:
    """Show the progress of an operation."""
    refuse_unknown(request, ())
    return page(request, named(run))


def page(request: OperatorRequest, act: BulkAct, *, back: str = "", newer: int = 0) -> HttpResponseBase:
    """Show the page of an operation, or for a poll the part that updates. newer: failures since it began."""
    title, done, rest = WORDS[BulkActKind(act.kind)]
    context = {
        "run": act,
        "left": max(0, act.number - act.done_count),
        "title": title,
        "done": done,
        "rest": rest,
        "back": back or _back(act),
        "newer": newer,
        "why_no_stop": "It has ended." if act.ended_at else "",
    }
    if not request.htmx:
        return render(request, "dashboard/progress.html", context)
    # This is the last poll: nothing changes any more.
    status = END_OF_POLL if act.ended_at else 200
    return render(request, "dashboard/_progress.html", context, status=status)


def under_way(*kinds: BulkActKind, **request: Any) -> list[BulkAct]:
    """Return the operations of these kinds that jobs are continuing, for links on other pages."""
    conditions = {f"asked__{name}": value for name, value in request.items()}
    return list(bulk_operations.unfinished().filter(kind__in=kinds, **conditions).order_by("pk"))


def named(run: str) -> BulkAct:
    """Return the operation of that name. Raises Http404."""
    act = BulkAct.objects.filter(name=run, kind__in=WORDS).first()
    if act is None:
        raise Http404("There is no such operation: it is past its retention, or never existed.")
    return act


def _back(act: BulkAct) -> str:
    if act.kind == BulkActKind.SEND_AGAIN:
        return addresses.task(act.asked["task"])
    return reverse("tasks" if act.kind == BulkActKind.CANCEL_MATCHING else "failures")


@require_POST
@operator_required
def stop(request: OperatorRequest, run: str) -> HttpResponseBase:
    """Stop an operation."""
    act = named(run)
    if bulk_operations.stop(act, by=request.actor, at=store.now()):
        messages.info(request, "It stops after the current part. What has been done stays done.")
    else:
        messages.info(request, "It had already ended: nothing was stopped.")
    return redirect(_back(act))
