"""Queues: their state, and the operations on them."""

import json
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard import addresses, exports, formatting
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.drawing import charts
from dashboard.formatting import plural
from dashboard.inputs import columns, new_queue, paging
from dashboard.inputs.forms import PaceForm
from dashboard.inputs.parameters import COLUMNS, refuse_unknown, whole_number
from dashboard.inputs.queue_settings import QueueForm
from dashboard.tables import listings
from scheduling import models, store
from scheduling.core import clock
from scheduling.core.clock import iso
from scheduling.core.errors import BadFields, NoFreeSlot, Refused
from scheduling.core.retry import Verdict
from scheduling.dispatch import breakers, test_request
from scheduling.handlers import shown_request
from scheduling.queues import operations, rates, slowing
from scheduling.reports import cards

ALL = "*"
# The queues of a page; the export has all.
ROWS = 50
ENTRIES_SHOWN = 20
# The length of the pause whose effect is shown.
PAUSE_MINUTES = 15
HEADS = ("name", "rpm", "overflow", "handler", "paused_at", "brake_per_minute", "filling", "peak")


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def all_queues(request: OperatorRequest) -> HttpResponseBase:
    """Show the list and a form, begun by `recipe`. A POST creates a queue."""
    refuse_unknown(request, {"before", "format", "recipe", COLUMNS})
    recipe = new_queue.recipe(request.GET.get("recipe") or "record")
    if request.method == "POST":
        return _create(request, recipe)
    if wanted := request.GET.get("format"):
        return exports.named(wanted, "queues", HEADS, map(_row, _cards(list(models.Queue.objects.all()))))
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
    found, card = row
    return [
        found.name, found.rpm, found.overflow, found.handler, iso(found.paused_at),
        found.brake_per_minute, card.filled, card.peak.filled,
    ]  # fmt: skip


def _cards(found: list[models.Queue]) -> list[tuple[models.Queue, cards.Card]]:
    filling = cards.filling_cards(found, at=store.now())
    return [(queue, filling[queue.pk]) for queue in found]


