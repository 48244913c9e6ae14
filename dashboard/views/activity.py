"""The activity log: who did what, when, to how many, through which interface."""

from typing import Any

from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from dashboard import exports
from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs import paging
from dashboard.inputs.filters import SIZES, ActivityFilter, page_size
from dashboard.inputs.saved import opens_saved_views
from scheduling import models
from scheduling.core.clock import iso
from scheduling.store.blocks import in_blocks

HEADS = (
    "id", "at", "actor_kind", "actor", "face", "verb", "object_kind", "object_id", "object", "count",
    "before", "after",
)  # fmt: skip


@require_safe
@viewer_required
@opens_saved_views
def activity(request: OperatorRequest) -> HttpResponseBase:
    """Show the log, newest first; with `format`, everything that matches as a file."""
    chosen = ActivityFilter.of(request)
    lines = chosen.lines()
    if export_format := request.GET.get("format"):
        return exports.named(export_format, "activity", HEADS, map(_row, in_blocks(lines)))
    size = page_size(request)
    page = paging.by_id(request, lines, size)
    return render(
        request,
        "dashboard/activity.html",
        {"page": page, "filter": chosen, "size": size, "sizes": SIZES},
    )


def _row(act: models.Activity) -> list[Any]:
    # Of a user whose ID is text, nobody is told the number.
    is_told = act.object_kind != "user" or (act.object_id or 0) >= 0
    return [
        act.pk, iso(act.at), act.actor_kind, act.actor_name, act.face, act.verb, act.object_kind,
        act.object_id if is_told else None, act.object_name, act.count, act.before, act.after,
    ]  # fmt: skip
