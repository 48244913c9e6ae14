"""Checks of tasks: each is the sum of its minutes, and a finished one has nothing left to do."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F, Sum

from scheduling import models
from scheduling.core import clock, keys, limits
from scheduling.models import CanaryState, Status

from .base import Cursor, Difference, Piece, retained_since
from .minutes import COLUMNS

TASKS_AT_A_TIME = 200
# Of a hold that lasts: past any minute that a key holds.
LATEST = datetime(2089, 1, 1, tzinfo=UTC)


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the next tasks, in the order of their keys."""
    rows = models.Task.objects.filter(pk__gt=cursor[0]).defer("payload", "cancel_answer").order_by("pk")
    tasks = list(rows[:TASKS_AT_A_TIME])
    # Some minutes of older tasks have been deleted.
    whole = [task for task in tasks if task.first_minute_at >= retained_since(at) + clock.QUARTER]
    differences = [
        *_add_up(whole),
        *_finished(tasks),
        *_unwritten(whole),
        *_on_hold(tasks),
        *_canaries(whole),
    ]
    next_cursor = (tasks[-1].pk, 0) if len(tasks) == TASKS_AT_A_TIME else None
    return Piece(differences, next_cursor, checked={"task": len(tasks)})


def _add_up(tasks: list[models.Task]) -> Iterator[Difference]:
    """Check that a task's counters are the sums of its minutes."""
    parts = models.TaskBucket.objects.filter(task__in=[task.pk for task in tasks]).order_by()
    sums = parts.values("task_id").annotate(**{f"sum_{name}": Sum(name) for name in COLUMNS})
    by_task: dict[int, Any] = {row["task_id"]: row for row in sums}
    for task in tasks:
        for column in COLUMNS:
            counter, actual = getattr(task, column), by_task.get(task.pk, {}).get(f"sum_{column}", 0)
            if counter != actual:
                yield Difference(
                    "a task is the sum of its minutes", f"task {task.pk}, {column}", counter, actual
                )


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
    for task_id, counter in dict(unwritten.order_by()).items():
        actual = by_id[task_id].ids_count - _written(task_id)
        if counter != actual:
            yield Difference("what isn't written has no row", f"task {task_id}", counter, actual)


def _on_hold(tasks: list[models.Task]) -> Iterator[Difference]:
    """Check that only requests claimed before a hold have started while it lasted, however long ago that was."""
    by_id = {task.pk: task for task in tasks}
    for task_id, began_at, ended_at in _holds(by_id):
        started = _started_between(by_id[task_id], began_at + limits.STOPPED_WITHIN, ended_at)
        if started:
            yield Difference("nothing of a task on hold starts", f"task {task_id}", 0, started)


def _holds(tasks: Mapping[int, models.Task]) -> Iterator[tuple[int, datetime, datetime]]:
    """Yield the holds of tasks, as (task, since when, until when), by the activity log."""
    log = models.Activity.objects.filter(
        object_kind="task", object_id__in=tasks, verb__in=("put_on_hold", "continued")
    )
    began: dict[int | None, datetime] = {}
    for task_id, verb, at in log.order_by("pk").values_list("object_id", "verb", "at"):
        if verb == "put_on_hold":
            began[task_id] = at
        elif task_id in began:
            yield task_id or 0, began.pop(task_id), at
    for task_id, began_at in began.items():
        yield task_id or 0, began_at, LATEST


def _canaries(tasks: list[models.Task]) -> Iterator[Difference]:
    """Check that only IDs of a canary have started before it was decided."""
    for task in tasks:
        if task.canary_state != CanaryState.NONE:
            early = sum(_started_early(task, users) for users in _users_of(task))
            if early:
                yield Difference("the rest of a list waits for its canary", f"task {task.pk}", 0, early)


def _users_of(task: models.Task) -> Iterator[list[int]]:
    """Yield the IDs of a task that have started in a minute before its canary was decided, a minute at a time."""
    placed = models.TaskBucket.objects.filter(task=task)
    if task.canary_decided_at is not None:
        until = keys.bucket_at(task.queue_id, clock.minute_start(task.canary_decided_at))
        placed = placed.filter(bucket_id__lte=until)
    for bucket_id in list(placed.order_by("bucket_id").values_list("bucket_id", flat=True)):
        first, last = keys.range_of_bucket(bucket_id)
        rows = models.Assignment.objects.filter(
            pk__gte=first, pk__lte=last, task=task, started_after_ms__isnull=False
        )
        if task.canary_decided_at is not None:
            before_ms = (
                task.canary_decided_at - limits.STOPPED_WITHIN - keys.minute_of_bucket(bucket_id)
            ) // timedelta(milliseconds=1)
            rows = rows.filter(started_after_ms__lt=before_ms)
        yield list(rows.values_list("user_id", flat=True))


def _started_early(task: models.Task, users: list[int]) -> int:
    """Return how many of the IDs are not of the task's canary."""
    if not users:
        return 0
    return len(
        set(users).difference(models.CanaryId.objects.filter(task=task).values_list("user_id", flat=True))
    )


def _started_between(task: models.Task, begin: datetime, end: datetime) -> int:
    """Return how many requests of a task have started after `begin` and before `end`."""
    if end <= begin:
        return 0
    attempts = models.Attempt.objects.filter(task_id=task.pk, started_at__gt=begin, started_at__lt=end)
    count = attempts.filter(unknown=False).count()
    first_bucket, last_bucket = (keys.bucket_at(task.queue_id, clock.minute_start(at)) for at in (begin, end))
    placed = models.TaskBucket.objects.filter(
        task=task, bucket_id__gte=first_bucket, bucket_id__lte=last_bucket, succeeded_count__gt=0
    )
    for bucket_id in list(placed.values_list("bucket_id", flat=True)):
        first, last = keys.range_of_bucket(bucket_id)
        minute = keys.minute_of_bucket(bucket_id)
        rows = models.Assignment.objects.filter(
            pk__gte=first, pk__lte=last, task=task, status=Status.SUCCEEDED
        )
        offsets = rows.values_list("started_after_ms", flat=True)
        count += sum(begin < minute + timedelta(milliseconds=ms) < end for ms in offsets if ms is not None)
    return count


def _written(task_id: int) -> int:
    """Return how many rows a task has, counted in its minutes."""
    count = 0
    buckets = models.TaskBucket.objects.filter(task_id=task_id).values_list("bucket_id", flat=True)
    for bucket_id in list(buckets):
        first, last = keys.range_of_bucket(bucket_id)
        count += models.Assignment.objects.filter(pk__gte=first, pk__lte=last, task_id=task_id).count()
    return count
