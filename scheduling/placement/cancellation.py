"""A task is cancelled: its places are free at once, and the rows of its IDs follow."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypedDict

from django.db.models import F

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import limits
from scheduling.core.errors import StaleVersion
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import cluster
from scheduling.lists import stored_lists
from scheduling.placement import reservations

# Rows that follow a cancel in one transaction: some 30 ms.
SLICE_IDS = 10_000
# A job ends after this long, so that other jobs of the cluster get their turn.
JOB_SECONDS = 5.0


class Cancelled(TypedDict):
    """Of a task's IDs at the moment of its cancel: cancelled by it, sent before it, in flight during it."""

    cancelled: int
    already_sent: int
    in_flight: int


def cancel(
    task: models.Task, *, by: Actor, now: Callable[[], datetime], if_version: int | None = None
) -> Cancelled:
    """Cancel what was not sent yet, and keep the record: one short transaction at any size.

    Also while the list is still being written. The places are free when this returns, and nothing unclaimed
    goes out any more, since claims look at the task's mark; the rows follow in slices (`follow_cancel`). Once
    more: the same answer. A task that is done stays done. Raises StaleVersion.
    """
    with store.write():
        queue = reservations.lock_queue(task.queue_id)
        at = now()
        lock_waiting(task)
        task = models.Task.objects.select_for_update().get(pk=task.pk)
        if task.cancelled_at is not None:
            return Cancelled(**task.cancel_answer)
        if if_version not in (None, task.version):
            raise StaleVersion
        waiting = dict(_waiting(task).values_list("bucket_id", "waiting_count"))
        answer = Cancelled(
            cancelled=sum(waiting.values()), already_sent=task.sent_count, in_flight=task.in_flight_count
        )
        if task.finished_at is not None:
            return answer
        give_back(queue, task, waiting, at=at)
        models.Task.objects.filter(pk=task.pk).update(
            cancelled_at=at,
            cancel_answer=answer,
            waiting_count=F("waiting_count") - answer["cancelled"],
            cancelled_count=F("cancelled_count") + answer["cancelled"],
            version=F("version") + 1,
        )
        activity.record(by, "cancelled", task, at=at, count=answer["cancelled"], after=dict(answer))
        if task.placed_at is not None:
            cluster.enqueue("scheduling.jobs.follow_cancel", task.pk)
    return answer


def _waiting(task: models.Task):
    return models.TaskBucket.objects.filter(task=task, waiting_count__gt=0)


def lock_waiting(task: models.Task) -> None:
    """Lock the windows and buckets in which the task waits: from here on nobody claims any of its IDs."""
    buckets = models.Bucket.objects.filter(pk__in=_waiting(task).values("bucket_id"))
    windows = models.Window.objects.filter(pk__in=buckets.values("window_id"))
    for rows in (windows, buckets):
        list(rows.select_for_update().order_by("pk").values_list("pk"))


def give_back(queue: models.Queue, task: models.Task, places: Mapping[int, int], *, at: datetime) -> None:
    """Free places of IDs that wait: bucket ID to how many. The task's row and its IDs' are the caller's."""
    if not places:
        return
    reservations.change(
        queue,
        {bucket: -count for bucket, count in places.items()},
        kind=models.ReservationKind.CANCEL,
        at=at,
        task_id=task.pk,
    )
    store.add_to_buckets({bucket: {"cancelled_count": count} for bucket, count in places.items()})
    store.add_to_task_buckets(
        task.pk,
        {bucket: {"waiting_count": -count, "cancelled_count": count} for bucket, count in places.items()},
    )


def follow_cancel(task_id: int, now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> None:
    """Let the rows of a cancelled task follow its mark, in slices, once all of them are written.

    `Task.cancel_position` says how far, and moves by compare-and-set with the rows: so anyone may go on, and
    whoever is overtaken stops.
    """
    limit = TimeLimit(seconds)
    task = models.Task.objects.get(pk=task_id)
    if task.cancelled_at is None or task.placed_at is None:
        return
    first, ids = -1, None
    while task.cancel_position < task.ids_count:
        if limit.is_over:
            cluster.enqueue("scheduling.jobs.follow_cancel", task_id)
            return
        start = task.cancel_position // limits.SORTED_IDS * limits.SORTED_IDS
        if start != first:
            first, ids = start, sorted(stored_lists.ids_of(task.list_id, start, limits.SORTED_IDS))
        offset = task.cancel_position - first
        if not _follow_slice(task, ids[offset : offset + SLICE_IDS]):
            return


def _follow_slice(task: models.Task, users: list[int]) -> bool:
    """Whether it was ours to do."""
    position = task.cancel_position + len(users)
    with store.bulk_write():
        mine = models.Task.objects.filter(pk=task.pk, cancel_position=task.cancel_position)
        if not users or not mine.update(cancel_position=position):
            return False
        store.cancel_rows(task.pk, users)
    task.cancel_position = position
    return True
