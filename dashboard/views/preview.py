"""The preview of a list: the plan that it would get, and the button that places it."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard import addresses, exports, formatting, id_texts
from dashboard.access import OperatorRequest, operator_required
from dashboard.inputs import uploads
from dashboard.inputs.forms import ConfirmForm, PreviewForm, start_choices
from dashboard.inputs.parameters import refuse_unknown
from dashboard.presenters.list_preview import (
    Preview,
    changed_words,
    end_words,
    imagined,
    is_worse,
    other_start,
    previewed_otherwise,
)
from dashboard.tables import totals
from operators.roles import needed_for_data
from scheduling import models, store
from scheduling.core import clock, exact_json
from scheduling.core.errors import (
    BadFields,
    DraftGone,
    ErasedMeanwhile,
    PastDeadline,
    PastHorizon,
    PastPeak,
    PlanRefused,
    PlanWorse,
    Refused,
)
from scheduling.intake import acceptance
from scheduling.lists import external_ids, overlaps, record_lists
from scheduling.lists.record_lists import SomeRecords, StoredRecords, is_record_list
from scheduling.parsing.errors import NoSpace
from scheduling.parsing.spool import Spool
from scheduling.placement import reservations
from scheduling.placement.reservations import Start
from scheduling.reports import first_requests

GONE = "This preview no longer exists: it was discarded, or deleted after a day."
WHY_LEFT_OUT = {
    overlaps.OverlapKind.WAITING: "wait in other tasks",
    overlaps.OverlapKind.SENT: "were sent in the last 24 hours",
}
# How a list stops by itself, as the form and its address name it.
STOPS = ("max_failed_percent", "min_finished", "canary_ids", "canary_percent")
PARAMETERS = {"queue", "start", "rpm", "rpm_of", "not_before", "deadline", "part", *STOPS}


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def preview(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """Show the preview. A POST places the list as shown, or shows the new plan if it has become worse."""
    draft = _draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    if request.method == "POST":
        return _commit(request, draft)
    refuse_unknown(request, PARAMETERS)
    return _shown(request, draft, PreviewForm(request.GET or None, draft=draft))


def _committed(request: OperatorRequest, draft: models.IdList) -> HttpResponseBase:
    """Redirect to the task that the preview has become, if its button was pressed twice or by two operators."""
    task = models.Task.objects.filter(list=draft).first()
    if task is None:
        raise Http404("This preview was placed; its task has another list by now.")
    messages.info(request, "This preview has already been placed: here is its task.")
    return redirect(addresses.task(task.pk))


def _draft(draft_id: int) -> models.IdList:
    draft = models.IdList.objects.filter(pk=draft_id).first()
    if draft is None or draft.about.get("writing") or draft.about.get("replaces"):
        raise Http404(GONE)
    return draft


def _shown(request: OperatorRequest, draft: models.IdList, form: PreviewForm) -> HttpResponseBase:
    is_part = request.htmx and "part" in request.GET
    if not form.is_valid():
        if is_part:
            # This replaces the preview, including its button, which no longer fits the choices.
            return render(request, "dashboard/_preview_not.html", {"reason": form.faults})
        raise BadRequest(form.faults)
    try:
        preview = _planned(draft, form)
    except BadFields as error:
        if is_part:
            return render(request, "dashboard/_preview_not.html", {"reason": str(error)})
        raise BadRequest(str(error)) from None
    faults = draft.about["faults"][: uploads.FAULTS_SHOWN]
    context = {
        "preview": preview,
        "about": draft.about,
        "draft": draft,
        "form": form,
        "confirm": _confirmation(preview, request.POST if request.method == "POST" else None),
        "chart": preview.first_window(),
        "whole": preview.whole(),
        "back": _ask_address(preview),
        "ask_other_start": _ask_address(preview, start=other_start(preview.plan.start)),
        "ask_an_hour": _ask_address(preview, rpm=preview.rpm_for_an_hour),
        "slider_max": max(preview.queue.rpm * 4, preview.rpm, preview.rpm_for_an_hour or 0, 60),
        "starts": start_choices(),
        "slider_moves": is_part and form.has_other_queue,
        "faults": faults,
        "faults_table": totals.FaultTable(faults),
        "queues": models.Queue.objects.all(),
        **_going_out(request, preview),
    }
    return render(request, "dashboard/_preview.html" if is_part else "dashboard/preview.html", context)


def _going_out(request: OperatorRequest, preview: Preview) -> dict[str, Any]:
    """Return the columns that travel with the IDs, what the queue's request needs of them, and the first requests."""
    has_columns = record_lists.has_data(preview.draft)
    if has_columns and not request.user.may(needed_for_data()):
        return {"values_hidden": True}
    ids = first_requests.of_draft(preview.draft)
    shown = [
        (name, [as_text(first_id.data.get(name)) for first_id in ids if first_id.data])
        for name in preview.draft.about.get("data_columns") or ()
    ]
    name = preview.draft.about.get("task_name") or ""
    planned = first_requests.first_requests(preview.queue, preview.plan, ids, task_name=name)
    return {"columns": shown, "requests": planned}


