"""Actions on IDs and targets: retry what failed, resend what succeeded, release a blocked target."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from ninja import Query, Router

from api import queues, schemas, tasks
from api.auth import CAN_WRITE, ApiRequest
from api.bodies import read_fields, read_optional, why
from api.endpoints import WITH_BODY, responses
from api.fields import Id, QueueName
from api.idempotency import key_of_fields, replayed
from api.openapi import describe, fields_body
from api.problems import Problem, bad_field
from api.responses import json_response
from api.serializers import outcome_json, queue_json, task_json
from scheduling import models, store
from scheduling.core import errors
from scheduling.dispatch import breakers
from scheduling.intake import idempotency
from scheduling.lists import external_ids
from scheduling.tasks import callbacks, failures, holds, resend

router = Router(tags=["Tasks"])

NOTHING = resend.Retried(0, False)
SPANS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}


@router.post(
    "/celery_ids_tasks/{id:id}/retry/",
    auth=CAN_WRITE,
    response=responses(schemas.Retried, 404, 409, *WITH_BODY),
    operation_id="retry_task",
    summary="Retry the failed IDs of a task",
    openapi_extra=describe(headers=["Idempotency-Key"]),
)
def retry_task(request: ApiRequest, id: Id, options: Query[schemas.ActionOptions]) -> HttpResponse:
    """They take free places, as automatic retries do. IDs that fail later are not included."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    task = tasks.find(id)
    if task.cancelled_at is not None:
        raise errors.TaskCancelled
    selection = failures.FailureSelection(task_id=task.pk, at=store.now(), up_to=failures.newest())
    return _retry(request, selection, options.expect)


@router.post(
    "/celery_ids_tasks/{id:id}/resend/",
    auth=CAN_WRITE,
    response=responses(schemas.Retried, 404, 409, *WITH_BODY),
    operation_id="resend_task",
    summary="Resend the IDs of a task that succeeded",
    openapi_extra=describe(headers=["Idempotency-Key"]),
)
def resend_task(request: ApiRequest, id: Id, options: Query[schemas.ActionOptions]) -> HttpResponse:
    """They take free places. IDs that succeed later are not included."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    task = tasks.find(id)
    if task.cancelled_at is not None:
        raise errors.TaskCancelled
    at = store.now()
    return _begin(
        request,
        options.expect,
        lambda: resend.count_to_resend(task, at=at),
        lambda number, run: resend.resend(
            task, looked_at=at, number=number, run=run, by=request.caller.actor, now=store.now
        ),
    )


@router.post(
    "/celery_ids_tasks/{id:id}/hold/",
    auth=CAN_WRITE,
    response=responses(schemas.Task, 404, 409, *WITH_BODY),
    operation_id="hold_task",
    summary="Put a task on hold",
    openapi_extra=describe(body=fields_body(schemas.Why) | {"required": False}),
)
def hold_task(request: ApiRequest, id: Id, options: Query[schemas.HoldOptions]) -> HttpResponse:
    """None of its further requests start; its places pass unused, and its IDs become late. Other tasks go on."""
    task, reason = tasks.find(id), why(request, options)
    holds.hold(task, reason, by=request.caller.actor, now=store.now)
    return _task_response(id, at=store.now())


@router.post(
    "/celery_ids_tasks/{id:id}/continue/",
    auth=CAN_WRITE,
    response=responses(schemas.Task, 404, 409, *WITH_BODY),
    operation_id="continue_task",
    summary="Continue a task that is on hold",
)
def continue_task(request: ApiRequest, id: Id, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Its late IDs take free places, at the planned pace. Continuing a task that isn't on hold is a conflict."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    holds.resume(tasks.find(id), by=request.caller.actor, now=store.now)
    return _task_response(id, at=store.now())


@router.post(
    "/celery_ids_tasks/{id:id}/call_back/",
    auth=CAN_WRITE,
    response=responses(schemas.Task, 404, 409, *WITH_BODY),
    operation_id="call_back_task",
    summary="Call the queue's callback_url again for a task that is done",
)
def call_back_task(request: ApiRequest, id: Id, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Use this if the receiver missed the call. If a call is due anyway, this is a conflict."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    task = tasks.find(id)
    at = store.now()
    callbacks.call_again(task, by=request.caller.actor, at=at)
    return _task_response(id, at=at)


def _task_response(id: int, *, at: datetime) -> HttpResponse:
    """The task as it is after an action."""
    return json_response(task_json(tasks.find(id), at=at))


@router.post(
    "/queues/{queue_name:name}/test_callback/",
    auth=CAN_WRITE,
    response=responses(schemas.TestedCallback, 404, 409, *WITH_BODY),
    operation_id="test_callback",
    summary="Call the callback_url once",
    tags=["Queues"],
)
def test_callback(request: ApiRequest, name: QueueName, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """The call is for a task with the number 0. The response is shown and not stored, and nothing is retried."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    outcome = callbacks.test(queues.find(name), by=request.caller.actor, at=store.now())
    return json_response(outcome_json(outcome))


