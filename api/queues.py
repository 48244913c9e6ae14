"""Queues, and the actions on them."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, CAN_WRITE, ApiRequest, sees_data
from api.bodies import read_fields, read_optional, why
from api.endpoints import WITH_BODY, responses
from api.fields import QueueName
from api.idempotency import key_of_fields, replayed
from api.ids import id_json
from api.openapi import describe, fields_body
from api.responses import check_if_match, json_response, location_of, revalidated
from api.serializers import outcome_json, queue_json
from scheduling import models, store
from scheduling.core.clock import iso
from scheduling.dispatch import test_request
from scheduling.intake import idempotency
from scheduling.queues import effects, operations

router = Router(tags=["Queues"])


@router.get(
    "/queues/",
    auth=CAN_READ,
    response=responses(list[schemas.Queue]),
    operation_id="list_queues",
    summary="All queues, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_queues(request: ApiRequest, page: Query[schemas.QueuePage]) -> HttpResponse:
    """Secrets can be written but not read."""
    queues = models.Queue.objects.select_related("shared_hours")
    shown, more = paging.newest_first(request, queues, page)
    return revalidated(request, json_response([queue_json(queue) for queue in shown], headers=more))


@router.post(
    "/queues/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue, 409, *WITH_BODY, status=201),
    operation_id="create_queue",
    summary="Create a queue",
    openapi_extra=describe(
        body=fields_body(schemas.NewQueue), headers=["Idempotency-Key"], sent={201: ["Location", "ETag"]}
    ),
)
def create_queue(request: ApiRequest, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Only the name is required."""
    fields = _values(read_fields(request, schemas.NewQueue, options.unknown_fields))
    key = key_of_fields(request, fields)
    name, paused = fields.pop("name"), fields.pop("paused", False)

    def create() -> dict[str, Any]:
        queue = operations.create(
            name=name, fields=fields, paused=paused, by=request.caller.actor, at=store.now()
        )
        return {"version": queue.version, "queue": queue_json(queue)}

    created, is_repeated = idempotency.once(key, create, now=store.now)
    headers = replayed({"Location": location_of(request, name)}, is_repeated)
    return json_response(created["queue"], status=201, etag=str(created["version"]), headers=headers)


def _values(fields: schemas.QueueFields) -> dict[str, Any]:
    """Return the fields that the body sets, without the read-only ones."""
    read_only = {"brake_per_minute", "note", "date_created"}
    if isinstance(fields, schemas.QueueUpdate):
        read_only.add("name")
    return fields.model_dump(exclude_unset=True, exclude=read_only)


def find(name: str) -> models.Queue:
    queue = models.Queue.objects.select_related("shared_hours").filter(name=name).first()
    if queue is None:
        raise Http404(f"There is no queue {name}.")
    return queue