def as_text(value: Any) -> str:
    """Return a value that travels with an ID as it is shown."""
    return "" if value is None else exact_json.as_text(value)


def _confirmation(preview: Preview, data: QueryDict | None) -> ConfirmForm:
    """Return the form for the number that has to be typed if the list is hardly intended."""
    return ConfirmForm(data, count=preview.draft.ids_count, always=bool(preview.dangers), large=False)


def _ask_address(preview: Preview, **changed: Any) -> str:
    """Return the address of the preview at the queue's own limit, or with other choices changed."""
    times = {name: formatting.local_input(getattr(preview, name)) for name in ("not_before", "deadline")}
    choices = {"start": preview.plan.start, **times, **changed}
    return addresses.with_query("", queue=preview.queue.name, **choices, **preview.stops)


def _planned(draft: models.IdList, form: PreviewForm) -> Preview:
    choices = form.cleaned_data
    queue = choices["queue"]
    rpm = choices["rpm"] or queue.rpm
    at = store.now()
    queue_at_rpm = imagined(queue, rpm)
    plan, other = (
        reservations.plan(queue_at_rpm, draft.ids_count, at=at, not_before=choices["not_before"], start=start)
        for start in (choices["start"], other_start(choices["start"]))
    )
    refusal, words = None, ""
    try:
        reservations.check(queue_at_rpm, plan, at=at, deadline=choices["deadline"], allow_peak=False)
    except PlanRefused as error:
        refusal, words = error, refused_words(error, queue)
    times = choices["not_before"], choices["deadline"]
    stops = {name: choices[name] for name in STOPS if choices[name] is not None}
    return Preview(
        draft, queue, rpm, plan, other, *times, refusal, words, at, stops=stops, canary=choices["canary"]
    )


def _commit(request: OperatorRequest, draft: models.IdList) -> HttpResponseBase:
    form = PreviewForm(request.POST, draft=draft)
    if not form.is_valid():
        raise BadRequest(form.faults)
    choices = form.cleaned_data
    about = draft.about
    if not _confirmation(_planned(draft, form), request.POST).is_valid():
        return _shown(request, draft, form)

    def confirm(plan: reservations.Plan) -> None:
        promised = {name: choices[name] for name in ("peak", "last", "seen_at")}
        if is_worse(plan, **promised, at=store.now()):
            raise PlanWorse(plan)

    submission = acceptance.Submission(
        task_name=choices["task_name"] or about["task_name"],
        queue_name=choices["queue"].name,
        payload=about.get("payload"),
        column=(about.get("column") or {}).get("name") or "",
        not_before=choices["not_before"],
        deadline=choices["deadline"],
        max_failed_percent=choices["max_failed_percent"],
        min_finished=choices["min_finished"] if choices["max_failed_percent"] is not None else None,
        canary=choices["canary"],
        allow_peak=choices["allow_peak"],
        start=choices["start"],
    )
    try:
        accepted = acceptance.accept(
            submission, draft, by=request.actor, now=store.now, render=lambda accepted: None, confirm=confirm
        )
    except PlanWorse as error:
        sentence = _worse_words(error.plan, choices)
        messages.warning(request, f"{sentence} Nothing was placed; this is the new preview.")
        return _shown(request, draft, form)
    except DraftGone:
        # 404 if it was discarded or deleted after a day.
        return _committed(request, _draft(draft.pk))
    except Refused as error:
        sentence = refused_words(error, choices["queue"])
        messages.error(request, f"{sentence} Nothing was placed.")
        return _shown(request, draft, form)
    assert accepted.task is not None
    assert accepted.plan is not None
    messages.success(request, _placed_words(accepted.plan, choices))
    return redirect(addresses.task(accepted.task.pk))


