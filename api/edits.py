"""Tasks, changed: renamed, replaced, cancelled."""

from typing import Any

from django.http import HttpResponse
from ninja import Query

from scheduling import models, store
from scheduling.core import errors
from scheduling.tasks import edits

from . import schemas
from .answers import answer, check_match
from .auth import WRITERS, ApiRequest
from .endpoints import WITH_BODY, answers
from .openapi import EDIT_BODY, EDIT_BODY_WITH_ID, describe
from .plans import plan_answer
from .problems import bad_field
from .renders import task_answer
from .submissions import column_name, fields_of, payload_kept, read_list, refuse_faults
from .tasks import find, router

_EDITED = answers(schemas.Task | schemas.Replaced, 404, 409, 412, *WITH_BODY)


@router.put(
    "/celery_ids_tasks/{id:id}/",
    auth=WRITERS,
    response=_EDITED,
    operation_id="put_task",
    summary="Rename a task, or give it a new list",
    openapi_extra=describe(body=EDIT_BODY, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}),
)
@router.patch(
    "/celery_ids_tasks/{id:id}/",
    auth=WRITERS,
    response=_EDITED,
    operation_id="patch_task",
    summary="Rename a task, or give it a new list",
    openapi_extra=describe(body=EDIT_BODY, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}),
)
def edit_task(request: ApiRequest, id: schemas.Id, options: Query[schemas.EditOptions]) -> HttpResponse:
    """A `payload` that is null or absent changes nothing. With a new one, IDs in both keep their places."""
    find(id)
    return edit(request, options, id)


@router.put(
    "/celery_ids_tasks/",
    auth=WRITERS,
    response=_EDITED,
    operation_id="put_task_by_body",
    summary="The same, with the task's id in the body",
    openapi_extra=describe(
        body=EDIT_BODY_WITH_ID, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}
    ),
)
@router.patch(
    "/celery_ids_tasks/",
    auth=WRITERS,
    response=_EDITED,
    operation_id="patch_task_by_body",
    summary="The same, with the task's id in the body",
    openapi_extra=describe(
        body=EDIT_BODY_WITH_ID, headers=["If-Match"], sent={200: ["ETag"], 409: ["Retry-After"]}
    ),
)
def edit_by_body(request: ApiRequest, options: Query[schemas.EditOptions]) -> HttpResponse:
    """As clients of the old service send it."""
    return edit(request, options, None)


def edit(request: ApiRequest, options: schemas.EditOptions, task_id: int | None) -> HttpResponse:
    """Read what is to change and change it: the list, the name, or neither."""
    with read_list(request, options, payload_optional=True) as reading:
        fields = fields_of(reading, options)
        # In an address that names the task, an id in the body can only be read.
        number = task_id if task_id is not None else fields.id
        if number is None:
            raise bad_field("id", "say which task it is about")
        task = find(number)
        matched = check_match(request, str(task.version))
        if fields.queue not in (None, task.queue.name):
            raise errors.OtherQueue
        for name, fixed in (("not_before", task.not_before_at), ("expires_at", task.expires_at)):
            if getattr(fields, name) not in (None, fixed):
                raise bad_field(name, "it can't be changed; cancel the task and send the list again")
        refuse_faults(reading, options.on_error)
        if_version = task.version if matched else None
        by = request.caller.actor
        if reading.spool is None or _is_no_change(task, payload_kept(reading)):
            if fields.task_name not in (None, task.name):
                edits.rename(task, fields.task_name, by=by, at=store.now(), if_version=if_version)
            task = find(number)
            return answer(task_answer(task, at=store.now()), tag=str(task.version))
        replaced = edits.replace(
            task,
            reading.spool,
            name=fields.task_name,
            payload=payload_kept(reading),
            column=column_name(reading) or "",
            allow_peak=options.allow_peak,
            expect=options.expect,
            if_version=if_version,
            by=by,
            now=store.now,
        )
    return _replaced(find(number), replaced)


def _is_no_change(task: models.Task, payload: Any) -> bool:
    """Whether it is what GET gave, where the list can't be replaced: a rename must still go through."""
    fixed = task.cancelled_at is not None or task.placed_at is None
    return fixed and payload is not None and payload == task.payload


def _replaced(task: models.Task, replaced: Any) -> HttpResponse:
    return answer(
        {
            "task": task_answer(task, at=store.now()),
            "plan": plan_answer(replaced.plan),
            **{
                name: getattr(replaced, name)
                for name in ("kept", "added", "cancelled", "already_sent", "in_flight")
            },
        },
        tag=str(task.version),
    )


@router.delete(
    "/celery_ids_tasks/{id:id}/",
    auth=WRITERS,
    response=answers(schemas.Cancelled, 404, 412),
    operation_id="cancel_task",
    summary="Cancel what was not sent yet",
    openapi_extra=describe(headers=["If-Match"]),
)
def cancel_task(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """The record stays. Once more: the same answer."""
    task = find(id)
    matched = check_match(request, str(task.version))
    counts = edits.cancel(
        task, by=request.caller.actor, now=store.now, if_version=task.version if matched else None
    )
    return answer(dict(counts))
