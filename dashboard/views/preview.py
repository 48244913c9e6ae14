"""A list before anything is placed: what would happen, and the button that makes it happen."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard import addresses, exports, formatting
from dashboard.access import OperatorRequest, operator_required
from dashboard.drawing import charts
from dashboard.inputs import uploads
from dashboard.inputs.forms import ConfirmForm, PreviewForm
from dashboard.inputs.parameters import refuse_unknown
from dashboard.tables import totals
from scheduling import models, store
from scheduling.core import clock
from scheduling.core.errors import DraftGone, PastHorizon, PastPeak, PlanRefused, PlanWorse, Refused
from scheduling.dispatch import targets
from scheduling.intake import acceptance
from scheduling.lists import overlaps
from scheduling.parsing.errors import NoSpace
from scheduling.parsing.spool import Spool
from scheduling.placement import reservations
from scheduling.reports import cards

GONE = "This preview no longer exists: it was discarded, or deleted after a day."
WHY_LEFT_OUT = {
    overlaps.Which.WAITING: "wait in other tasks",
    overlaps.Which.SENT: "were sent in the last 24 hours",
}
# So many times a queue's limit is confirmed by typing the number of IDs.
DANGEROUS_PEAK = 2
PARAMETERS = {"queue", "rpm", "rpm_of", "not_before", "part"}


@dataclass(frozen=True)
class Preview:
    """A draft, what it asks for, and what would become of it at `at`."""

    draft: models.IdList
    queue: models.Queue
    rpm: int
    plan: reservations.Plan
    not_before: datetime | None
    refusal: PlanRefused | None
    at: datetime

    @property
    def is_what_if(self) -> bool:
        return self.rpm != self.queue.rpm

    @property
    def over(self) -> int:
        return max(0, self.plan.peak_per_minute - self.rpm)

    @property
    def ends_at(self) -> datetime:
        return _ends_at(self.plan)

    @property
    def lost_minute_seconds(self) -> float:
        """How long at rpm it takes to make up for the fullest minute, if it were lost."""
        return 60 * self.plan.peak_per_minute / self.rpm

    @property
    def refusal_words(self) -> str:
        """Why the plan may not be kept, or not without a tick."""
        return refused_words(self.refusal, self.queue) if self.refusal else ""

    @property
    def why_not(self) -> str:
        """Why it can't be placed, not even with a tick."""
        return "" if self.may_insist else self.refusal_words

    @property
    def may_insist(self) -> bool:
        """Whether a tick places it anyway."""
        return isinstance(self.refusal, PastPeak)

    @property
    def dangers(self) -> list[str]:
        """Why placing it takes a typed number: it is hardly what anybody meant."""
        found = []
        if self.plan.peak_per_minute >= DANGEROUS_PEAK * self.queue.rpm:
            times = self.plan.peak_per_minute / self.queue.rpm
            found.append(
                f"The fullest minute has {times:,.0f} times the requests that the queue's limit allows."
            )
        if self.draft.about.get("fault_count", 0) > self.draft.ids_count:
            found.append("The list has more faults than IDs.")
        return found

    @property
    def cautions(self) -> list[str]:
        """What keeps the queue from starting at the plan's pace, as things stand."""
        said = []
        if self.queue.paused:
            said.append("The queue is paused: nothing of this list is sent until somebody resumes it.")
        elif self.queue.brake_per_minute is not None:
            said.append(
                f"A brake limits the queue to {self.queue.brake_per_minute:,} a minute: until it is released, the list"
                " takes longer."
            )
        target = targets.target_of(self.queue)
        if target and (target.opened_at or (target.held_until and target.held_until > self.at)):
            said.append(f"Requests to {target.origin} are blocked: nothing is sent until it answers again.")
        return said

    @property
    def first_window(self) -> reservations.WindowPlan:
        return self.plan.windows[0]

    @property
    def other_windows(self) -> int:
        return len(self.plan.windows) - 1

    @property
    def waits_for_a_later_window(self) -> bool:
        return self.first_window.starts_at > clock.open_window_start(self.at)

    def charts(self) -> list[charts.Chart]:
        """The first window before and after, drawn to one scale."""
        window = self.first_window
        minutes = clock.minutes(window.starts_at)
        after = [b + a for b, a in zip(window.before, window.added, strict=True)]
        scale = max([self.rpm, *after])
        return [
            charts.chart(
                [cards.Minute(at, self.rpm, waiting=count) for at, count in zip(minutes, fill, strict=True)],
                scale=scale,
            )
            for fill in (window.before, after)
        ]


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def preview(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """What would happen; a POST commits just that, or shows the new plan where it got worse."""
    draft = _draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    if request.method == "POST":
        return _commit(request, draft)
    refuse_unknown(request, PARAMETERS)
    return _shown(request, draft, PreviewForm(request.GET or None, draft=draft))


def _committed(request: OperatorRequest, draft: models.IdList) -> HttpResponseBase:
    """To the task that the preview has become: of two who press its button, or press it twice, one is too late."""
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
            # In the preview's place: what stood there is no answer to what was asked, and its button goes too.
            return render(request, "dashboard/_preview_not.html", {"reason": form.faults})
        raise BadRequest(form.faults)
    found = _planned(draft, form)
    before, after = found.charts()
    faults = draft.about["faults"][: uploads.FAULTS_SHOWN]
    context = {
        "preview": found,
        "about": draft.about,
        "draft": draft,
        "form": form,
        "confirm": _confirmation(found, request.POST if request.method == "POST" else None),
        "before": before,
        "after": after,
        "back": _without_what_if(found),
        "slider_max": max(found.queue.rpm * 4, found.rpm, 60),
        "slider_moves": is_part and form.has_other_queue,
        "faults": faults,
        "faults_table": totals.FaultTable(faults),
        "queues": models.Queue.objects.all(),
    }
    return render(request, "dashboard/_preview.html" if is_part else "dashboard/preview.html", context)


def _confirmation(found: Preview, data: QueryDict | None) -> ConfirmForm:
    """The number that is typed where a list is hardly what anybody meant."""
    return ConfirmForm(data, count=found.draft.ids_count, always=bool(found.dangers), large=False)


def _without_what_if(found: Preview) -> str:
    """The preview at the queue's own limit."""
    not_before = formatting.local_input(found.not_before)
    return addresses.with_query("", queue=found.queue.name, not_before=not_before)


def _planned(draft: models.IdList, form: PreviewForm) -> Preview:
    asked = form.cleaned_data
    queue = asked["queue"]
    rpm = asked["rpm"] or queue.rpm
    at = store.now()
    # Never saved: what the slider asks is only a picture.
    imagined = copy(queue)
    imagined.rpm, imagined.headroom = rpm, min(queue.headroom, rpm - 1)
    plan = reservations.plan(imagined, draft.ids_count, at=at, not_before=asked["not_before"])
    refusal = None
    try:
        reservations.check(imagined, plan, at=at, allow_peak=False)
    except PlanRefused as error:
        refusal = error
    return Preview(draft, queue, rpm, plan, asked["not_before"], refusal, at)


def _commit(request: OperatorRequest, draft: models.IdList) -> HttpResponseBase:
    form = PreviewForm(request.POST, draft=draft)
    if not form.is_valid():
        raise BadRequest(form.faults)
    asked = form.cleaned_data
    about = draft.about
    if not _confirmation(_planned(draft, form), request.POST).is_valid():
        return _shown(request, draft, form)

    def confirm(plan: reservations.Plan) -> None:
        worse = asked["peak"] is not None and plan.peak_per_minute > asked["peak"]
        later = asked["last"] is not None and plan.last_at > asked["last"]
        if worse or later:
            raise PlanWorse(plan)

    submission = acceptance.Submission(
        task_name=asked["task_name"] or about["task_name"],
        queue_name=asked["queue"].name,
        payload=about.get("payload"),
        column=(about.get("column") or {}).get("name") or "",
        not_before=asked["not_before"],
        allow_peak=asked["allow_peak"],
    )
    try:
        accepted = acceptance.accept(
            submission, draft, by=request.actor, now=store.now, render=lambda accepted: None, confirm=confirm
        )
    except PlanWorse as error:
        said = _worse_words(error.plan, asked)
        messages.warning(request, f"{said} Nothing was placed; this is the new preview.")
        return _shown(request, draft, form)
    except DraftGone:
        # 404 where it was discarded or swept.
        return _committed(request, _draft(draft.pk))
    except Refused as error:
        said = refused_words(error, asked["queue"])
        messages.error(request, f"{said} Nothing was placed.")
        return _shown(request, draft, form)
    assert accepted.task is not None
    assert accepted.plan is not None
    messages.success(request, _placed_words(accepted.plan, asked))
    return redirect(addresses.task(accepted.task.pk))


def refused_words(error: Refused, queue: models.Queue) -> str:
    """In the words of the page, and the operator's zone."""
    if isinstance(error, PastPeak):
        peak = error.plan.peak_per_minute
        return f"The fullest minute would have {peak:,} requests, above the queue's max_peak of {queue.max_peak:,}."
    if isinstance(error, PastHorizon):
        return (
            f"The list would not be done until {_end(error.plan)}; lists may take at most"
            f" {settings.HORIZON_DAYS} days. Choose another queue, raise its rpm, or split the list."
        )
    return str(error)


def _ends_at(plan: reservations.Plan) -> datetime:
    """A list has an ID, so that its plan has minutes."""
    assert plan.last_at is not None
    return plan.last_at + clock.MINUTE


def _end(plan: reservations.Plan) -> str:
    """When the plan's last minute ends: the time, and the day where it isn't today."""
    return formatting.minute_text(_ends_at(plan))


def _worse_words(plan: reservations.Plan, asked: dict[str, Any]) -> str:
    """The same minute as the preview says, in the operator's zone."""
    result = (
        f"the fullest minute would now have {plan.peak_per_minute:,} requests, and the list would be done at"
    )
    return f"{_what_changed(plan, asked)}: {result} {_end(plan)}."


def _what_changed(plan: reservations.Plan, asked: dict[str, Any]) -> str:
    if asked["at_rpm"] not in (None, plan.rpm):
        return f"The queue's rpm is now {plan.rpm:,}"
    if asked["first"] is not None:
        starts_at = clock.quarter_start(asked["first"]) - clock.QUARTER
        takes = clock.first_window(store.now(), ids=plan.ids_count, unwritten=(), rate=settings.WRITE_RATE)
        if starts_at < takes:
            return "The quarter-hour in the preview has closed in the meantime"
    return "Other lists came in in the meantime"


def _placed_words(plan: reservations.Plan, asked: dict[str, Any]) -> str:
    assert plan.first_at is not None
    ids, first = formatting.plural(plan.ids_count, "ID"), formatting.minute_text(plan.first_at)
    said = f"Placed {ids}: from {first} to {_end(plan)}, at most {plan.peak_per_minute:,} a minute."
    if other := _previewed_otherwise(plan, asked):
        rpm_changed = asked["at_rpm"] not in (None, plan.rpm)
        why = (
            f"the queue's rpm is now {plan.rpm:,}" if rpm_changed else "other lists came in or were cancelled"
        )
        said += f" The preview said {other}: {why}."
    if asked["queue"].paused:
        said += " The queue is paused: nothing is sent until somebody resumes it."
    return said


def _previewed_otherwise(plan: reservations.Plan, asked: dict[str, Any]) -> str:
    """What the preview had said, where that isn't what was placed."""
    said = []
    if asked["peak"] not in (None, plan.peak_per_minute):
        said.append(f"{asked['peak']:,} a minute")
    if asked["first"] not in (None, plan.first_at):
        said.append(f"from {formatting.minute_text(asked['first'])}")
    if asked["last"] not in (None, plan.last_at):
        said.append(f"to {formatting.minute_text(asked['last'] + clock.MINUTE)}")
    return ", ".join(said)


@require_POST
@operator_required
def discard(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """Throw the draft away; somebody else's only when asked about it."""
    draft = _any_draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    if draft.about.get("operator_id") != request.user.pk and "sure" not in request.POST:
        return render(request, "dashboard/preview_discard.html", {"draft": draft, "about": draft.about})
    if not acceptance.discard_preview(draft, by=request.actor, at=store.now()):
        # Somebody was quicker: committed, or discarded.
        return _committed(request, _any_draft(draft.pk))
    messages.info(request, "The preview has been discarded. Nothing was placed.")
    return redirect("upload")


def _any_draft(draft_id: int) -> models.IdList:
    """Also one that is meant for a task that has a list already."""
    draft = models.IdList.objects.filter(pk=draft_id).first()
    if draft is None or draft.about.get("writing"):
        raise Http404(GONE)
    return draft


@require_safe
@operator_required
def overlap(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """Which IDs are unknown, which wait elsewhere: asked for after the page, since it takes a while."""
    refuse_unknown(request, PARAMETERS)
    draft = _draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    asked = _asked(request.GET)
    queue_name = _queue_asked_for(draft, asked)
    recent = _recent(queue_name)
    same = max((pk for pk, digest in recent.items() if digest == draft.about["same_as_digest"]), default=None)
    context = {
        "draft": draft,
        "overlap": overlaps.of_list(draft.pk, recent=recent),
        "same_list": models.Task.objects.get(pk=same) if same else None,
        "queue_name": queue_name,
        "asked": asked,
        "back": addresses.with_query(reverse("preview", args=[draft.pk]), **asked),
    }
    page = "dashboard/_overlap.html" if request.htmx else "dashboard/overlap.html"
    return render(request, page, context)


def _queue_asked_for(draft: models.IdList, asked: Mapping[str, str]) -> str:
    return asked.get("queue") or draft.about.get("queue") or "default"


def _recent(queue_name: str) -> dict[int, str]:
    """The tasks in which an ID counts as sent already."""
    return overlaps.recent_tasks(queue_name, since=store.now() - acceptance.SAME_AS_WITHIN)


def _asked(given: QueryDict) -> dict[str, str]:
    """What was asked for a draft: another draft is asked the same."""
    return {name: str(given[name]) for name in ("queue", "rpm", "rpm_of", "not_before") if given.get(name)}


@require_POST
@operator_required
def leave_out(request: OperatorRequest, draft_id: int) -> HttpResponseBase:
    """A new draft without the IDs that wait in other tasks, or were sent lately; the old one goes."""
    which = overlaps.Which.SENT if request.GET.get("which") == "sent" else overlaps.Which.WAITING
    draft = _draft(draft_id)
    if draft.accepted_at is not None:
        return _committed(request, draft)
    asked = _asked(request.POST)
    same = addresses.with_query(reverse("preview", args=[draft.pk]), **asked)
    try:
        with Spool(settings.SPOOL_DIR) as spool:
            recent = _recent(_queue_asked_for(draft, asked))
            left_out = overlaps.spool_without(draft, spool, which, recent=recent)
            smaller = _smaller(draft, spool, left_out) if spool.ids_count else None
    except NoSpace as error:
        messages.error(request, str(error))
        return redirect(same)
    if smaller is None:
        messages.warning(request, f"All of its IDs {WHY_LEFT_OUT[which]}, so nothing is left to place.")
        return redirect(same)
    acceptance.delete_draft(draft)
    messages.success(request, f"{formatting.plural(left_out, 'ID')} left out: they {WHY_LEFT_OUT[which]}.")
    return redirect(addresses.with_query(reverse("preview", args=[smaller.pk]), **asked))


def _smaller(draft: models.IdList, spool: Spool, left_out: int) -> models.IdList:
    """A draft of what is left; of the rest of what was read it says the same."""
    about: dict[str, Any] = {
        name: value
        for name, value in draft.about.items()
        if name not in ("same_as_digest", "payload", "ranges")
    } | {
        "first": [str(user_id) for user_id in spool.first(3)],
        "last": [str(user_id) for user_id in spool.last(3)],
        "left_out": draft.about.get("left_out", 0) + left_out,
    }
    smaller = acceptance.write_draft(spool, at=store.now(), about=about)
    smaller.repeats_count = draft.repeats_count
    smaller.save(update_fields=["repeats_count"])
    return smaller


@require_safe
@operator_required
def faults(request: OperatorRequest, draft_id: int, form: str) -> HttpResponseBase:
    """The faults as a file."""
    refuse_unknown(request, ())
    about = _any_draft(draft_id).about
    heads = ("line", "column", "index", "sheet", "cell", "token", "reason")
    found = uploads.kept_faults(about)
    rows = ([fault.get(head) for head in heads] for fault in found)
    missing = about.get("fault_count", 0) - len(found)
    cut = f"{missing} more are not stored" if missing > 0 else ""
    return exports.named(form, f"faults-{draft_id}", heads, rows, cut=cut)
