"""Targets with a budget: what a vendor allows, shared by all queues that send to it."""

from typing import Any

from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, CAN_WRITE, ApiRequest
from api.bodies import read_fields
from api.endpoints import WITH_BODY, responses
from api.fields import Id
from api.idempotency import key_of_fields, replayed
from api.openapi import describe, fields_body
from api.queues import effect_json
from api.responses import check_if_match, json_response, location_of, revalidated
from api.serializers import target_json
from scheduling import models, store
from scheduling.intake import idempotency
from scheduling.placement import budgets
from scheduling.queues import targets

router = Router(tags=["Targets"])
_READ_ONLY = {"id", "queues"}


@router.get(
    "/targets/",
    auth=CAN_READ,
    response=responses(list[schemas.Target]),
    operation_id="list_targets",
    summary="All targets with a budget, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_targets(request: ApiRequest, page: Query[schemas.QueuePage]) -> HttpResponse:
    """A target is the scheme, host and port of a webhook. All queues that send to it share its budget."""
    budgeted = budgets.budgeted().select_related("shared_hours")
    shown, more = paging.newest_first(request, budgeted, page)
    return revalidated(request, json_response([target_json(target) for target in shown], headers=more))


@router.post(
    "/targets/",
    auth=CAN_WRITE,
    response={200: schemas.QueueEffect} | responses(schemas.Target, 409, *WITH_BODY, status=201),
    operation_id="create_target",
    summary="Give a target a budget",
    openapi_extra=describe(
        body=fields_body(schemas.NewTarget), headers=["Idempotency-Key"], sent={201: ["Location", "ETag"]}
    ),
)
def create_target(request: ApiRequest, options: Query[schemas.QueueOptions]) -> HttpResponse:
    """Instead of `rpm`, `limit_per_60s` sets an rpm that is one less. IDs that no longer fit move to later minutes.

    With `dry_run=true` nothing is changed, and the response says what would move.
    """
    fields = read_fields(request, schemas.NewTarget, options.unknown_fields)
    values = fields.model_dump(exclude_unset=True, exclude=_READ_ONLY)
    origin = values.pop("origin")
    if options.dry_run:
        return json_response(effect_json(targets.effect_of_new(origin, values, at=store.now())))
    key = key_of_fields(request, {**values, "origin": origin})

    def create() -> dict[str, Any]:
        target = targets.create(origin=origin, fields=values, by=request.caller.actor, now=store.now)
        return {"version": target.version, "target": target_json(target)}

    created, is_repeated = idempotency.once(key, create, now=store.now)
    headers = replayed({"Location": location_of(request, created["target"]["id"])}, is_repeated)
    return json_response(created["target"], status=201, etag=str(created["version"]), headers=headers)


def find(id: int) -> models.Target:
    target = budgets.budgeted().filter(pk=id).first()
    if target is None:
        raise Http404(f"There is no target {id} with a budget.")
    return target


@router.get(
    "/targets/{id:id}/",
    auth=CAN_READ,
    response=responses(schemas.Target, 404),
    operation_id="get_target",
    summary="One target",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_target(request: ApiRequest, id: Id) -> HttpResponse:
    return revalidated(request, _shown(find(id)))


def _shown(target: models.Target) -> HttpResponse:
    return json_response(target_json(target), etag=str(target.version))


@router.patch(
    "/targets/{id:id}/",
    auth=CAN_WRITE,
    response=responses(schemas.Target | schemas.QueueEffect, 404, 412, *WITH_BODY),
    operation_id="patch_target",
    summary="Change the budget of a target",
    openapi_extra=describe(
        body=fields_body(schemas.TargetUpdate, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_target(request: ApiRequest, id: Id, options: Query[schemas.QueueOptions]) -> HttpResponse:
    """Absent fields stay as they are. IDs that no longer fit move to later minutes, as after a change of a queue's rpm.

    With `dry_run=true` nothing is changed, and the response says what would move.
    """
    target = find(id)
    fields = read_fields(request, schemas.TargetUpdate, options.unknown_fields)
    changes = fields.model_dump(exclude_unset=True, exclude=_READ_ONLY | {"origin"})
    if_version = target.version if check_if_match(request, str(target.version)) else None
    if options.dry_run:
        return json_response(effect_json(targets.effect_of(target, changes, at=store.now())))
    by = request.caller.actor
    return _shown(targets.update(target, changes, by=by, now=store.now, if_version=if_version))


@router.delete(
    "/targets/{id:id}/",
    auth=CAN_WRITE,
    response=responses(None, 404, 412, status=204),
    operation_id="delete_target",
    summary="End the budget of a target",
    openapi_extra=describe(headers=["If-Match"]),
)
def delete_target(request: ApiRequest, id: Id) -> HttpResponse:
    """From then on only the queues' own rpm applies."""
    target = find(id)
    check_if_match(request, str(target.version))
    targets.delete(target, by=request.caller.actor, now=store.now)
    return HttpResponse(status=204)
