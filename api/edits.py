"""Changing tasks: rename, replace the list, cancel."""

from typing import Any

from django.http import HttpResponse
from ninja import Query

from api import schemas
from api.auth import CAN_WRITE, ApiRequest
from api.endpoints import WITH_BODY, responses
from api.fields import Id
from api.openapi import EDIT_BODY, EDIT_BODY_WITH_ID, describe
from api.plans import plan_json
from api.problems import bad_field
from api.responses import check_if_match, json_response
from api.serializers import task_json
from api.submissions import (
    fields_of,
    read_list,
    refuse_faults,
    stored_column,
    stored_payload,
)
from api.tasks import find, router
from scheduling import models, store
from scheduling.core import errors, id_tokens, stopping
from scheduling.lists.record_lists import source_of
from scheduling.tasks import cancellation, edits

_EDITED = responses(schemas.Task | schemas.Replaced, 404, 409, 412, *WITH_BODY)


@router.put(
    "/celery_ids_tasks/{id:id}/",
    auth=CAN_WRITE,
    response=_EDITED,
    operation_id="put_task",
    summary="Rename a task, or replace its list",
    openapi_extra=describe(body=EDIT_BODY, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}),
)
@router.patch(
    "/celery_ids_tasks/{id:id}/",
    auth=CAN_WRITE,
    response=_EDITED,
    operation_id="patch_task",
    summary="Rename a task, or replace its list",
    openapi_extra=describe(body=EDIT_BODY, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}),
)
def edit_task(request: ApiRequest, id: Id, options: Query[schemas.EditOptions]) -> HttpResponse:
    """A `payload` that is null or absent changes nothing. With a new one, IDs in both lists keep their places."""
    find(id)
    return edit(request, options, id)


@router.put(
    "/celery_ids_tasks/",
    auth=CAN_WRITE,
    response=_EDITED,
    operation_id="put_task_by_body",
    summary="Rename a task, or replace its list, with its id in the body",
    openapi_extra=describe(
        body=EDIT_BODY_WITH_ID, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}
    ),
)
@router.patch(
    "/celery_ids_tasks/",
    auth=CAN_WRITE,
    response=_EDITED,
    operation_id="patch_task_by_body",
    summary="Rename a task, or replace its list, with its id in the body",
    openapi_extra=describe(
        body=EDIT_BODY_WITH_ID, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}
    ),
)
def edit_by_body(request: ApiRequest, options: Query[schemas.EditOptions]) -> HttpResponse:
    """Clients of the old service send it in this form."""
    return edit(request, options, None)


def edit(request: ApiRequest, options: schemas.EditOptions, task_id: int | None) -> HttpResponse:
    """Read what changes, and change it: the list, the name, or neither."""
    id_type = None if task_id is None else find(task_id).id_type
    # If the path names the task, an id in the body is read-only.
    id_type_of = _id_type_of if task_id is None else None
    with read_list(
        request, options, payload_optional=True, id_type=id_type, id_type_of=id_type_of
    ) as reading:
        fields = fields_of(request, reading, options)
        number = task_id if task_id is not None else fields.id
        if number is None:
            raise bad_field("id", "Which task to change is missing.")
        task = find(number)
        matched = check_if_match(request, str(task.version))
        _check_fixed_fields(task, fields)
        if reading.ids_count and reading.id_type != task.id_type:
            raise bad_field("id_type", f"The IDs of this task are of the type {task.id_type}.")
        refuse_faults(reading, options.on_error)
        if_version = task.version if matched else None
        if not reading.ids_count or _is_no_change(task, stored_payload(reading)):
            return _rename(request, task, fields.task_name, if_version)
        replaced = edits.replace(
            task,
            source_of(reading),
            name=fields.task_name,
            payload=stored_payload(reading),
            column=stored_column(reading),
            allow_peak=options.allow_peak,
            expect=options.expect,
            if_version=if_version,
            by=request.caller.actor,
            now=store.now,
        )
    return _replaced(find(number), replaced)


def _id_type_of(task_id: str) -> str | None:
    """Return the id_type of the task that a body names; None for what is no task."""
    number = id_tokens.read(task_id).id
    return models.Task.objects.filter(pk=number or 0).values_list("id_type", flat=True).first()


def _check_fixed_fields(task: models.Task, fields: schemas.ListFields) -> None:
    """Raise OtherQueue or Problem (422) if the body changes what an edit can't change."""
    if fields.queue not in (None, task.queue.name):
        raise errors.OtherQueue
    if fields.start is not None:
        raise bad_field("start", "Only a new list can choose it.")
    fixed_fields = {
        "not_before": task.not_before_at,
        "expires_at": task.expires_at,
        "deadline": task.deadline_at,
        "max_failed_percent": task.max_failed_percent,
        "min_finished": task.min_finished,
        "canary": _canary_of(task),
        "reference": task.reference or None,
    }
    for name, fixed in fixed_fields.items():
        if getattr(fields, name) not in (None, fixed):
            raise bad_field(name, "It can't be changed. Cancel the task and submit the list again.")


def _canary_of(task: models.Task) -> stopping.Canary | None:
    return None if task.canary_ids is None else stopping.Canary(task.canary_ids, task.canary_percent or 0)


def _rename(request: ApiRequest, task: models.Task, name: str | None, if_version: int | None) -> HttpResponse:
    if name is not None and name != task.name:
        edits.rename(task, name, by=request.caller.actor, at=store.now(), if_version=if_version)
    task = find(task.pk)
    return json_response(task_json(task, at=store.now()), etag=str(task.version))


def _is_no_change(task: models.Task, payload: Any) -> bool:
    """Return whether a list that can't be replaced was sent back unchanged, which must not prevent a rename."""
    fixed = task.cancelled_at is not None or task.placed_at is None
    return fixed and payload is not None and payload == task.payload


def _replaced(task: models.Task, replaced: Any) -> HttpResponse:
    return json_response(
        {
            "task": task_json(task, at=store.now()),
            "plan": plan_json(replaced.plan),
            **{
                name: getattr(replaced, name)
                for name in ("kept", "added", "cancelled", "already_sent", "in_flight")
            },
        },
        etag=str(task.version),
    )


@router.delete(
    "/celery_ids_tasks/{id:id}/",
    auth=CAN_WRITE,
    response=responses(schemas.Cancelled, 404, 412),
    operation_id="cancel_task",
    summary="Cancel what has not been sent yet",
    openapi_extra=describe(headers=["If-Match"]),
)
def cancel_task(request: ApiRequest, id: Id) -> HttpResponse:
    """The record is kept. Repeating it gives the same response."""
    task = find(id)
    matched = check_if_match(request, str(task.version))
    counts = cancellation.cancel(
        task, by=request.caller.actor, now=store.now, if_version=task.version if matched else None
    )
    return json_response(dict(counts))
