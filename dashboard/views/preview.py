"""A list before anything is placed: what would happen, and the button that makes it happen."""

from copy import copy
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard import addresses, drawings, exports, sums
from dashboard.access import OperatorRequest, operator_required
from dashboard.forms import PreviewForm
from dashboard.queries import refuse_unknown
from scheduling import cards, clock, intake, models, overlaps, placement, store
from scheduling.errors import PlanRefused, PlanWorse, Refused
from scheduling.reading.errors import NoSpace
from scheduling.reading.spool import Spool

FAULTS_SHOWN = 20
PARAMETERS = {"queue", "rpm", "not_before", "part"}


@dataclass(frozen=True)
class Preview:
    """A draft, what it asks for, and what would become of it at `at`."""

    draft: models.IdList
    queue: models.Queue
    rpm: int
    plan: placement.Plan
    not_before: datetime | None
    refusal: str
    at: datetime

    @property
    def is_what_if(self) -> bool:
        return self.rpm != self.queue.rpm

    @property
    def over(self) -> int:
        return max(0, self.plan.peak_per_minute - self.rpm)

    @property
    def ends_at(self) -> datetime:
        return self.plan.last_at + clock.MINUTE

    @property
    def lost_minute_seconds(self) -> float:
        """How long at rpm it takes to make up for the fullest minute, if it were lost."""
        return 60 * self.plan.peak_per_minute / self.rpm

    @property
    def first_window(self) -> placement.WindowPlan:
        return self.plan.windows[0]

    @property
    def other_windows(self) -> int:
        return len(self.plan.windows) - 1

    @property
    def waits_for_a_later_window(self) -> bool:
        return self.first_window.starts_at > clock.open_window_start(self.at)

    def charts(self) -> tuple[drawings.Chart, drawings.Chart]:
        """The first window before and after, drawn to one scale."""
        window = self.first_window
        minutes = clock.minutes(window.starts_at)
        after = [b + a for b, a in zip(window.before, window.added, strict=True)]
        scale = max([self.rpm, *after])
        return tuple(
            drawings.chart(
                [cards.Minute(at, self.rpm, waiting=count) for at, count in zip(minutes, fill, strict=True)],
                scale=scale,
            )
            for fill in (window.before, after)
        )


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def preview(request: OperatorRequest, draft_id: int) -> HttpResponse:
    """What would happen; a POST commits just that, or shows the new plan where it got worse."""
    draft = _draft(draft_id)
    if request.method == "POST":
        return _commit(request, draft)
    refuse_unknown(request, PARAMETERS)
    return _shown(request, draft, PreviewForm(request.GET or None, draft=draft))


def _draft(draft_id: int) -> models.IdList:
    draft = models.IdList.objects.filter(pk=draft_id).first()
    if draft is None or draft.about.get("writing") or draft.about.get("replaces"):
        raise Http404("This preview is gone: it was discarded, or swept after a day.")
    return draft


def _shown(request: OperatorRequest, draft: models.IdList, form: PreviewForm) -> HttpResponse:
    if draft.accepted_at is not None:
        return redirect(addresses.task(draft.task.pk))
    if not form.is_valid():
        raise BadRequest(" ".join(f"{name}: {' '.join(said)}" for name, said in form.errors.items()))
    found = _planned(draft, form)
    before, after = found.charts()
    faults = draft.about["faults"][:FAULTS_SHOWN]
    context = {
        "preview": found,
        "about": draft.about,
        "draft": draft,
        "form": form,
        "before": before,
        "after": after,
        "slider_max": max(found.queue.rpm * 4, found.rpm, 60),
        "faults": faults,
        "faults_table": sums.FaultTable(faults),
        "queues": models.Queue.objects.all(),
    }
    page = "dashboard/_preview.html" if request.htmx and "part" in request.GET else "dashboard/preview.html"
    return render(request, page, context)


def _planned(draft: models.IdList, form: PreviewForm) -> Preview:
    asked = form.cleaned_data
    queue = asked["queue"]
    rpm = asked["rpm"] or queue.rpm
    at = store.now()
    # Never saved: what the slider asks is only a picture.
    imagined = copy(queue)
    imagined.rpm, imagined.headroom = rpm, min(queue.headroom, rpm - 1)
    plan = placement.plan(imagined, draft.ids_count, at=at, not_before=asked["not_before"])
    refusal = ""
    try:
        placement.check(imagined, plan, at=at, allow_peak=False)
    except PlanRefused as error:
        refusal = str(error)
    return Preview(draft, queue, rpm, plan, asked["not_before"], refusal, at)


def _commit(request: OperatorRequest, draft: models.IdList) -> HttpResponse:
    form = PreviewForm(request.POST, draft=draft)
    if not form.is_valid():
        raise BadRequest(" ".join(f"{name}: {' '.join(said)}" for name, said in form.errors.items()))
    asked = form.cleaned_data
    about = draft.about

    def confirm(plan: placement.Plan) -> None:
        worse = asked["peak"] is not None and plan.peak_per_minute > max(asked["peak"], plan.rpm)
        later = asked["last"] is not None and plan.last_at > asked["last"]
        if worse or later:
            raise PlanWorse(plan)

    submission = intake.Submission(
        task_name=asked["task_name"] or about["task_name"],
        queue_name=asked["queue"].name,
        payload=about.get("payload"),
        column=(about.get("column") or {}).get("name") or "",
        not_before=asked["not_before"],
        allow_peak=asked["allow_peak"],
    )
    try:
        accepted = intake.accept(
            submission, draft, by=request.actor, now=store.now, render=lambda accepted: None, confirm=confirm
        )
    except PlanWorse as error:
        messages.warning(request, f"{_worse_words(error.plan)} Nothing was placed: this is the new preview.")
        return _shown(request, draft, form)
    except Refused as error:
        messages.error(request, str(error))
        return _shown(request, _draft(draft.pk), form)
    messages.success(request, _placed_words(accepted, asked))
    return redirect(addresses.task(accepted.task.pk))


