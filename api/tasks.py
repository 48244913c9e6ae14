"""Tasks, read: the lists that were sent, and how far they are."""

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from ninja import Query, Router

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.reports import id_history

from . import paging, schemas
from .answers import answer
from .auth import READERS, ApiRequest
from .endpoints import answers
from .openapi import describe
from .plans import moment
from .problems import bad_parameter
from .renders import STATES, task_answer

# What acts on tasks has the same addresses, and so the same router: submissions, edits.
router = Router(tags=["Tasks"])


@router.get(
    "/celery_ids_tasks/",
    auth=READERS,
    response=answers(list[schemas.TaskInList]),
    operation_id="list_tasks",
    summary="All tasks, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_tasks(request: ApiRequest, filters: Query[schemas.TaskFilter]) -> HttpResponse:
    """Without their payloads. `created_after` includes its moment, `created_before` doesn't."""
    at = store.now()
    begun = paging.begin(request, filters.cursor)
    # A walk goes by the states of its beginning: a task that changes meanwhile is not left out.
    last_id, as_of = (begun[0], datetime.fromisoformat(begun[1])) if begun else (None, at)
    tasks = chosen(filters, as_of=as_of)
    if last_id is not None:
        tasks = tasks.filter(pk__lt=last_id)
    rows = list(tasks.order_by("-pk")[: filters.limit + 1])
    page = rows[: filters.limit]
    more = {"Link": paging.link(request, [page[-1].pk, as_of.isoformat()])} if len(rows) > len(page) else {}
    return answer([task_answer(task, at=at, payload=False) for task in page], **more)


def chosen(filters: schemas.TaskFilter, *, as_of: datetime) -> QuerySet[models.Task]:
    """The tasks that the filters leave. Raises Problem (400) for a queue that isn't there."""
    tasks = models.Task.objects.select_related("queue").defer("payload")
    if filters.state is not None:
        tasks = tasks.filter(_was(models.TaskState(filters.state.value), as_of))
    if filters.queue is not None:
        queue = models.Queue.objects.filter(name=filters.queue).first()
        if queue is None:
            raise bad_parameter("queue", f"there is no queue named {filters.queue}")
        tasks = tasks.filter(queue=queue)
    if filters.task_name is not None:
        tasks = tasks.filter(name=filters.task_name)
    if filters.created_after is not None:
        tasks = tasks.filter(created_at__gte=filters.created_after)
    if filters.created_before is not None:
        tasks = tasks.filter(created_at__lt=filters.created_before)
    return tasks


def _was(state: models.TaskState, at: datetime) -> Q:
    """`Task.state_at`, for a moment that may have passed: each of its columns is a moment or null."""
    cancelled, finished, placed = (
        Q(**{f"{name}_at__lte": at}) for name in ("cancelled", "finished", "placed")
    )
    begun = Q(first_minute_at__lte=at)
    return {
        models.TaskState.CANCELLED: cancelled,
        models.TaskState.DONE: ~cancelled & finished,
        models.TaskState.PLACING: ~cancelled & ~finished & ~placed,
        models.TaskState.PLACED: ~cancelled & ~finished & placed & ~begun,
        models.TaskState.RUNNING: ~cancelled & ~finished & placed & begun,
    }[state]


def find(task_id: int) -> models.Task:
    task = models.Task.objects.select_related("queue").filter(pk=task_id).first()
    if task is None:
        raise Http404(f"There is no task {task_id}.")
    return task


@router.get(
    "/celery_ids_tasks/{id:id}/",
    auth=READERS,
    response=answers(schemas.Task, 404),
    operation_id="get_task",
    summary="One task",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_task(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """With its payload, where that holds at most 1,000 IDs."""
    task = find(id)
    return answer(task_answer(task, at=store.now()), tag=str(task.version))


@router.get(
    "/celery_ids_tasks/{id:id}/distribution/",
    auth=READERS,
    response=answers(list[schemas.WindowOfTask], 404),
    operation_id="get_distribution",
    summary="How many of a task's IDs are in which minute, and what became of them",
)
def get_distribution(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """The windows in which the task has, or had, an ID; in the order of time."""
    task = find(id)
    at = store.now()
    windows: dict[int, list[id_history.MinuteOfTask]] = {}
    for minute in id_history.distribution(task):
        windows.setdefault(keys.window_of_bucket(minute.bucket_id), []).append(minute)
    return answer([_window_of_task(window, minutes, at) for window, minutes in windows.items()])


def _window_of_task(window_id: int, minutes: list[id_history.MinuteOfTask], at: datetime) -> dict[str, Any]:
    starts_at = keys.starts_at_of_window(window_id)
    names = ("ids", *STATES, "moved")
    return {
        "id": window_id,
        "starts_at": moment(starts_at),
        "label": clock.label(starts_at),
        "state": clock.state(starts_at, at).value,
        "buckets": [
            {
                "bucket": keys.index_of_bucket(minute.bucket_id),
                "minute": moment(keys.minute_of_bucket(minute.bucket_id)),
                **{name: getattr(minute, name) for name in names},
            }
            for minute in minutes
        ],
    }
