"""One ID, found from any page, with its history."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from dashboard import exports, id_texts
from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.parameters import refuse_unknown, whole_number
from dashboard.presenters import id_story
from operators.roles import needed_for_data
from scheduling import models, store
from scheduling.core import exact_json, id_tokens
from scheduling.core.clock import iso
from scheduling.lists import external_ids, record_lists
from scheduling.reports import stories

TASKS_SHOWN = 100
HEADS = (
    "user_id", "task_id", "task_name", "queue", "status", "minute", "attempts", "late_seconds", "at", "event",
    "details",
)  # fmt: skip


@require_safe
@viewer_required
def find(request: OperatorRequest) -> HttpResponseBase:
    """The search box: an ID leads to its page. Digits are a number, unless only the text is known."""
    refuse_unknown(request, {"q"})
    text = request.GET.get("q", "").strip()
    if number := external_ids.number_of_written(text):
        return redirect("id", user_id=number)
    external_id = id_tokens.read_text(text)[0]
    if external_id is not None and models.ExternalId.objects.exists():
        messages.warning(request, f"The ID “{id_tokens.visible(external_id)}” was never received.")
    elif text:
        reason = id_tokens.read(text).reason or ""
        messages.warning(request, id_tokens.refusal(f"“{id_tokens.visible(text)}”", reason))
    return render(request, "dashboard/id.html", {"text": text})


@require_safe
@viewer_required
def story(request: OperatorRequest, user_id: int) -> HttpResponseBase:
    """Show the history of an ID: one task in full, the others as links; with `format`, all of them as a file."""
    refuse_unknown(request, {"task", "format"})
    if not user_id:
        # The search says why it is not an ID.
        return redirect(f"{reverse('find')}?q=0")
    if export_format := request.GET.get("format"):
        return exports.named(export_format, f"id-{_key(user_id)}", HEADS, _rows(user_id, at=store.now()))
    context: dict[str, Any] = {"text": id_texts.of(user_id), "user_id": user_id}
    if user_id <= models.MAX_ID:
        tasks = stories.tasks_with(user_id, count=TASKS_SHOWN + 1)
        task_id = whole_number(request, "task")
        # An older task than those shown is asked for by its number.
        before = None if task_id is None else min(task_id, models.MAX_ID - 1) + 1
        among = tasks if before is None else stories.tasks_with(user_id, before_task=before, count=1)
        chosen = next((task for task in among if task_id in (None, task.pk)), None)
        if task_id is not None and chosen is None:
            raise BadRequest(f"task: {task_id} does not contain the ID {user_id}.")
        id_stories = stories.stories_in(
            [chosen] if chosen else [], user_id, at=store.now(), format_time=id_story.time_text
        )
        context |= {
            "is_cut": len(tasks) > TASKS_SHOWN,
            "user_row": models.User.objects.filter(pk=user_id).first(),
            "tasks": tasks[:TASKS_SHOWN],
            "story": next(iter(id_stories), None),
            "data": _data(request, chosen, user_id),
        }
    return render(request, "dashboard/id.html", context)


def _key(user_id: int) -> str:
    """What names an ID in an address or a file: never a number that only stands for text."""
    return str(user_id) if user_id >= 0 else f"t{-user_id}"


def _data(request: OperatorRequest, task: models.Task | None, user_id: int) -> list[tuple[str, str]] | None:
    """The columns that travel with the ID, as names and values, for those who may see them."""
    if task is None or task.data_columns is None or not request.user.may(needed_for_data()):
        return None
    text = record_lists.of_task(task, [user_id]).get(user_id)
    return [
        (name, exact_json.as_text(value)) for name, value in (exact_json.read(text) if text else {}).items()
    ]


def _rows(user_id: int, *, at: datetime) -> Iterator[list[Any]]:
    """Yield the events of the ID, one for each row: the newest task first, in each the earliest event."""
    before, text = None, id_texts.of(user_id)
    while user_id <= models.MAX_ID:
        page = stories.stories(user_id, at=at, before_task=before, count=TASKS_SHOWN)
        for id_history in page:
            place = id_history.place
            beginning = [
                text, id_history.task.pk, id_history.task.name, id_history.task.queue.name, place.status.word,
                iso(place.minute_at), place.attempts, place.late_seconds,
            ]  # fmt: skip
            for event in id_history.history:
                details = {name: _plain(value) for name, value in event.details.items()}
                yield [*beginning, _plain(event.at), event.kind, details]
        if len(page) < TASKS_SHOWN:
            return
        before = page[-1].task.pk


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value