@operator_required
def _create(request: OperatorRequest, recipe: new_queue.Recipe) -> HttpResponseBase:
    form = new_queue.NewQueueForm(recipe, request.POST)
    if form.is_valid():
        try:
            made = operations.create(
                name=form.cleaned_data["name"], fields=form.given, by=request.actor, at=store.now()
            )
        except BadFields as error:
            form.take(error.reasons)
        except Refused as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Queue {made.name} created, with {made.rpm:,} requests per minute.")
            return redirect("queue", name=made.name)
    return render(request, "dashboard/queues.html", _list(request, form), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def queue(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Show a queue. `rpm` shows what another rpm would do; a POST changes it, or the settings."""
    found = get_object_or_404(models.Queue, name=name)
    if request.method == "POST":
        return _set_pace(request, found) if "rpm" in request.POST else _change(request, found)
    refuse_unknown(request, {"rpm"})
    return render(request, "dashboard/queue.html", _page(request, found, QueueForm(found)))


def _page(request: OperatorRequest, found: models.Queue, form: QueueForm) -> dict[str, Any]:
    at = store.now()
    rpm = whole_number(request, "rpm", low=1) if request.method != "POST" else None
    if rpm is not None and rpm > models.MAX_RPM:
        raise BadRequest(f"rpm: at most {models.MAX_RPM:,}.")
    card = cards.filling_cards([found], at=at)[found.pk]
    return {
        "queue": found,
        "card": card,
        "chart": charts.chart(card.minutes),
        "form": form,
        "effect": rates.effect_of_rpm(found, rpm, at=at) if rpm and rpm != found.rpm else None,
        "rpm": rpm or found.rpm,
        "pace": PaceForm(initial={"rpm": rpm, "version": found.version}),
        "history": models.Activity.objects.filter(object_kind="queue", object_id=found.pk)[
            : ENTRIES_SHOWN + 1
        ],
        "entries_shown": ENTRIES_SHOWN,
        "target": breakers.of_queue(found, at=at),
        "brake_from": clock.next_unsealed_minute(at),
    }


@operator_required
def _set_pace(request: OperatorRequest, found: models.Queue) -> HttpResponseBase:
    form = PaceForm(request.POST)
    if not form.is_valid():
        raise BadRequest(
            " ".join(f"{name}: {' '.join(map(str, said))}" for name, said in form.errors.items())
        )
    rpm, seen = form.cleaned_data["rpm"], form.cleaned_data["version"]
    try:
        operations.update(found, {"rpm": rpm}, by=request.actor, now=store.now, if_version=seen)
    except Refused as error:
        messages.error(request, str(error))
        return redirect(addresses.with_query(addresses.queue(found.name), rpm=rpm))
    messages.success(request, f"From {_next_quarter()}, {found.name} sends {rpm:,} requests a minute.")
    return redirect(addresses.queue(found.name))


def _next_quarter() -> str:
    """Return when the open window begins to run, in the operator's zone."""
    return formatting.minute_text(clock.runs_at(clock.open_window_start(store.now())))


def _unseen_effect(found: models.Queue, form: QueueForm) -> rates.Effect | None:
    """What other hours or another ramp would move, where the page hasn't said so yet. Raises BadFields."""
    if not {"hours", "ramp", "quotas"} & form.changes.keys():
        return None
    effect = operations.effect_of(found, form.changes, at=store.now())
    return effect if effect.moved_count and form.cleaned_data.get("moves") is None else None


@operator_required
def _change(request: OperatorRequest, found: models.Queue) -> HttpResponseBase:
    form = QueueForm(found, request.POST)
    if form.is_valid():
        try:
            if effect := _unseen_effect(found, form):
                context = _page(request, found, form) | {"settings_effect": effect}
                return render(request, "dashboard/queue.html", context)
            operations.update(
                found, form.changes, by=request.actor, now=store.now, if_version=form.cleaned_data["version"]
            )
        except BadFields as error:
            form.take(error.reasons)
        except Refused as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Saved." if form.changes else "Nothing was changed.")
            return redirect(addresses.queue(found.name))
    found.refresh_from_db()
    return render(request, "dashboard/queue.html", _page(request, found, form), status=422)


@require_safe
@viewer_required
def slow_down(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Show what a brake and a pause would do: as a panel of the board, or as a page."""
    found = get_object_or_404(models.Queue, name=name)
    refuse_unknown(request, {"per_minute", "part"})
    at = store.now()
    per_minute = whole_number(request, "per_minute")
    if per_minute is None:
        current = found.brake_per_minute
        per_minute = current if current is not None else max(1, found.rpm // 2)
    if per_minute > models.MAX_RPM:
        raise BadRequest(f"per_minute: at most {models.MAX_RPM:,}.")
    context = {
        "queue": found,
        "per_minute": per_minute,
        "brake": slowing.effect_of_brake(found, per_minute, at=at),
        "pause": slowing.effect_of_pause(found, PAUSE_MINUTES, at=at),
        "pause_minutes": PAUSE_MINUTES,
        "why_no_pause": "It is already paused." if found.paused else "",
    }
    if not request.htmx:
        return render(request, "dashboard/queue_slow_down.html", context)
    part = "_brake_effect" if request.GET.get("part") == "brake" else "_slow_down"
    return render(request, f"dashboard/{part}.html", context)


@require_POST
@operator_required
def act(request: OperatorRequest, name: str, verb: str) -> HttpResponseBase:
    """Pause, resume or brake a queue."""
    found = get_object_or_404(models.Queue, name=name)
    try:
        if verb == "pause":
            operations.pause(found, by=request.actor, at=store.now())
            messages.success(request, f"{name} is paused. Lists are accepted, nothing is sent.")
        elif verb == "resume":
            operations.resume(found, by=request.actor, at=store.now())
            messages.success(
                request, f"{name} has resumed. IDs that became due in the meantime take the next free places."
            )
        else:
            _brake(request, found)
    except BadFields as error:
        messages.error(request, str(error))
    except Refused as error:
        messages.info(request, str(error))
    return _back(request, found)


def _back(request: OperatorRequest, found: models.Queue) -> HttpResponseBase:
    """Redirect to the board that the button stood on, or to the queue's page."""
    board = request.POST.get("board", "")
    if board == ALL or models.Queue.objects.filter(name=board).exists():
        return redirect(addresses.with_query(reverse("board"), queue=board))
    return redirect(addresses.queue(found.name))


def _brake(request: OperatorRequest, found: models.Queue) -> None:
    text = request.POST.get("per_minute", "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 9):
        raise BadFields(per_minute="It must be a whole number, or empty to release the brake.")
    per_minute = int(text) if text else None
    operations.brake(found, per_minute, by=request.actor, at=store.now())
    if per_minute is None:
        messages.success(request, "The brake has been released.")
    else:
        messages.success(
            request, f"From the next minute, {found.name} sends at most {per_minute:,} a minute."
        )


@require_POST
@operator_required
def test(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Send one test request in a free slot, and show its response."""
    found = get_object_or_404(models.Queue, name=name)
    try:
        data = _typed_data(request.POST.get("data", ""))
        example = test_request.ExampleId.of(found, request.POST.get("user_id", "1"), data)
        sent = test_request.send_one(found, by=request.actor, now=store.now, example=example)
    except NoFreeSlot as error:
        free_at = formatting.minute_text(error.next_at)
        messages.error(request, f"No slot is free within a minute. The next minute with room is {free_at}.")
    except Refused as error:
        messages.error(request, str(error))
    else:
        outcome = sent.outcome
        # The error of a redirect names its address.
        said = outcome.error or (f"answered {outcome.status}" if outcome.status else "done")
        at = timezone.localtime(sent.started_at)
        text = f"Test request at {at:%H:%M:%S}: {said} after {outcome.duration_ms:,} ms. {outcome.answer}"
        level = messages.SUCCESS if outcome.verdict == Verdict.SUCCEEDED else messages.ERROR
        messages.add_message(request, level, _with_sent(text.strip(), sent.sent))
    return redirect(addresses.queue(found.name))


def _typed_data(text: str) -> dict[str, Any] | None:
    """Return the data of a test request that were typed: a JSON object. Raises BadFields."""
    if not text.strip():
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BadFields(data='It must be a JSON object such as {"first_name": "Ann"}. Nothing was sent.')
    return data


def _with_sent(text: str, sent: shown_request.Sent | None) -> str:
    """Return the result of a test request, with the request as it was sent below it."""
    if sent is None:
        return text
    lines = [f"{sent.method} {sent.url}", *(f"{name}: {said}" for name, said in sent.headers.items())]
    return format_html('{}<pre class="token">{}</pre>', text, "\n".join([*lines, "", sent.body]))


@require_POST
@operator_required
def release(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Unblock the requests to the queue's target."""
    found = get_object_or_404(models.Queue, name=name)
    target = breakers.of_queue(found, at=store.now())
    try:
        if target is not None:
            breakers.release(target, by=request.actor, at=store.now())
            messages.success(request, f"Sending to {target.origin} has resumed, at its planned pace.")
        else:
            messages.info(request, "Its requests are no longer blocked.")
    except Refused as error:
        messages.info(request, str(error))
    return _back(request, found)


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