def _worse_words(plan: placement.Plan) -> str:
    """The same minute as the preview says, in the operator's zone."""
    ends = timezone.localtime(plan.last_at + clock.MINUTE)
    said = f"Others came in meanwhile: a minute would now hold {plan.peak_per_minute:,} requests"
    return f"{said}, and the list would be done at {ends:%H:%M}."


def _placed_words(accepted: intake.Accepted, asked: dict) -> str:
    plan = accepted.plan
    first, last = (timezone.localtime(at) for at in (plan.first_at, plan.last_at + clock.MINUTE))
    said = f"Placed {plan.ids_count:,} IDs: from {first:%H:%M} to {last:%H:%M}"
    said += f", at most {plan.peak_per_minute:,} a minute."
    if asked["peak"] is not None and plan.peak_per_minute != asked["peak"]:
        said += f" The preview said {asked['peak']:,}: others came in or went meanwhile."
    return said


@require_POST
@operator_required
def discard(request: OperatorRequest, draft_id: int) -> HttpResponse:
    """Throw the draft away; somebody else's only when asked about it."""
    draft = get_object_or_404(models.IdList, pk=draft_id)
    if draft.about.get("operator_id") != request.user.pk and "sure" not in request.POST:
        return render(request, "dashboard/preview_discard.html", {"draft": draft, "about": draft.about})
    intake.throw_away(draft, by=request.actor, at=store.now())
    messages.info(request, "The preview is discarded. Nothing was placed.")
    return redirect("upload")


@require_safe
@operator_required
def overlap(request: OperatorRequest, draft_id: int) -> HttpResponse:
    """Which IDs are unknown, which wait elsewhere: asked for after the page, since it takes a while."""
    refuse_unknown(request, PARAMETERS)
    draft = _draft(draft_id)
    asked = _asked(request.GET)
    context = {
        "draft": draft,
        "overlap": overlaps.of_list(draft.pk),
        "asked": asked,
        "back": addresses.with_query(reverse("preview", args=[draft.pk]), **asked),
    }
    page = "dashboard/_overlap.html" if request.htmx else "dashboard/overlap.html"
    return render(request, page, context)


def _asked(given: QueryDict) -> dict[str, str]:
    """What was asked for a draft: another draft is asked the same."""
    return {name: given[name] for name in ("queue", "rpm", "not_before") if given.get(name)}


@require_POST
@operator_required
def leave_out(request: OperatorRequest, draft_id: int) -> HttpResponse:
    """A new draft without the IDs that wait in other tasks; the old one goes."""
    draft = _draft(draft_id)
    asked = _asked(request.POST)
    same = addresses.with_query(reverse("preview", args=[draft.pk]), **asked)
    try:
        with Spool(settings.SPOOL_DIR) as spool:
            left_out = overlaps.spool_without_waiting(draft, spool)
            smaller = _smaller(draft, spool, left_out) if spool.ids_count else None
    except NoSpace as error:
        messages.error(request, str(error))
        return redirect(same)
    if smaller is None:
        messages.warning(request, "All of its IDs wait in other tasks: there is nothing left to place.")
        return redirect(same)
    intake.discard(draft)
    messages.success(request, f"{left_out:,} IDs that wait in other tasks are left out.")
    return redirect(addresses.with_query(reverse("preview", args=[smaller.pk]), **asked))


def _smaller(draft: models.IdList, spool: Spool, left_out: int) -> models.IdList:
    """A draft of what is left; of the rest of what was read it says the same."""
    about = {
        name: value
        for name, value in draft.about.items()
        if name not in ("same_as_digest", "payload", "ranges")
    } | {
        "first": [str(user_id) for user_id in spool.first(3)],
        "last": [str(user_id) for user_id in spool.last(3)],
        "left_out": draft.about.get("left_out", 0) + left_out,
    }
    smaller = intake.write_draft(spool, at=store.now(), about=about)
    smaller.repeats_count = draft.repeats_count
    smaller.save(update_fields=["repeats_count"])
    return smaller


@require_safe
@operator_required
def faults(request: OperatorRequest, draft_id: int) -> StreamingHttpResponse:
    """The faults as CSV."""
    refuse_unknown(request, ())
    draft = _draft(draft_id)
    about = draft.about
    heads = ("line", "column", "index", "sheet", "cell", "token", "reason")
    rows = ([fault.get(head) for head in heads] for fault in about["faults"])
    missing = about["fault_count"] - len(about["faults"])
    return exports.csv(
        f"faults-{draft.pk}", heads, rows, cut=f"{missing} more are not kept" if missing > 0 else ""
    )
