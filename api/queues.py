"""Queues, and what operators do to them."""

from dataclasses import asdict
from typing import Any

from django.http import Http404, HttpResponse
from ninja import Query, Router

from scheduling import models, store
from scheduling.dispatch import test_request
from scheduling.queues import operations

from . import paging, schemas
from .answers import answer, below, check_match
from .auth import READERS, WRITERS, ApiRequest
from .bodies import read_fields
from .endpoints import WITH_BODY, answers
from .openapi import describe, fields_body
from .plans import moment
from .renders import queue_answer

router = Router(tags=["Queues"])


@router.get(
    "/queues/",
    auth=READERS,
    response=answers(list[schemas.Queue]),
    operation_id="list_queues",
    summary="All queues, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_queues(request: ApiRequest, page: Query[schemas.QueuePage]) -> HttpResponse:
    """Secrets are written and never read."""
    begun = paging.begin(request, page.cursor)
    found = models.Queue.objects.order_by("-pk")
    if begun is not None:
        found = found.filter(pk__lt=begun[0])
    rows = list(found[: page.limit + 1])
    shown = rows[: page.limit]
    more = {"Link": paging.link(request, [shown[-1].pk])} if len(rows) > len(shown) else {}
    return answer([queue_answer(queue) for queue in shown], **more)


@router.post(
    "/queues/",
    auth=WRITERS,
    response=answers(schemas.Queue, 409, *WITH_BODY, status=201),
    operation_id="create_queue",
    summary="Make a queue",
    openapi_extra=describe(body=fields_body(schemas.NewQueue), sent={201: ["Location", "ETag"]}),
)
def create_queue(request: ApiRequest) -> HttpResponse:
    """Only the name has to be given."""
    fields = _given(read_fields(request, schemas.NewQueue))
    name, paused = fields.pop("name"), fields.pop("paused", False)
    queue = operations.create(
        name=name, fields=fields, paused=paused, by=request.caller.actor, at=store.now()
    )
    return answer(
        queue_answer(queue), status=201, tag=str(queue.version), Location=below(request, queue.name)
    )


def _given(fields: schemas.QueueFields) -> dict[str, Any]:
    """What the body says, without what can only be read."""
    only_read = {"brake_per_minute", "date_created"}
    if isinstance(fields, schemas.PartOfQueue):
        only_read.add("name")
    return fields.model_dump(exclude_unset=True, exclude=only_read)


def find(name: str) -> models.Queue:
    queue = models.Queue.objects.filter(name=name).first()
    if queue is None:
        raise Http404(f"There is no queue {name}.")
    return queue


@router.get(
    "/queues/{queue_name:name}/",
    auth=READERS,
    response=answers(schemas.Queue, 404),
    operation_id="get_queue",
    summary="One queue",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_queue(request: ApiRequest, name: schemas.QueueName) -> HttpResponse:
    return _shown(find(name))


def _shown(queue: models.Queue) -> HttpResponse:
    return answer(queue_answer(queue), tag=str(queue.version))


@router.patch(
    "/queues/{queue_name:name}/",
    auth=WRITERS,
    response=answers(schemas.Queue, 404, 412, *WITH_BODY),
    operation_id="patch_queue",
    summary="Change a queue",
    openapi_extra=describe(
        body=fields_body(schemas.PartOfQueue, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_queue(request: ApiRequest, name: schemas.QueueName) -> HttpResponse:
    """What is absent stays. Another rpm acts on open and future windows; the running one keeps its own."""
    queue = find(name)
    changes = _given(read_fields(request, schemas.PartOfQueue))
    if_version = queue.version if check_match(request, str(queue.version)) else None
    queue = operations.update(queue, changes, by=request.caller.actor, now=store.now, if_version=if_version)
    return _shown(queue)


@router.post(
    "/queues/{queue_name:name}/pause/",
    auth=WRITERS,
    response=answers(schemas.Queue, 404, 409),
    operation_id="pause_queue",
    summary="Start nothing more",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def pause_queue(request: ApiRequest, name: schemas.QueueName) -> HttpResponse:
    """Lists are taken in and planned all the same. A queue that is paused already is a conflict."""
    return _shown(operations.pause(find(name), by=request.caller.actor, at=store.now()))


@router.post(
    "/queues/{queue_name:name}/resume/",
    auth=WRITERS,
    response=answers(schemas.Queue, 404, 409),
    operation_id="resume_queue",
    summary="Go on, at the plan's pace",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def resume_queue(request: ApiRequest, name: schemas.QueueName) -> HttpResponse:
    """What fell due meanwhile is late, and takes free places. A queue that isn't paused is a conflict."""
    return _shown(operations.resume(find(name), by=request.caller.actor, at=store.now()))


@router.post(
    "/queues/{queue_name:name}/brake/",
    auth=WRITERS,
    response=answers(schemas.Queue, 404, *WITH_BODY),
    operation_id="brake_queue",
    summary="At most so many a minute, from the next minute on",
    openapi_extra=describe(body=fields_body(schemas.Brake), sent={200: ["ETag"]}),
)
def brake_queue(request: ApiRequest, name: schemas.QueueName) -> HttpResponse:
    """In the running window too; what that makes late takes free places. `null` ends it."""
    queue = find(name)
    per_minute = read_fields(request, schemas.Brake).per_minute
    return _shown(operations.brake(queue, per_minute, by=request.caller.actor, at=store.now()))


@router.post(
    "/queues/{queue_name:name}/test/",
    auth=WRITERS,
    response=answers(schemas.Tested, 404, 409),
    operation_id="test_queue",
    summary="Send one test request",
)
def test_queue(request: ApiRequest, name: schemas.QueueName) -> HttpResponse:
    """In the next free slot of the plan; its answer is shown, not kept. None within a minute: a conflict."""
    tested = test_request.send_one(find(name), by=request.caller.actor, now=store.now)
    sent, outcome = tested.request, tested.outcome
    return answer(
        {
            "started_at": moment(tested.started_at),
            "request": {
                "user_id": sent.user_id,
                "user_id_str": str(sent.user_id),
                "task_id": sent.task_id,
                "task_name": sent.task_name,
                "queue": sent.queue,
                "planned_at": moment(sent.planned_at),
                "attempt": sent.attempt,
            },
            "sent": None if tested.sent is None else asdict(tested.sent),
            "verdict": str(outcome.verdict),
            "http_status": outcome.status,
            "answer": outcome.answer,
            "error": outcome.error,
            "duration_ms": outcome.duration_ms,
        }
    )