def refused_words(error: Refused, queue: models.Queue) -> str:
    """Return the reason of a refusal in the words of the page and the operator's zone."""
    if isinstance(error, PastPeak):
        peak = error.plan.peak_per_minute
        return f"The fullest minute would have {peak:,} requests, above the queue's max_peak of {queue.max_peak:,}."
    if isinstance(error, PastDeadline):
        return (
            f"The list would not be done until {end_words(error.plan)}, after its deadline. Choose another queue,"
            " raise its limits, or split the list."
        )
    if isinstance(error, PastHorizon):
        return (
            f"The list would not be done until {end_words(error.plan)}; lists may take at most"
            f" {settings.HORIZON_DAYS} days. Choose another queue, raise its limits, or split the list."
        )
    return str(error)


def _worse_words(plan: reservations.Plan, choices: dict[str, Any]) -> str:
    """Return how a plan became worse, with times in the operator's zone, as in the preview."""
    result = (
        f"the fullest minute would now have {plan.peak_per_minute:,} requests, and the list would be done at"
    )
    takes = clock.first_window(store.now(), ids=plan.ids_count, unwritten=(), rate=settings.WRITE_RATE)
    why = "The choices changed after the preview was made"
    if not choices["changed"]:
        why = changed_words(plan=plan, rpm=choices["at_rpm"], first=choices["first"], first_window_at=takes)
    return f"{why}: {result} {end_words(plan)}."


def _placed_words(plan: reservations.Plan, choices: dict[str, Any]) -> str:
    assert plan.first_at is not None
    ids, first = formatting.plural(plan.ids_count, "ID"), formatting.minute_text(plan.first_at)
    sentence = f"Placed {ids}: from {first} to {end_words(plan)}, at most {plan.peak_per_minute:,} a minute."
    if other := previewed_otherwise(plan, peak=choices["peak"], first=choices["first"], last=choices["last"]):
        rpm_changed = choices["at_rpm"] not in (None, plan.rpm)
        why = "other lists came in or were cancelled"
        if choices["changed"]:
            why = "the choices changed after it was made"
        elif rpm_changed:
            why = f"the queue's rpm is now {plan.rpm:,}"
        elif plan.start == Start.FIRST_FREE:
            why = "time has passed since"
        sentence += f" The preview said {other}: {why}."
    if choices["queue"].paused:
        sentence += " The queue is paused: nothing is sent until it is resumed."
    return sentence


