"""The activity log."""

from collections.abc import Mapping
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
from scheduling.lists import external_ids
from scheduling.tasks.erasure import ERASED

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
    page, more = paging.newest_first(request, _filtered(filters), filters)
    texts = external_ids.texts(row.object_id or 0 for row in page if row.object_kind == "user")
    return json_response([_entry(row, texts) for row in page], headers=more)


def _filtered(filters: schemas.ActivityFilter) -> QuerySet[models.Activity]:
    entries = models.Activity.objects.all()
    if filters.actor is not None:
        entries = entries.filter(actor_name=filters.actor)
    if filters.verb is not None:
        entries = entries.filter(verb=filters.verb)
    if filters.object is not None:
        kind, _, key = filters.object.partition(" ")
        entries = entries.filter(object_kind=kind)
        if key:
            by_number = kind in NUMBERED and key.isascii() and key.isdigit() and len(key) < 19
            entries = entries.filter(object_id=int(key)) if by_number else entries.filter(object_name=key)
    if filters.since is not None:
        entries = entries.filter(at__gte=filters.since)
    if filters.until is not None:
        entries = entries.filter(at__lt=filters.until)
    return entries


# Objects that are named by their number. The others have a name that says more.
NUMBERED = ("task", "user")


def _entry(row: models.Activity, texts: Mapping[int, str]) -> dict[str, Any]:
    key: int | str | None = row.object_name
    if row.object_kind in NUMBERED:
        # The number of a user whose ID is text is shown nowhere else: the ID, or that it was erased.
        number = row.object_id or 0
        key = row.object_id if number >= 0 else texts.get(number, ERASED)
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
