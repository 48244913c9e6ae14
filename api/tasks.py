"""Reading tasks: the lists that were submitted, and their progress."""

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, ApiRequest
from api.endpoints import responses
from api.fields import Id
from api.openapi import describe
from api.problems import bad_parameter
from api.responses import json_response
from api.serializers import STATES, task_json
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.clock import iso
from scheduling.reports import id_history

# Submissions and edits have the same paths, and therefore use the same router.
router = Router(tags=["Tasks"])


@router.get(
    "/celery_ids_tasks/",
    auth=CAN_READ,
    response=responses(list[schemas.TaskInList]),
    operation_id="list_tasks",
    summary="All tasks, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_tasks(request: ApiRequest, filters: Query[schemas.TaskFilter]) -> HttpResponse:
    """Without their payloads. `created_after` includes the given time, `created_before` doesn't."""
    at = store.now()
    after = paging.read_cursor(request, filters.cursor)
    # All pages use the states at the time of the first: a task whose state changes meanwhile is not skipped.
    last_id, as_of = (after[0], datetime.fromisoformat(after[1])) if after else (None, at)
    tasks = filtered(filters, as_of=as_of)
    if last_id is not None:
        tasks = tasks.filter(pk__lt=last_id)
    rows = list(tasks.order_by("-pk")[: filters.limit + 1])
    page = rows[: filters.limit]
    more = paging.next_link(request, [page[-1].pk, as_of.isoformat()]) if len(rows) > len(page) else {}
    return json_response([task_json(task, at=at, payload=False) for task in page], headers=more)


def filtered(filters: schemas.TaskFilter, *, as_of: datetime) -> QuerySet[models.Task]:
    """Return the tasks that match the filters. Raises Problem (400) for a queue that doesn't exist."""
    tasks = models.Task.objects.select_related("queue").defer("payload")
    if filters.id is not None:
        tasks = tasks.filter(pk__in=[int(word) for word in filters.id.split(",")])
    if filters.state is not None:
        condition = Q(pk__in=[])
        for state in _states(filters.state):
            condition |= _had_state(state, as_of)
        tasks = tasks.filter(condition)
    if filters.queue is not None:
        queue = models.Queue.objects.filter(name=filters.queue).first()
        if queue is None:
            raise bad_parameter("queue", f"There is no queue named {filters.queue}.")
        tasks = tasks.filter(queue=queue)
    if filters.task_name is not None:
        tasks = tasks.filter(name=filters.task_name)
    if filters.reference is not None:
        tasks = tasks.filter(reference=filters.reference)
    if filters.created_after is not None:
        tasks = tasks.filter(created_at__gte=filters.created_after)
    if filters.created_before is not None:
        tasks = tasks.filter(created_at__lt=filters.created_before)
    return tasks


def _states(words: str) -> list[models.TaskState]:
    """Return the states that are meant, of which there may be several. Raises Problem (400)."""
    names = [state.value for state in models.TaskState]
    for word in words.split(","):
        if word not in names:
            raise bad_parameter("state", f"{word[:40]!r} is none of {', '.join(names)}.")
    return [models.TaskState(word) for word in words.split(",")]


def _had_state(state: models.TaskState, at: datetime) -> Q:
    """Express `Task.state_at` as a condition. `at` may be in the past, since each column is a time or null."""
    cancelled, finished, placed = (
        Q(**{f"{name}_at__lte": at}) for name in ("cancelled", "finished", "placed")
    )
    started = Q(first_minute_at__lte=at)
    return {
        models.TaskState.CANCELLED: cancelled,
        models.TaskState.DONE: ~cancelled & finished,
        models.TaskState.PLACING: ~cancelled & ~finished & ~placed,
        models.TaskState.PLACED: ~cancelled & ~finished & placed & ~started,
        models.TaskState.RUNNING: ~cancelled & ~finished & placed & started,
    }[state]


def find(task_id: int) -> models.Task:
    task: models.Task | None = models.Task.objects.select_related("queue").filter(pk=task_id).first()
    if task is None:
        raise Http404(f"There is no task {task_id}.")
    return task


@router.get(
    "/celery_ids_tasks/{id:id}/",
    auth=CAN_READ,
    response=responses(schemas.Task, 404),
    operation_id="get_task",
    summary="One task",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_task(request: ApiRequest, id: Id) -> HttpResponse:
    """With its payload if it has at most 1,000 IDs."""
    task = find(id)
    return json_response(task_json(task, at=store.now()), etag=str(task.version))


@router.get(
    "/celery_ids_tasks/{id:id}/distribution/",
    auth=CAN_READ,
    response=responses(list[schemas.WindowOfTask], 404),
    operation_id="get_distribution",
    summary="How many of a task's IDs are in each minute, and what became of them",
)
def get_distribution(request: ApiRequest, id: Id) -> HttpResponse:
    """The windows in which the task has or had IDs, in chronological order."""
    task = find(id)
    at = store.now()
    windows: dict[int, list[id_history.MinuteOfTask]] = {}
    for minute in id_history.distribution(task):
        windows.setdefault(keys.window_of_bucket(minute.bucket_id), []).append(minute)
    return json_response([_window_of_task(window, minutes, at) for window, minutes in windows.items()])


def _window_of_task(window_id: int, minutes: list[id_history.MinuteOfTask], at: datetime) -> dict[str, Any]:
    starts_at = keys.starts_at_of_window(window_id)
    names = ("ids", *STATES, "moved")
    return {
        "id": window_id,
        "starts_at": iso(starts_at),
        "label": clock.label(starts_at),
        "state": clock.state(starts_at, at).value,
        "buckets": [
            {
                "bucket": keys.index_of_bucket(minute.bucket_id),
                "minute": iso(keys.minute_of_bucket(minute.bucket_id)),
                **{name: getattr(minute, name) for name in names},
            }
            for minute in minutes
        ],
    }
