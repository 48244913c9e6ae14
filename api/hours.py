"""Shared hours: sending hours with a name, which several queues and targets can use."""

from typing import Any

from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, CAN_WRITE, ApiRequest
from api.bodies import read_fields
from api.endpoints import WITH_BODY, responses
from api.fields import QueueName
from api.idempotency import key_of_fields, replayed
from api.openapi import describe, fields_body
from api.queues import effect_json
from api.responses import check_if_match, json_response, location_of, revalidated
from scheduling import models, store
from scheduling.core.clock import iso
from scheduling.intake import idempotency
from scheduling.queues import shared_hours

router = Router(tags=["Hours"])
_READ_ONLY = {"name", "queues", "targets", "date_created"}


def _json(hours: models.Hours) -> dict[str, Any]:
    return {
        "name": hours.name,
        "zone": "UTC",
        "closed": [],
        **hours.form,
        "queues": sorted(queue.name for queue in hours.queues.all()),
        "targets": sorted(target.origin for target in hours.targets.all()),
        "date_created": iso(hours.created_at),
    }


def _named(user: models.Queue | models.Target) -> dict[str, str | None]:
    is_queue = isinstance(user, models.Queue)
    return {"queue": str(user) if is_queue else None, "target": None if is_queue else str(user)}


def find(name: str) -> models.Hours:
    hours = models.Hours.objects.filter(name=name).first()
    if hours is None:
        raise Http404(f"There are no hours {name}.")
    return hours


@router.get(
    "/hours/",
    auth=CAN_READ,
    response=responses(list[schemas.SharedHours]),
    operation_id="list_hours",
    summary="All shared hours, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_hours(request: ApiRequest, page: Query[schemas.QueuePage]) -> HttpResponse:
    """Each comes with the queues and targets that use it."""
    all_hours = models.Hours.objects.prefetch_related("queues", "targets")
    shown, more = paging.newest_first(request, all_hours, page)
    return revalidated(request, json_response([_json(hours) for hours in shown], headers=more))


@router.post(
    "/hours/",
    auth=CAN_WRITE,
    response=responses(schemas.SharedHours, 409, *WITH_BODY, status=201),
    operation_id="create_hours",
    summary="Create hours that queues can share",
    openapi_extra=describe(
        body=fields_body(schemas.NewHours), headers=["Idempotency-Key"], sent={201: ["Location", "ETag"]}
    ),
)
def create_hours(request: ApiRequest, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """A queue or a target uses them once its field `hours` contains their name."""
    fields = read_fields(request, schemas.NewHours, options.unknown_fields)
    form = fields.model_dump(exclude=_READ_ONLY)
    key = key_of_fields(request, {"name": fields.name, **form})

    def create() -> dict[str, Any]:
        return _json(
            shared_hours.create(name=fields.name, form=form, by=request.caller.actor, at=store.now())
        )

    created, is_repeated = idempotency.once(key, create, now=store.now)
    headers = replayed({"Location": location_of(request, fields.name)}, is_repeated)
    return json_response(created, status=201, etag="1", headers=headers)


@router.get(
    "/hours/{queue_name:name}/",
    auth=CAN_READ,
    response=responses(schemas.SharedHours, 404),
    operation_id="get_hours",
    summary="Shared hours",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_hours(request: ApiRequest, name: QueueName) -> HttpResponse:
    return revalidated(request, _shown(find(name)))


def _shown(hours: models.Hours) -> HttpResponse:
    # Which queues and targets have them changes without another version.
    users = [f"q{queue.pk}" for queue in hours.queues.order_by("pk")]
    users += [f"t{target.pk}" for target in hours.targets.order_by("pk")]
    return json_response(_json(hours), etag="-".join([str(hours.version), *users]))


@router.patch(
    "/hours/{queue_name:name}/",
    auth=CAN_WRITE,
    response=responses(schemas.SharedHours | list[schemas.EffectOfHours], 404, 412, *WITH_BODY),
    operation_id="patch_hours",
    summary="Change shared hours",
    openapi_extra=describe(
        body=fields_body(schemas.HoursUpdate, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_hours(request: ApiRequest, name: QueueName, options: Query[schemas.QueueOptions]) -> HttpResponse:
    """This affects each queue and target that uses them like a change of its own hours. Absent fields stay as they are.

    With `dry_run=true` nothing is changed, and the response says what would move in each queue and target. The numbers
    of a target are those of all queues that send to it.
    """
    hours = find(name)
    fields = read_fields(request, schemas.HoursUpdate, options.unknown_fields)
    form = hours.form | fields.model_dump(exclude_unset=True, exclude=_READ_ONLY)
    is_matched = check_if_match(request, str(_shown(hours)["ETag"]).strip('"'))
    if options.dry_run:
        effects = shared_hours.effects_of(hours, form, at=store.now())
        return json_response([{**_named(user), **effect_json(effect)} for user, effect in effects])
    hours = shared_hours.update(
        hours, form, by=request.caller.actor, now=store.now, if_version=hours.version if is_matched else None
    )
    return _shown(hours)


@router.delete(
    "/hours/{queue_name:name}/",
    auth=CAN_WRITE,
    response=responses(None, 404, 409, 412, status=204),
    operation_id="delete_hours",
    summary="Delete shared hours that no queue and no target uses",
    openapi_extra=describe(headers=["If-Match"]),
)
def delete_hours(request: ApiRequest, name: QueueName) -> HttpResponse:
    """While a queue or a target uses them, the response is a conflict that names it."""
    hours = find(name)
    check_if_match(request, str(_shown(hours)["ETag"]).strip('"'))
    shared_hours.delete(hours, by=request.caller.actor, at=store.now())
    return HttpResponse(status=204)
