"""Queues: their state, and the operations on them."""

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard import addresses, exports, formatting
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.drawing import charts
from dashboard.formatting import plural
from dashboard.inputs import columns, new_queue, paging, parameters
from dashboard.inputs.forms import HoldForm, PaceForm
from dashboard.inputs.parameters import COLUMNS, refuse_unknown, whole_number
from dashboard.inputs.queue_settings import QueueForm
from dashboard.tables import listings
from operators.roles import needed_for_data
from scheduling import models, store
from scheduling.core import clock, exact_json
from scheduling.core.clock import iso
from scheduling.core.errors import BadFields, NoFreeSlot, Refused
from scheduling.core.retry import Verdict
from scheduling.dispatch import breakers, test_request
from scheduling.handlers import shown_request
from scheduling.queues import effects, operations, slowing
from scheduling.reports import cards

ALL = "*"
# The queues of a page; the export has all.
ROWS = 50
ENTRIES_SHOWN = 20
# The length of the pause whose effect is shown.
PAUSE_MINUTES = 15
# The tasks that the panel beside the board offers to put on hold.
HELD_SHOWN = 5
HEADS = ("name", "rpm", "overflow", "handler", "paused_at", "brake_per_minute", "filling", "peak")


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def all_queues(request: OperatorRequest) -> HttpResponseBase:
    """Show the list and a form, begun by `recipe`. A POST creates a queue."""
    refuse_unknown(request, {"before", "format", "recipe", COLUMNS})
    recipe = new_queue.recipe(request.GET.get("recipe") or "record")
    if request.method == "POST":
        return _create(request, recipe)
    if export_format := request.GET.get("format"):
        return exports.named(
            export_format, "queues", HEADS, map(_row, _cards(list(models.Queue.objects.all())))
        )
    return render(request, "dashboard/queues.html", _list(request, new_queue.NewQueueForm(recipe)))


def _list(request: OperatorRequest, form: new_queue.NewQueueForm) -> dict[str, Any]:
    every = models.Queue.objects.order_by("name", "-pk")
    page = paging.by_value(request, every, ROWS, "name")
    shown = columns.choose(request, listings.QueueTable)
    count, paused = every.count(), every.exclude(paused_at=None).count()
    return {
        "page": page,
        "columns": shown,
        "table": listings.QueueTable(_cards(page.rows), exclude=shown.hidden),
        "form": form,
        "beginnings": new_queue.GROUPS,
        "count": count,
        "paused": paused,
        "why_no_pause": "" if count > paused else "All are paused.",
        "why_no_resume": "" if paused else "None is paused.",
    }


def _row(row: tuple[models.Queue, cards.Card]) -> list[Any]:
    queue, card = row
    return [
        queue.name, queue.rpm, queue.overflow, queue.handler, iso(queue.paused_at),
        queue.brake_per_minute, card.filled, card.peak.filled,
    ]  # fmt: skip


def _cards(queues: list[models.Queue]) -> list[tuple[models.Queue, cards.Card]]:
    filling = cards.filling_cards(queues, at=store.now())
    return [(queue, filling[queue.pk]) for queue in queues]


