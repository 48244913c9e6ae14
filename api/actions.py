"""Actions on IDs and targets: retry what failed, resend what succeeded, release a blocked target."""

import secrets
from datetime import datetime, timedelta

from django.http import HttpResponse
from ninja import Query, Router

from api import queues, schemas, tasks
from api.auth import CAN_WRITE, ApiRequest
from api.bodies import read_fields
from api.endpoints import WITH_BODY, responses
from api.fields import Id, QueueName
from api.openapi import describe, fields_body
from api.problems import Problem, bad_field
from api.responses import json_response
from api.serializers import queue_json, task_json
from scheduling import models, store
from scheduling.core import errors
from scheduling.dispatch import breakers
from scheduling.tasks import callbacks, failures, holds, resend

router = Router(tags=["Tasks"])

SPANS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}


@router.post(
    "/celery_ids_tasks/{id:id}/retry/",
    auth=CAN_WRITE,
    response=responses(schemas.Retried, 404, 409),
    operation_id="retry_task",
    summary="Retry the failed IDs of a task",
)
def retry_task(request: ApiRequest, id: Id, options: Query[schemas.ActionOptions]) -> HttpResponse:
    """They take free places, as automatic retries do. IDs that fail later are not included."""
    task = tasks.find(id)
    if task.cancelled_at is not None:
        raise errors.TaskCancelled
    asked = failures.FailureSelection(task_id=task.pk, at=store.now(), up_to=failures.newest())
    return _retry(request, asked, options.expect)


@router.post(
    "/celery_ids_tasks/{id:id}/resend/",
    auth=CAN_WRITE,
    response=responses(schemas.Retried, 404, 409),
    operation_id="resend_task",
    summary="Resend the IDs of a task that succeeded",
)
def resend_task(request: ApiRequest, id: Id, options: Query[schemas.ActionOptions]) -> HttpResponse:
    """They take free places. IDs that succeed later are not included."""
    task = tasks.find(id)
    if task.cancelled_at is not None:
        raise errors.TaskCancelled
    at = store.now()
    count = resend.succeeded_until(task, at=at).count()
    _check_count(count, options.expect)
    if not count:
        return _retried(0, resend.Retried(0, False))
    run = secrets.token_hex(6)
    retried = resend.resend(task, looked_at=at, number=count, run=run, by=request.caller.actor, now=store.now)
    return _retried(count, retried)


@router.post(
    "/celery_ids_tasks/{id:id}/hold/",
    auth=CAN_WRITE,
    response=responses(schemas.Task, 404, 409),
    operation_id="hold_task",
    summary="Put a task on hold",
)
def hold_task(request: ApiRequest, id: Id, options: Query[schemas.HoldOptions]) -> HttpResponse:
    """Nothing more of it starts; other tasks of the queue go on. Its places pass unused, and its IDs become late."""
    holds.hold(tasks.find(id), options.reason or "", by=request.caller.actor, now=store.now)
    return _task_response(id, at=store.now())


@router.post(
    "/celery_ids_tasks/{id:id}/continue/",
    auth=CAN_WRITE,
    response=responses(schemas.Task, 404, 409),
    operation_id="continue_task",
    summary="Continue a task that is on hold",
)
def continue_task(request: ApiRequest, id: Id) -> HttpResponse:
    """Its late IDs take free places, at the planned pace. Continuing a task that isn't on hold is a conflict."""
    holds.resume(tasks.find(id), by=request.caller.actor, now=store.now)
    return _task_response(id, at=store.now())


@router.post(
    "/celery_ids_tasks/{id:id}/call_back/",
    auth=CAN_WRITE,
    response=responses(schemas.Task, 404, 409),
    operation_id="call_back_task",
    summary="Call the queue's callback_url again for a task that is done",
)
def call_back_task(request: ApiRequest, id: Id) -> HttpResponse:
    """For a receiver that missed the call. While a call is due anyway, this is a conflict."""
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
    response=responses(schemas.TestedCallback, 404, 409),
    operation_id="test_callback",
    summary="Call the callback_url once",
    tags=["Queues"],
)
def test_callback(request: ApiRequest, name: QueueName) -> HttpResponse:
    """With a task whose number is 0. The response is shown, not kept, and nothing is retried."""
    outcome = callbacks.test(queues.find(name), by=request.caller.actor, at=store.now())
    return json_response(
        {
            "verdict": str(outcome.verdict),
            "http_status": outcome.status,
            "answer": outcome.answer,
            "error": outcome.error,
            "duration_ms": outcome.duration_ms,
        }
    )


@router.post(
    "/failures/retry/",
    auth=CAN_WRITE,
    response=responses(schemas.Retried, 409, *WITH_BODY),
    operation_id="retry_failures",
    summary="Retry the failed IDs that match a filter",
    openapi_extra=describe(body=fields_body(schemas.FailureFilter)),
)
def retry_failures(request: ApiRequest, options: Query[schemas.ActionBodyOptions]) -> HttpResponse:
    """The filter has the names of the page of failures. `{}` means all of them."""
    fields = read_fields(request, schemas.FailureFilter, options.unknown_fields)
    queue = models.Queue.objects.filter(name=fields.queue).first() if fields.queue is not None else None
    if fields.queue is not None and queue is None:
        raise bad_field("queue", f"There is no queue named {fields.queue}.")
    at = store.now()
    status = fields.status
    asked = failures.FailureSelection(
        queue_id=queue.pk if queue else None,
        task_id=fields.task,
        user_id=fields.user,
        http_status=status if isinstance(status, int) else None,
        has_no_status=status == "none",
        message=fields.message,
        since=at - SPANS[fields.last] if fields.last else None,
        at=at,
        up_to=failures.newest(),
    )
    return _retry(request, asked, options.expect)


def _retry(request: ApiRequest, asked: failures.FailureSelection, expect: int | None) -> HttpResponse:
    count = asked.count()
    _check_count(count, expect)
    if not count:
        return _retried(0, resend.Retried(0, False))
    run = secrets.token_hex(6)
    retried = resend.retry(asked, number=count, run=run, by=request.caller.actor, now=store.now)
    return _retried(count, retried)


def _check_count(found: int, expect: int | None) -> None:
    """Raise Problem (409) if the action would apply to another number of IDs than expected."""
    if expect not in (None, found):
        raise Problem("count-changed", f"Nothing was done: {found:,} match now, not {expect:,}.", found=found)


def _retried(count: int, retried: resend.Retried) -> HttpResponse:
    """`done` is how many are waiting again already; a job continues with the rest."""
    done = count if not retried.continues else retried.ids_count
    return json_response({"ids": count, "done": done, "is_finished": not retried.continues})


@router.post(
    "/queues/{queue_name:name}/release/",
    auth=CAN_WRITE,
    response=responses(schemas.Queue, 404, 409),
    operation_id="release_queue",
    summary="Release the target of a queue",
    tags=["Queues"],
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def release_queue(request: ApiRequest, name: QueueName) -> HttpResponse:
    """Close its circuit breaker and end its Retry-After. Releasing a target that is not blocked is a conflict."""
    queue = queues.find(name)
    at = store.now()
    target = breakers.of_queue(queue, at=at)
    if target is None:
        raise Problem("conflict", f"Nothing blocks the target of the queue {queue.name}.")
    breakers.release(target, by=request.caller.actor, at=at)
    return json_response(queue_json(queue), etag=str(queue.version))
