"""The nightly job: it starts a check of the plan, and deletes what is past its retention in small steps."""

import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import Exists, Max, Min, OuterRef, QuerySet

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import bulk_operations
from scheduling.jobqueue.tables import FinishedJob
from scheduling.lists import record_lists
from scheduling.models import BulkActKind
from scheduling.proof import checks
from scheduling.queues import secrets_at_rest
from scheduling.store import blocks

# How many rows one transaction deletes: a few milliseconds' work.
STEP_ROWS = 2_000
PART_ROWS = 500
# A job runs this long; the next job does the rest.
JOB_SECONDS = 40.0
RENEW_SECONDS = 5.0
FINISHED_JOBS_KEPT = timedelta(days=7)


def run(now: Callable[[], datetime]) -> None:
    """Start a check of the plan, and prune. Further jobs continue what takes longer."""
    checks.begin(by=Actor.system(), at=now())
    # An unfinished pruning of an earlier night goes on by itself and deletes the same.
    if not bulk_operations.unfinished().filter(kind=BulkActKind.PRUNE).exists():
        at = now()
        _run_job(
            bulk_operations.begin(BulkActKind.PRUNE, request={}, number=0, by=Actor.system(), at=at), now
        )


def resume(act_id: int, now: Callable[[], datetime]) -> None:
    """The job: continue where the last job stopped, unless another job has the pruning."""
    act = bulk_operations.claim(act_id, at=now())
    if act is not None:
        _run_job(act, now)


def _run_job(act: models.BulkAct, now: Callable[[], datetime]) -> None:
    renewal = TimeLimit(RENEW_SECONDS)

    def renew_lease() -> None:
        nonlocal renewal
        if renewal.is_over:
            renewal = TimeLimit(RENEW_SECONDS)
            bulk_operations.advance(act, after_id=0, at=now())

    try:
        if prune(now, seconds=JOB_SECONDS, between=renew_lease):
            bulk_operations.end(act, at=now())
        else:
            bulk_operations.hand_over(act, at=now())
    except bulk_operations.Overtaken:
        return


def prune(
    now: Callable[[], datetime], *, seconds: float = JOB_SECONDS, between: Callable[[], None] = lambda: None
) -> bool:
    """Delete what ended before the retention began; return whether nothing is left to delete.

    between: called after each step.
    """
    limit = TimeLimit(seconds)
    before = now() - timedelta(days=settings.RETENTION_DAYS)
    for step in _steps(before, now()):
        while step():
            if limit.is_over:
                return False
            between()
            # Let other writers take their turn.
            time.sleep(0.005)
    return True


def _steps(before: datetime, at: datetime) -> Iterator[Callable[[], int]]:
    """Yield the steps in their order. Each is repeated until it deletes nothing."""
    yield partial(secrets_at_rest.forget_earlier, at=at)
    old_minute = clock.minute_number(clock.minute_start(before))
    for rows in (
        models.Activity.objects.filter(at__lt=before),
        models.Minute.objects.filter(pk__lt=old_minute),
        models.QuarterRun.objects.filter(ran_at__lt=before),
        models.Delivery.objects.filter(event__at__lt=before),
        models.Event.objects.filter(at__lt=before, deliveries=None),
        models.Alert.objects.filter(ended_at__lt=before),
        models.BulkAct.objects.filter(ended_at__lt=before),
        FinishedJob.objects.filter(stopped__lt=at - FINISHED_JOBS_KEPT),
    ):
        yield partial(_delete, rows)
    # Nothing waits in a window that is totalled.
    ended = before - 2 * clock.QUARTER
    windows = models.Window.objects.filter(starts_at__lt=ended, totalled_at__isnull=False)
    windows = windows.exclude(pk__in=_chained_after_kept(ended))
    for (window_id,) in blocks.values_in_blocks(windows, size=PART_ROWS):
        yield from _of_window(window_id)
    for queue_id in list(models.Queue.objects.order_by("pk").values_list("pk", flat=True)):
        yield partial(_delete, _unneeded_links(queue_id, ended), PART_ROWS)
    yield partial(_delete, _entries_without_rows(before))
    tasks = models.Task.objects.filter(
        last_minute_at__lt=before, created_at__lt=before, waiting_count=0, in_flight_count=0
    )
    for task_id, list_id in blocks.values_in_blocks(tasks, "list_id", size=PART_ROWS):
        # The lists before an edit are kept as long as the task, since places follow from their order.
        list_ids = {list_id, *models.Segment.objects.filter(task=task_id).values_list("list_id", flat=True)}
        yield partial(_delete, models.Chunk.objects.filter(list_id__in=list_ids), 50)
        yield partial(_delete, models.DataChunk.objects.filter(list_id__in=list_ids), 50)
        yield partial(record_lists.delete_step, task_id)
        yield partial(_delete_task, task_id, list_ids)