@router.post(
    "/failures/retry/",
    auth=CAN_WRITE,
    response=responses(schemas.Retried, 409, *WITH_BODY),
    operation_id="retry_failures",
    summary="Retry the failed IDs that match a filter",
    openapi_extra=describe(body=fields_body(schemas.FailureFilter), headers=["Idempotency-Key"]),
)
def retry_failures(request: ApiRequest, options: Query[schemas.ActionOptions]) -> HttpResponse:
    """The filter has the same names as on the page of failures. `{}` means all failures."""
    fields = read_fields(request, schemas.FailureFilter, options.unknown_fields)
    queue = models.Queue.objects.filter(name=fields.queue).first() if fields.queue is not None else None
    if fields.queue is not None and queue is None:
        raise bad_field("queue", f"There is no queue named {fields.queue}.")
    user_id = external_ids.number_of_written(fields.user) if isinstance(fields.user, str) else fields.user
    if fields.user is not None and user_id is None:
        raise bad_field("user", f"{fields.user} is not an ID.")
    at = store.now()
    status = fields.status
    selection = failures.FailureSelection(
        queue_id=queue.pk if queue else None,
        task_id=fields.task,
        user_id=user_id,
        http_status=status if isinstance(status, int) else None,
        has_no_status=status == "none",
        message=fields.message,
        since=at - SPANS[fields.last] if fields.last else None,
        at=at,
        up_to=failures.newest(),
    )
    return _retry(request, selection, options.expect, fields.model_dump(mode="json"))


def _retry(
    request: ApiRequest, selection: failures.FailureSelection, expect: int | None, fields: Any = None
) -> HttpResponse:
    return _begin(
        request,
        expect,
        lambda: selection.count() - len(resend.erased_failures(selection)),
        lambda number, run: resend.retry(
            selection, number=number, run=run, by=request.caller.actor, now=store.now
        ),
        fields,
    )


def _begin(
    request: ApiRequest,
    expect: int | None,
    count: Callable[[], int],
    begin: Callable[[int, str], resend.Retried],
    fields: Any = None,
) -> HttpResponse:
    """Retry or resend once for each Idempotency-Key.

    The operation is named after its key, so that one whose response was never stored is found as well.
    """
    key = key_of_fields(request, [expect, fields])
    if key is None:
        number = count()
        _check_count(number, expect)
        return json_response(_retried(number, begin(number, secrets.token_hex(6)) if number else NOTHING))
    if answer := idempotency.stored(key, at=store.now()):
        return json_response(answer.answer, headers=replayed({}, True))
    run = hashlib.sha256(f"{key.scope} {key.key} {key.fingerprint}".encode()).hexdigest()[:24]
    act = models.BulkAct.objects.filter(name=run).first()
    number = act.number if act is not None else count()
    if act is None:
        _check_count(number, expect)
    response = _retried(number, begin(number, run) if number else NOTHING)
    idempotency.once(key, lambda: response, now=store.now)
    return json_response(response, headers=replayed({}, act is not None))


def _check_count(count: int, expect: int | None) -> None:
    """Raise Problem (409) unless the action would apply to exactly as many IDs as expected."""
    if expect not in (None, count):
        raise Problem("count-changed", f"Nothing was done: {count:,} match now, not {expect:,}.", found=count)


def _retried(count: int, retried: resend.Retried) -> dict[str, Any]:
    """Return what a retry did. `done` is how many are waiting again already; a job continues with the rest."""
    return {"ids": count, "done": retried.ids_count, "is_finished": not retried.continues}


@router.post(
    "/queues/{queue_name:name}/release/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue, 404, 409, *WITH_BODY),
    operation_id="release_queue",
    summary="Release the target of a queue",
    tags=["Queues"],
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def release_queue(request: ApiRequest, name: QueueName, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Close its circuit breaker, end its Retry-After, and try its credentials. Without a block, this is a conflict."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    queue = queues.find(name)
    breakers.release_queue(queue, by=request.caller.actor, at=store.now())
    return json_response(queue_json(queue), etag=str(queue.version))
