"""Targets: their budgets, how much of each is used, and the form that sets one once its effect was shown."""

from typing import Any

from django.contrib import messages
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.inputs.parameters import refuse_unknown
from dashboard.inputs.target_form import TargetForm
from dashboard.tables import totals
from scheduling import models, store
from scheduling.core.errors import BadFields, Refused
from scheduling.placement import budgets
from scheduling.queues import targets
from scheduling.reports import budget_use


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def all_targets(request: OperatorRequest) -> HttpResponseBase:
    """Show the targets with a budget, and a form. A POST gives another target one."""
    refuse_unknown(request, ())
    if request.method == "POST":
        return _save(request, None)
    return render(request, "dashboard/targets.html", _page(TargetForm(None), None))


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def target(request: OperatorRequest, target_id: int) -> HttpResponseBase:
    """Show a target with its budget in a form. A POST changes it."""
    target = get_object_or_404(budgets.budgeted(), pk=target_id)
    refuse_unknown(request, ())
    if request.method == "POST":
        return _save(request, target)
    return render(request, "dashboard/targets.html", _page(TargetForm(target), target))


@require_POST
@operator_required
def end(request: OperatorRequest, target_id: int) -> HttpResponseBase:
    """End the budget of a target."""
    target = get_object_or_404(budgets.budgeted(), pk=target_id)
    targets.delete(target, by=request.actor, now=store.now)
    messages.success(request, f"{target.origin} has no budget any more.")
    return redirect("targets")


def _page(form: TargetForm, target: models.Target | None) -> dict[str, Any]:
    shown = budgets.budgeted() if target is None else budgets.budgeted().filter(pk=target.pk)
    uses = budget_use.of_targets(list(shown.values_list("pk", flat=True)), store.now())
    return {"form": form, "target": target, "uses": uses, "table": totals.TargetTable(uses)}


@operator_required
def _save(request: OperatorRequest, target: models.Target | None) -> HttpResponseBase:
    form = TargetForm(target, request.POST)
    if form.is_valid():
        try:
            effect = form.effect(at=store.now())
            if effect.moved_count and form.cleaned_data["moves"] is None:
                context = _page(form, target) | {"effect": effect}
                return render(request, "dashboard/targets.html", context)
            saved = form.save(by=request.actor, now=store.now)
        except BadFields as error:
            form.take(error.reasons)
        except Refused as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"The budget of {saved.origin} is saved.")
            return redirect("target", target_id=saved.pk)
    return render(request, "dashboard/targets.html", _page(form, target), status=422)