def _chained_after_kept(before: datetime) -> list[int]:
    """Return the old windows that were totalled after younger ones, which are kept.

    Without their receipts, a file would have a gap in its chain: they are deleted together with those before them.
    """
    window_ids: list[int] = []
    for queue_id in models.Queue.objects.order_by("pk").values_list("pk", flat=True):
        links, first = _links(queue_id, before)
        if first is not None:
            old = links.filter(pk__lt=keys.window_id(queue_id, _first_kept(before)), sequence__gt=first)
            window_ids += old.values_list("pk", flat=True)
    return window_ids


def _first_kept(before: datetime) -> datetime:
    return clock.quarter_start(before - timedelta(microseconds=1)) + clock.QUARTER


def _links(queue_id: int, before: datetime) -> tuple[QuerySet[models.ChainedReceipt], int | None]:
    """Return the chain of a queue, and the first place in it whose window is kept because of its age."""
    links = models.ChainedReceipt.objects.filter(queue=queue_id)
    first = links.filter(pk__gte=keys.window_id(queue_id, _first_kept(before)))
    return links, first.aggregate(n=Min("sequence"))["n"]


def _unneeded_links(queue_id: int, before: datetime) -> QuerySet[models.ChainedReceipt]:
    """Return the places in a chain before the one that the oldest kept receipt is chained to."""
    links, first = _links(queue_id, before)
    anchor = links.aggregate(n=Max("sequence"))["n"] or 0 if first is None else first - 1
    return links.filter(sequence__lt=anchor)


def _entries_without_rows(before: datetime) -> QuerySet[models.OutcomeEntry]:
    """Return the entries of outcomes from before the retention began whose rows are deleted."""
    named = {"pk__gte": OuterRef("first_key"), "pk__lte": OuterRef("last_key")}
    rows, former = models.Assignment.objects.filter(**named), models.FormerOutcome.objects.filter(**named)
    old = models.OutcomeEntry.objects.filter(pk__lt=clock.epoch_microseconds(before))
    return old.filter(~Exists(rows), ~Exists(former))


def _of_window(window_id: int) -> Iterator[Callable[[], int]]:
    """Yield the steps that delete the contents of a window, as ranges of keys, and the window last."""
    first, last = keys.range_of_window(window_id)
    yield partial(_delete, models.Assignment.objects.filter(pk__range=keys.range_of_buckets(first, last)))
    yield partial(_delete, models.FormerOutcome.objects.filter(pk__range=keys.range_of_buckets(first, last)))
    yield partial(_delete, models.Attempt.objects.filter(bucket_id__gte=first, bucket_id__lte=last))
    yield partial(_delete, models.FailureCount.objects.filter(bucket_id__gte=first, bucket_id__lte=last))
    yield partial(_delete, models.Move.objects.filter(from_bucket_id__gte=first, from_bucket_id__lte=last))
    yield partial(_delete, models.TaskBucket.objects.filter(bucket_id__gte=first, bucket_id__lte=last))
    yield partial(_delete, models.Reservation.objects.filter(window_id=window_id))
    yield partial(_delete, models.Bucket.objects.filter(pk__gte=first, pk__lte=last))
    yield partial(_delete, models.Window.objects.filter(pk=window_id))


def _delete(rows: QuerySet[Any], at_most: int = STEP_ROWS) -> int:
    with store.write():
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:at_most])
        # Every row that refers to these is deleted by a step of its own, so the ORM need not look for them.
        deleted: int = rows.model._base_manager.filter(pk__in=ids)._raw_delete("default") if ids else 0
        return deleted


def _delete_task(task_id: int, list_ids: Collection[int]) -> int:
    """Delete a task, unless some of its minutes are left."""
    with store.write():
        if models.TaskBucket.objects.filter(task_id=task_id).exists():
            return 0
        models.Task.objects.filter(pk=task_id).delete()
        models.IdList.objects.filter(pk__in=list_ids).delete()
    return 0
