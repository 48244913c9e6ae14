"""Checks of tasks: each is the sum of its minutes, and a finished one has nothing left to do."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Sum

from scheduling import models
from scheduling.core import clock, keys, limits
from scheduling.models import Status

from .base import Cursor, Difference, Piece, retained_since
from .minutes import COLUMNS

TASKS_AT_A_TIME = 200


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the next tasks, in the order of their keys."""
    found = models.Task.objects.filter(pk__gt=cursor[0]).defer("payload", "cancel_answer").order_by("pk")
    tasks = list(found[:TASKS_AT_A_TIME])
    # Some minutes of older tasks have been deleted.
    whole = [task for task in tasks if task.first_minute_at >= retained_since(at) + clock.QUARTER]
    differences = [*_add_up(whole), *_finished(tasks), *_unwritten(whole), *_on_hold(tasks)]
    behind = (tasks[-1].pk, 0) if len(tasks) == TASKS_AT_A_TIME else None
    return Piece(differences, behind, checked={"task": len(tasks)})


def _add_up(tasks: list[models.Task]) -> Iterator[Difference]:
    """Check that a task's counters are the sums of its minutes."""
    parts = models.TaskBucket.objects.filter(task__in=[task.pk for task in tasks]).order_by()
    sums = parts.values("task_id").annotate(**{f"sum_{name}": Sum(name) for name in COLUMNS})
    by_task: dict[int, Any] = {row["task_id"]: row for row in sums}
    for task in tasks:
        for column in COLUMNS:
            said, found = getattr(task, column), by_task.get(task.pk, {}).get(f"sum_{column}", 0)
            if said != found:
                yield Difference("a task is the sum of its minutes", f"task {task.pk}, {column}", said, found)


def _finished(tasks: list[models.Task]) -> Iterator[Difference]:
    for task in tasks:
        unfinished = task.waiting_count + task.in_flight_count
        if task.finished_at is not None and unfinished:
            yield Difference("a finished task has nothing left", f"task {task.pk}", 0, unfinished)


def _unwritten(tasks: list[models.Task]) -> Iterator[Difference]:
    """Check that a list that is being written has as many IDs without a row as its segments say."""
    open_ones = models.Segment.objects.unwritten().filter(task__in=[task.pk for task in tasks])
    unwritten = open_ones.values_list("task_id").annotate(n=Sum(F("ids_count") - F("written_count")))
    by_id = {task.pk: task for task in tasks}
    for task_id, said in dict(unwritten.order_by()).items():
        found = by_id[task_id].ids_count - _written(task_id)
        if said != found:
            yield Difference("what isn't written has no row", f"task {task_id}", said, found)


def _on_hold(tasks: list[models.Task]) -> Iterator[Difference]:
    """Check that only requests claimed before a hold have started since."""
    for task in tasks:
        if task.is_on_hold and task.held_at is not None:
            started = _started_after(task, task.held_at + limits.STOPPED_WITHIN)
            if started:
                yield Difference("nothing of a task on hold starts", f"task {task.pk}", 0, started)


def _started_after(task: models.Task, at: datetime) -> int:
    attempts = models.Attempt.objects.filter(task_id=task.pk, started_at__gt=at, unknown=False).count()
    since = keys.bucket_at(task.queue_id, clock.minute_start(at))
    placed = models.TaskBucket.objects.filter(task=task, bucket_id__gte=since, succeeded_count__gt=0)
    for bucket_id in list(placed.values_list("bucket_id", flat=True)):
        first, last = keys.range_of_bucket(bucket_id)
        after_ms = (at - keys.minute_of_bucket(bucket_id)) // timedelta(milliseconds=1)
        rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, task=task)
        attempts += rows.filter(status=Status.SUCCEEDED, started_after_ms__gt=after_ms).count()
    return attempts


def _written(task_id: int) -> int:
    """Return how many rows a task has, counted in its minutes."""
    count = 0
    buckets = models.TaskBucket.objects.filter(task_id=task_id).values_list("bucket_id", flat=True)
    for bucket_id in list(buckets):
        first, last = keys.range_of_bucket(bucket_id)
        count += models.Assignment.objects.filter(pk__gte=first, pk__lte=last, task_id=task_id).count()
    return count
