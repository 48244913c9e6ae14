"""The activity log."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, ApiRequest
from api.endpoints import responses
from api.openapi import describe
from api.responses import json_response
from scheduling import models
from scheduling.core.clock import iso

router = Router(tags=["Activity"])


@router.get(
    "/activity/",
    auth=CAN_READ,
    response=responses(list[schemas.ActivityEntry]),
    operation_id="list_activity",
    summary="Who did what, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_activity(request: ApiRequest, filters: Query[schemas.ActivityFilter]) -> HttpResponse:
    """`since` includes the given time, `until` doesn't."""
    after = paging.read_cursor(request, filters.cursor)
    found = _filtered(filters)
    if after is not None:
        found = found.filter(pk__lt=after[0])
    rows = list(found[: filters.limit + 1])
    page = rows[: filters.limit]
    more = paging.next_link(request, [page[-1].pk]) if len(rows) > len(page) else {}
    return json_response([_entry(row) for row in page], headers=more)


def _filtered(filters: schemas.ActivityFilter) -> QuerySet[models.Activity]:
    found = models.Activity.objects.order_by("-id")
    if filters.actor is not None:
        found = found.filter(actor_name=filters.actor)
    if filters.verb is not None:
        found = found.filter(verb=filters.verb)
    if filters.object is not None:
        kind, _, key = filters.object.partition(" ")
        found = found.filter(object_kind=kind)
        if key:
            by_number = kind in NUMBERED and key.isascii() and key.isdigit() and len(key) < 19
            found = found.filter(object_id=int(key)) if by_number else found.filter(object_name=key)
    if filters.since is not None:
        found = found.filter(at__gte=filters.since)
    if filters.until is not None:
        found = found.filter(at__lt=filters.until)
    return found


# Objects that are named by their number. The others have a name that says more.
NUMBERED = ("task", "user")


def _entry(row: models.Activity) -> dict[str, Any]:
    key = row.object_id if row.object_kind in NUMBERED else row.object_name
    return {
        "id": row.pk,
        "at": iso(row.at),
        "actor": row.actor_name,
        "face": row.face,
        "verb": row.verb,
        "object": f"{row.object_kind} {key}".strip() if row.object_kind else None,
        "count": row.count,
        "before": row.before,
        "after": row.after,
    }