@router.get(
    "/queues/{queue_name:name}/",
    auth=CAN_READ,
    response=responses(schemas.Queue, 404),
    operation_id="get_queue",
    summary="One queue",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_queue(request: ApiRequest, name: QueueName) -> HttpResponse:
    return revalidated(request, _shown(find(name)))


def _shown(queue: models.Queue) -> HttpResponse:
    return json_response(queue_json(queue), etag=str(queue.version))


@router.patch(
    "/queues/{queue_name:name}/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue | schemas.QueueEffect, 404, 412, *WITH_BODY),
    operation_id="patch_queue",
    summary="Change a queue",
    openapi_extra=describe(
        body=fields_body(schemas.QueueUpdate, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_queue(request: ApiRequest, name: QueueName, options: Query[schemas.QueueOptions]) -> HttpResponse:
    """Absent fields stay as they are. A new rpm applies to open and future windows, new hours and ramps to future ones.

    With `dry_run=true` nothing is changed, and the response says what would move.
    """
    queue = find(name)
    changes = _values(read_fields(request, schemas.QueueUpdate, options.unknown_fields))
    if_version = queue.version if check_if_match(request, str(queue.version)) else None
    if options.dry_run:
        return json_response(effect_json(operations.effect_of(queue, changes, at=store.now())))
    queue = operations.update(queue, changes, by=request.caller.actor, now=store.now, if_version=if_version)
    return _shown(queue)


def effect_json(effect: effects.Effect) -> dict[str, Any]:
    loads = {
        name: {"peak_per_minute": load.peak, "over": load.over_count, "done_at": iso(load.ends_at)}
        for name, load in (("before", effect.before), ("after", effect.after))
    }
    share = effect.share
    of_share = share and {
        "percent": share.percent,
        "ids": share.ids_count,
        "places_left": share.left,
        "done_at": iso(share.ends_at),
        "done_at_without": iso(share.ends_at_without),
    }
    return {"moved": effect.moved_count, **loads, "share": of_share}


@router.delete(
    "/queues/{queue_name:name}/",
    auth=CAN_WRITE,
    response=responses(None, 404, 409, 412, status=204),
    operation_id="delete_queue",
    summary="Delete a queue without tasks",
    openapi_extra=describe(headers=["If-Match"]),
)
def delete_queue(request: ApiRequest, name: QueueName) -> HttpResponse:
    """Only a queue that never had a task can be deleted. The queue `default` always stays."""
    queue = find(name)
    check_if_match(request, str(queue.version))
    operations.delete(queue, by=request.caller.actor, at=store.now())
    return HttpResponse(status=204)


@router.post(
    "/queues/{queue_name:name}/pause/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue, 404, 409, *WITH_BODY),
    operation_id="pause_queue",
    summary="Pause a queue",
    openapi_extra=describe(body=fields_body(schemas.Why) | {"required": False}, sent={200: ["ETag"]}),
)
def pause_queue(request: ApiRequest, name: QueueName, options: Query[schemas.HoldOptions]) -> HttpResponse:
    """Lists are still accepted and planned. Pausing a paused queue is a conflict. `reason` is shown on the board."""
    reason = why(request, options)
    return _shown(operations.pause(find(name), reason, by=request.caller.actor, at=store.now()))


@router.post(
    "/queues/{queue_name:name}/resume/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue, 404, 409, *WITH_BODY),
    operation_id="resume_queue",
    summary="Resume a queue at the planned pace",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def resume_queue(request: ApiRequest, name: QueueName, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """IDs that fell due during the pause are late and take free places. Resuming a running queue is a conflict."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    return _shown(operations.resume(find(name), by=request.caller.actor, at=store.now()))


@router.post(
    "/queues/{queue_name:name}/brake/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue, 404, *WITH_BODY),
    operation_id="brake_queue",
    summary="Limit the requests per minute, from the next minute on",
    openapi_extra=describe(body=fields_body(schemas.Brake), sent={200: ["ETag"]}),
)
def brake_queue(request: ApiRequest, name: QueueName, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """This includes the running window. IDs that it makes late take free places. `null` ends it."""
    queue = find(name)
    fields = read_fields(request, schemas.Brake, options.unknown_fields)
    reason = fields.reason or ""
    return _shown(operations.brake(queue, fields.per_minute, reason, by=request.caller.actor, at=store.now()))


@router.post(
    "/queues/{queue_name:name}/rotate_secret/",
    auth=CAN_WRITE,
    response=responses(schemas.RotatedSecret, 404, *WITH_BODY),
    operation_id="rotate_secret",
    summary="Replace the secret that signs requests",
    openapi_extra=describe(body=fields_body(schemas.RotateSecret)),
)
def rotate_secret(request: ApiRequest, name: QueueName, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """During the overlap, requests carry a signature by each secret. Only this response shows the new one."""
    queue, at = find(name), store.now()
    fields = read_fields(request, schemas.RotateSecret, options.unknown_fields)
    secret = operations.rotate_secret(
        queue, fields.secret, overlap_seconds=fields.overlap_seconds, by=request.caller.actor, at=at
    )
    until = at + timedelta(seconds=fields.overlap_seconds)
    return json_response({"webhook_secret": secret, "previous_until": iso(until)})


@router.post(
    "/queues/{queue_name:name}/test/",
    auth=CAN_WRITE,
    response=responses(schemas.Tested, 404, 409, *WITH_BODY),
    operation_id="test_queue",
    summary="Send one test request",
    openapi_extra=describe(body=fields_body(schemas.TestId) | {"required": False}),
)
def test_queue(request: ApiRequest, name: QueueName, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """It is sent in the next free slot of the plan; if none is free within a minute, this is a conflict. The target's
    response is shown, and not stored.

    The body is optional. Without `data`, the data of the ID's latest list in the queue are sent.
    """
    queue = find(name)
    test_id = read_optional(request, schemas.TestId, options.unknown_fields)
    id_type = "integer" if test_id.id_type is None and isinstance(test_id.id, int) else test_id.id_type
    example = test_request.ExampleId.of(queue, str(test_id.id), test_id.data, id_type=id_type)
    tested = test_request.send_one(queue, by=request.caller.actor, now=store.now, example=example)
    sent, shown = tested.request, tested.sent_for(sees_data=sees_data(request.caller))
    return json_response(
        {
            "started_at": iso(tested.started_at),
            "request": {
                **id_json(sent.user_id, sent.external_id),
                "task_id": sent.task_id,
                "task_name": sent.task_name,
                "queue": sent.queue,
                "planned_at": iso(sent.planned_at),
                "attempt": sent.attempt,
            },
            "sent": None if shown is None else asdict(shown),
            **outcome_json(tested.outcome),
        }
    )