@require_POST
@operator_required
def discard(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """Delete the draft. Another operator's draft needs a confirmation."""
    draft = _any_draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    if draft.about.get("operator_id") != request.user.pk and "sure" not in request.POST:
        return render(request, "dashboard/preview_discard.html", {"draft": draft, "about": draft.about})
    if not acceptance.discard_preview(draft, by=request.actor, at=store.now()):
        # Somebody else has already placed or discarded it.
        return _committed(request, _any_draft(draft.pk))
    messages.info(request, "The preview has been discarded. Nothing was placed.")
    return redirect("upload")


def _any_draft(draft_id: int) -> models.IdList:
    """Return the draft, even if it is meant to replace the list of a task."""
    draft = models.IdList.objects.filter(pk=draft_id).first()
    if draft is None or draft.about.get("writing"):
        raise Http404(GONE)
    return draft


@require_safe
@operator_required
def overlap(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """Show which IDs are unknown and which wait in other tasks.

    Loaded after the page, since it takes a while.
    """
    refuse_unknown(request, PARAMETERS)
    draft = _draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    choices = _choices(request.GET)
    queue_name = _requested_queue(draft, choices)
    recent = _recent(queue_name)
    same = max((pk for pk, digest in recent.items() if digest == draft.about["same_as_digest"]), default=None)
    context = {
        "draft": draft,
        "overlap": overlaps.of_list(draft.pk, recent=recent),
        "same_list": models.Task.objects.get(pk=same) if same else None,
        "queue_name": queue_name,
        "asked": choices,
        "back": addresses.with_query(reverse("preview", args=[draft.pk]), **choices),
    }
    page = "dashboard/_overlap.html" if request.htmx else "dashboard/overlap.html"
    return render(request, page, context)


def _requested_queue(draft: models.IdList, choices: Mapping[str, str]) -> str:
    return choices.get("queue") or draft.about.get("queue") or "default"


def _recent(queue_name: str) -> dict[int, str]:
    """Return the tasks whose IDs count as sent recently."""
    return overlaps.recent_tasks(queue_name, since=store.now() - acceptance.SAME_AS_WITHIN)


def _choices(parameters: QueryDict) -> dict[str, str]:
    """Return the choices for a draft, to be repeated for another draft."""
    return {name: str(parameters[name]) for name in sorted(PARAMETERS - {"part"}) if parameters.get(name)}


@require_POST
@operator_required
def leave_out(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """Create a draft without the IDs that wait in other tasks or were sent recently, and delete the old one."""
    reason = overlaps.OverlapKind.SENT if request.GET.get("which") == "sent" else overlaps.OverlapKind.WAITING
    draft = _draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    choices = _choices(request.POST)
    same = addresses.with_query(reverse("preview", args=[draft.pk]), **choices)
    try:
        with Spool(settings.SPOOL_DIR) as spool:
            recent = _recent(_requested_queue(draft, choices))
            left_out = overlaps.spool_without(draft, spool, reason, recent=recent)
            smaller = _smaller(draft, spool, left_out) if spool.ids_count else None
    except (NoSpace, ErasedMeanwhile) as error:
        messages.error(request, str(error))
        return redirect(same)
    if smaller is None:
        messages.warning(request, f"All of its IDs {WHY_LEFT_OUT[reason]}, so nothing is left to place.")
        return redirect(same)
    acceptance.delete_draft(draft)
    messages.success(request, f"{formatting.plural(left_out, 'ID')} left out: they {WHY_LEFT_OUT[reason]}.")
    return redirect(addresses.with_query(reverse("preview", args=[smaller.pk]), **choices))


def _smaller(draft: models.IdList, spool: Spool, left_out: int) -> models.IdList:
    """Create a draft of the remaining IDs, with the same facts about the list."""
    texts = external_ids.texts([*spool.first(3), *spool.last(3)])
    about: dict[str, Any] = {
        name: value
        for name, value in draft.about.items()
        if name not in ("same_as_digest", "payload", "ranges")
    } | {
        "first": [id_texts.shown(user_id, texts) for user_id in spool.first(3)],
        "last": [id_texts.shown(user_id, texts) for user_id in spool.last(3)],
        "left_out": draft.about.get("left_out", 0) + left_out,
    }
    ids = SomeRecords(StoredRecords(draft), spool) if is_record_list(draft) else spool
    smaller = acceptance.write_draft(ids, at=store.now(), about=about)
    smaller.repeats_count = draft.repeats_count
    smaller.save(update_fields=["repeats_count"])
    return smaller


@require_safe
@operator_required
def faults(request: OperatorRequest, draft_id: int, form: str) -> HttpResponseBase:
    """Export the faults."""
    refuse_unknown(request, ())
    about = _any_draft(draft_id).about
    heads = ("line", "column", "index", "sheet", "cell", "token", "reason")
    rows_of_faults = uploads.kept_faults(about)
    rows = ([fault.get(head) for head in heads] for fault in rows_of_faults)
    missing = about.get("fault_count", 0) - len(rows_of_faults)
    cut = f"{missing} more are not stored" if missing > 0 else ""
    return exports.named(form, f"faults-{draft_id}", heads, rows, cut=cut)