@operator_required
def _create(request: OperatorRequest, recipe: new_queue.Recipe) -> HttpResponseBase:
    form = new_queue.NewQueueForm(recipe, request.POST)
    if form.is_valid():
        try:
            queue = operations.create(
                name=form.cleaned_data["name"], fields=form.queue_fields, by=request.actor, at=store.now()
            )
        except BadFields as error:
            form.take(error.reasons)
        except Refused as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Queue {queue.name} created, with {queue.rpm:,} requests per minute.")
            return redirect("queue", name=queue.name)
    return render(request, "dashboard/queues.html", _list(request, form), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def queue(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Show a queue. `rpm` shows what another rpm would do; a POST changes it, or the settings."""
    queue = get_object_or_404(models.Queue, name=name)
    if request.method == "POST":
        return _set_pace(request, queue) if "rpm" in request.POST else _change(request, queue)
    refuse_unknown(request, {"rpm"})
    return render(request, "dashboard/queue.html", _page(request, queue, QueueForm(queue)))


def _page(request: OperatorRequest, queue: models.Queue, form: QueueForm) -> dict[str, Any]:
    at = store.now()
    rpm = whole_number(request, "rpm", low=1) if request.method != "POST" else None
    if rpm is not None and rpm > models.MAX_RPM:
        raise BadRequest(f"rpm: at most {models.MAX_RPM:,}.")
    card = cards.filling_cards([queue], at=at)[queue.pk]
    return {
        "queue": queue,
        "card": card,
        "chart": charts.chart(card.minutes),
        "form": form,
        "effect": effects.of_rpm(queue, rpm, at=at) if rpm and rpm != queue.rpm else None,
        "rpm": rpm or queue.rpm,
        "pace": PaceForm(initial={"rpm": rpm, "version": queue.version}),
        "history": models.Activity.objects.filter(object_kind="queue", object_id=queue.pk)[
            : ENTRIES_SHOWN + 1
        ],
        "entries_shown": ENTRIES_SHOWN,
        "target": breakers.of_queue(queue, at=at),
        "is_blocked": queue.is_blocked(at),
        "brake_from": clock.next_unsealed_minute(at),
    }


@operator_required
def _set_pace(request: OperatorRequest, queue: models.Queue) -> HttpResponseBase:
    form = PaceForm(request.POST)
    if not form.is_valid():
        raise BadRequest(
            " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
        )
    rpm, version = form.cleaned_data["rpm"], form.cleaned_data["version"]
    try:
        operations.update(queue, {"rpm": rpm}, by=request.actor, now=store.now, if_version=version)
    except Refused as error:
        messages.error(request, str(error))
        return redirect(addresses.with_query(addresses.queue(queue.name), rpm=rpm))
    messages.success(request, f"From {_next_quarter()}, {queue.name} sends {rpm:,} requests a minute.")
    return redirect(addresses.queue(queue.name))


def _next_quarter() -> str:
    """Return when the open window begins to run, in the operator's zone."""
    return formatting.minute_text(clock.runs_at(clock.open_window_start(store.now())))


def _unseen(queue: models.Queue, form: QueueForm) -> dict[str, Any]:
    """What the page hasn't said yet: what these changes would move, or do to the next list. Raises BadFields."""
    names = form.changes.keys()
    moving = {"hours", "ramp", "quotas"} & names
    if form.cleaned_data.get("moves") is not None or not (moving or "max_share_percent" in names):
        return {}
    effect = operations.effect_of(queue, form.changes, at=store.now())
    if moving and effect.moved_count:
        return {"settings_effect": effect}
    return {"imagined": effect.share} if effect.share else {}


def _saved_words(changes: Mapping[str, Any]) -> str:
    """Return what was saved, and from when on it applies where that is not at once."""
    if not changes:
        return "Nothing was changed."
    if not {"hours", "ramp"} & changes.keys():
        return "Saved."
    applies_at = clock.runs_at(clock.open_window_start(store.now())) + clock.QUARTER
    return (
        f"Saved. Hours and ramp apply from {formatting.minute_text(applies_at)}; until then nothing changes."
    )


@operator_required
def _change(request: OperatorRequest, queue: models.Queue) -> HttpResponseBase:
    form = QueueForm(queue, request.POST)
    if form.is_valid():
        try:
            if unseen := _unseen(queue, form):
                return render(request, "dashboard/queue.html", _page(request, queue, form) | unseen)
            saved = operations.update(
                queue, form.changes, by=request.actor, now=store.now, if_version=form.cleaned_data["version"]
            )
        except BadFields as error:
            form.take(error.reasons)
        except Refused as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _saved_words(form.changes))
            if saved.note and {"quotas", "overflow"} & form.changes.keys():
                messages.warning(request, saved.note)
            return redirect(addresses.queue(queue.name))
    queue.refresh_from_db()
    return render(request, "dashboard/queue.html", _page(request, queue, form), status=422)


@require_safe
@viewer_required
def slow_down(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Show what a brake and a pause would do: as a panel of the board, or as a page."""
    queue = get_object_or_404(models.Queue, name=name)
    refuse_unknown(request, {"per_minute", "part"})
    at = store.now()
    per_minute = whole_number(request, "per_minute")
    if per_minute is None:
        current = queue.brake_per_minute
        per_minute = current if current is not None else max(1, queue.rpm // 2)
    if per_minute > models.MAX_RPM:
        raise BadRequest(f"per_minute: at most {models.MAX_RPM:,}.")
    context = {
        "queue": queue,
        "per_minute": per_minute,
        "brake": slowing.effect_of_brake(queue, per_minute, at=at),
        "pause": slowing.effect_of_pause(queue, PAUSE_MINUTES, at=at),
        "pause_minutes": PAUSE_MINUTES,
        "tasks": _that_can_be_held(queue),
        "why_no_pause": "It is already paused." if queue.paused else "",
    }
    if not request.htmx:
        return render(request, "dashboard/queue_slow_down.html", context)
    part = "_brake_effect" if request.GET.get("part") == "brake" else "_slow_down"
    return render(request, f"dashboard/{part}.html", context)


def _that_can_be_held(queue: models.Queue) -> list[models.Task]:
    """Return the tasks of a queue that are done first, of those that may be put on hold."""
    running = models.Task.objects.filter(queue=queue, finished_at=None, cancelled_at=None, held_at=None)
    return list(running.defer("payload").order_by("last_minute_at", "pk")[:HELD_SHOWN])


@require_POST
@operator_required
def act(request: OperatorRequest, name: str, verb: str) -> HttpResponseBase:
    """Pause, resume or brake a queue."""
    queue = get_object_or_404(models.Queue, name=name)
    try:
        if verb == "pause":
            operations.pause(queue, _reason(request), by=request.actor, at=store.now())
            messages.success(request, f"{name} is paused. Lists are accepted, nothing is sent.")
        elif verb == "resume":
            operations.resume(queue, by=request.actor, at=store.now())
            messages.success(
                request, f"{name} has resumed. IDs that became due in the meantime take the next free places."
            )
        else:
            _brake(request, queue)
    except BadFields as error:
        messages.error(request, str(error))
    except Refused as error:
        messages.info(request, str(error))
    return _back(request, queue)


def _back(request: OperatorRequest, queue: models.Queue) -> HttpResponseBase:
    """Redirect to the board that the button stood on, or to the queue's page."""
    return redirect(parameters.board_address(request) or addresses.queue(queue.name))


def _reason(request: OperatorRequest) -> str:
    """Return the reason that was given, if any. Raises BadFields."""
    form = HoldForm(request.POST)
    if not form.is_valid():
        raise BadFields(reason=str(form.errors["reason"][0]))
    reason: str = form.cleaned_data["reason"]
    return reason


def _brake(request: OperatorRequest, queue: models.Queue) -> None:
    text = request.POST.get("per_minute", "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 9):
        raise BadFields(per_minute="It must be a whole number, or empty to release the brake.")
    per_minute = int(text) if text else None
    operations.brake(queue, per_minute, _reason(request), by=request.actor, at=store.now())
    if per_minute is None:
        messages.success(request, "The brake has been released.")
    else:
        messages.success(
            request, f"From the next minute, {queue.name} sends at most {per_minute:,} a minute."
        )


@require_POST
@operator_required
def test(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Send one test request in a free slot, and show its response."""
    queue = get_object_or_404(models.Queue, name=name)
    try:
        data = _typed_data(request.POST.get("data", ""))
        id_type = "text" if request.POST.get("id_type") == "text" else None
        example = test_request.ExampleId.of(queue, request.POST.get("user_id", "1"), data, id_type=id_type)
        sent = test_request.send_one(queue, by=request.actor, now=store.now, example=example)
    except NoFreeSlot as error:
        free_at = formatting.minute_text(error.next_at)
        messages.error(request, f"No slot is free within a minute. The next minute with room is {free_at}.")
    except Refused as error:
        messages.error(request, str(error))
    else:
        outcome = sent.outcome
        # The error of a redirect names its address.
        result = outcome.error or (f"answered {outcome.status}" if outcome.status else "done")
        at = timezone.localtime(sent.started_at)
        text = f"Test request at {at:%H:%M:%S}: {result} after {outcome.duration_ms:,} ms. {outcome.answer}"
        shown = sent.sent_for(sees_data=request.user.may(needed_for_data()))
        level = messages.SUCCESS if outcome.verdict == Verdict.SUCCEEDED else messages.ERROR
        messages.add_message(request, level, _with_sent(text.strip(), shown))
    return redirect(addresses.queue(queue.name))


def _typed_data(text: str) -> dict[str, Any] | None:
    """Return the data of a test request that were typed: a JSON object. Raises BadFields."""
    if not text.strip():
        return None
    try:
        data = exact_json.read(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BadFields(data='It must be a JSON object such as {"first_name": "Ann"}. Nothing was sent.')
    return data


def _with_sent(text: str, sent: shown_request.Sent | None) -> str:
    """Return the result of a test request, with the request as it was sent below it."""
    if sent is None:
        return text
    lines = [f"{sent.method} {sent.url}", *(f"{name}: {value}" for name, value in sent.headers.items())]
    return format_html('{}<pre class="token">{}</pre>', text, "\n".join([*lines, "", sent.body]))


@require_POST
@operator_required
def release(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Unblock the requests to the queue's target."""
    queue = get_object_or_404(models.Queue, name=name)
    try:
        origin = breakers.release_queue(queue, by=request.actor, at=store.now())
        messages.success(request, f"Sending to {origin} has resumed, at its planned pace.")
    except Refused as error:
        messages.info(request, str(error))
    return _back(request, queue)


@require_POST
@operator_required
def act_on_all(request: OperatorRequest, verb: str) -> HttpResponseBase:
    """Pause or resume every queue. Pausing several needs a confirmation."""
    verbs = {
        "pause": (operations.pause_all, "paused", "paused"),
        "resume": (operations.resume_all, "resumed", "running"),
    }
    if verb not in verbs:
        raise Http404("A brake applies to one queue.")
    operate, done, state = verbs[verb]
    running = models.Queue.objects.filter(paused_at=None).count()
    if verb == "pause" and running > 1 and "sure" not in request.POST:
        return render(request, "dashboard/queues_pause.html", {"running": running})
    if count := operate(by=request.actor, at=store.now()):
        messages.success(request, f"{plural(count, 'queue')} {done}.")
    else:
        messages.info(request, f"There was nothing to do: all queues were already {state}.")
    return redirect("queues")
