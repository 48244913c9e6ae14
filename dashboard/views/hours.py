"""Shared hours: sending hours with a name, which queues and targets can have in common."""

from typing import Any

from django.contrib import messages
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.inputs.parameters import refuse_unknown
from dashboard.inputs.queue_settings import HoursForm, NewHoursForm
from scheduling import models, store
from scheduling.core.errors import BadFields, Refused
from scheduling.queues import shared_hours
from scheduling.queues.effects import Effect


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def all_hours(request: OperatorRequest) -> HttpResponseBase:
    """Show all shared hours with what has them, and a form for others."""
    refuse_unknown(request, ())
    if request.method == "POST":
        return _create(request)
    return render(request, "dashboard/hours_list.html", _list(NewHoursForm(label_suffix="")))


def _list(form: NewHoursForm) -> dict[str, Any]:
    return {"hours": models.Hours.objects.prefetch_related("queues", "targets"), "form": form}


@operator_required
def _create(request: OperatorRequest) -> HttpResponseBase:
    form = NewHoursForm(request.POST, label_suffix="")
    if form.is_valid():
        try:
            hours = shared_hours.create(
                name=form.cleaned_data["name"],
                form=form.cleaned_data["hours"],
                by=request.actor,
                at=store.now(),
            )
        except (BadFields, Refused) as error:
            form.take(error)
        else:
            messages.success(
                request, f"The hours {hours.name} can be chosen in the settings of each queue and target."
            )
            return redirect("hours")
    return render(request, "dashboard/hours_list.html", _list(form), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def one_hours(request: OperatorRequest, name: str) -> HttpResponseBase:
    """Show shared hours. A POST changes them for all their queues, or deletes them."""
    hours = get_object_or_404(models.Hours, name=name)
    refuse_unknown(request, ())
    if request.method == "POST":
        return _delete(request, hours) if "delete" in request.POST else _change(request, hours)
    return _page(request, hours, HoursForm(hours))


def _page(
    request: OperatorRequest,
    hours: models.Hours,
    form: HoursForm,
    effects: list[tuple[models.Queue | models.Target, Effect]] | None = None,
    status: int = 200,
) -> HttpResponseBase:
    context = {
        "shared_hours": hours,
        "form": form,
        "queues": hours.queues.order_by("name"),
        "targets": hours.targets.order_by("origin"),
        "effects": effects,
        "moved": sum(effect.moved_count for _, effect in effects or ()),
    }
    return render(request, "dashboard/hours.html", context, status=status)


@operator_required
def _change(request: OperatorRequest, hours: models.Hours) -> HttpResponseBase:
    """Show what the change would move in each queue and target; then change them."""
    form = HoursForm(hours, request.POST)
    if form.is_valid():
        choices = form.cleaned_data
        try:
            if choices["moves"] is None:
                effects = shared_hours.effects_of(hours, choices["hours"], at=store.now())
                if any(effect.moved_count for _, effect in effects):
                    return _page(request, hours, form, effects)
            shared_hours.update(
                hours, choices["hours"], by=request.actor, now=store.now, if_version=choices["version"]
            )
        except (BadFields, Refused) as error:
            form.take(error)
        else:
            messages.success(request, f"Saved. All queues and targets with the hours {hours.name} have them.")
            return redirect("one_hours", name=hours.name)
    return _page(request, hours, form, status=422)


@operator_required
def _delete(request: OperatorRequest, hours: models.Hours) -> HttpResponseBase:
    try:
        shared_hours.delete(hours, by=request.actor, at=store.now())
    except Refused as error:
        messages.error(request, str(error))
        return redirect("one_hours", name=hours.name)
    messages.success(request, f"The hours {hours.name} are deleted.")
    return redirect("hours")
