"""One ID: found from any page, and told as a story."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard import exports
from dashboard.access import OperatorRequest, viewer_required
from dashboard.paging import whole_number
from dashboard.queries import refuse_unknown
from scheduling import models, store
from scheduling.core import id_tokens
from scheduling.reports import id_history

TASKS_SHOWN = 100
HEADS = (
    "user_id", "task_id", "task_name", "queue", "status", "minute", "attempts", "late_seconds", "at", "event",
    "details",
)  # fmt: skip


@require_safe
@viewer_required
def find(request: OperatorRequest) -> HttpResponse:
    """The search box: an ID's digits lead to its page."""
    refuse_unknown(request, {"q"})
    text = request.GET.get("q", "").strip()
    found = id_tokens.read(text)
    if found.id is None:
        if text:
            messages.warning(request, f"“{id_tokens.visible(text)[:60]}” is no ID: {found.reason}.")
        return render(request, "dashboard/id.html", {"text": text})
    return redirect("id", user_id=found.id)


@require_safe
@viewer_required
def story(request: OperatorRequest, user_id: int) -> HttpResponse:
    """All that is known of an ID: in one task told whole, the others as links; in all of them with `format`."""
    refuse_unknown(request, {"task", "format"})
    if not user_id:
        # The search says why it is none.
        return redirect(f"{reverse('find')}?q=0")
    if wanted := request.GET.get("format"):
        return exports.named(wanted, f"id-{user_id}", HEADS, _rows(user_id, at=store.now()))
    context: dict = {"text": str(user_id), "user_id": user_id}
    if user_id <= models.MAX_ID:
        tasks = id_history.tasks_with(user_id, count=TASKS_SHOWN + 1)
        wanted = whole_number(request, "task")
        # One of an older task than are shown is asked for by its number.
        before = None if wanted is None else min(wanted, models.MAX_ID - 1) + 1
        among = tasks if before is None else id_history.tasks_with(user_id, before_task=before, count=1)
        chosen = next((task for task in among if wanted in (None, task.pk)), None)
        if wanted is not None and chosen is None:
            raise BadRequest(f"task: {wanted} is none that holds the ID {user_id}.")
        context |= {
            "is_cut": len(tasks) > TASKS_SHOWN,
            "user_row": models.User.objects.filter(pk=user_id).first(),
            "tasks": tasks[:TASKS_SHOWN],
            "story": id_history.story_in(chosen, user_id, at=store.now(), said=_said) if chosen else None,
        }
    return render(request, "dashboard/id.html", context)


def _rows(user_id: int, *, at: datetime) -> Iterator[list[Any]]:
    """What happened to the ID, an event a row: the newest task first, in each the earliest event."""
    before = None
    while user_id <= models.MAX_ID:
        stories = id_history.story(user_id, at=at, before_task=before, count=TASKS_SHOWN)
        for told in stories:
            place = told.place
            beginning = [
                str(user_id), told.task.pk, told.task.name, told.task.queue.name, place.status.word,
                place.minute_at.isoformat(), place.attempts, place.late_seconds,
            ]  # fmt: skip
            for event in told.history:
                details = {name: _plain(value) for name, value in event.details.items()}
                yield [*beginning, _plain(event.at), event.kind, details]
        if len(stories) < TASKS_SHOWN:
            return
        before = stories[-1].task.pk


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def sentence(event: id_history.Event) -> str:
    """What happened, as somebody would tell it; the time stands before it."""
    said = event.details
    if event.kind == "placed":
        why = f": {said['rule']}" if said["rule"] else ""
        return f"got a place in the minute {_minute(said['minute'])}{why}."
    if event.kind == "moved":
        came_from, goes_to = _minute(said["from_minute"]), _minute(said["to_minute"])
        return f"moved from {came_from} to {goes_to}, since {said['reason']}."
    took = f" after {said['duration_ms']:,} ms" if said["duration_ms"] is not None else ""
    if said.get("succeeded"):
        return f"request {said['number']} was made, and succeeded."
    if said["unknown"]:
        return f"request {said['number']} was started; its process died before the answer was kept."
    if said["http_status"]:
        answered = f"answered {said['http_status']}"
        # A redirect says where to; that of another status says nothing more.
        more = said["error"] if said["error"] not in ("", None, answered) else said["answer"]
        return f"request {said['number']} was {answered}{took}. {more}".strip()
    return f"request {said['number']} failed{took}: {said['error'] or said['answer'] or 'no answer'}."


def _minute(at: datetime) -> str:
    return _said(at, "%H:%M")


def _said(at: datetime, form: str) -> str:
    """In the operator's zone, which the page names."""
    local = timezone.localtime(at)
    return f"{local:{form}}" if local.date() == timezone.localdate() else f"{local:%-d %b} {local:{form}}"
