"""Cancel a task: its places are free at once, and the rows of its IDs follow in slices."""

from collections.abc import Callable
from datetime import datetime
from typing import TypedDict, cast

from django.db.models import F

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import limits
from scheduling.core.errors import StaleVersion
from scheduling.core.time_limit import TimeLimit
from scheduling.events import recording
from scheduling.jobqueue import cluster
from scheduling.lists import stored_lists
from scheduling.placement import ledger, reservations

# The rows that one transaction updates after a cancel: some 30 ms.
SLICE_IDS = 10_000
# A job ends after this long, so that other jobs of the cluster get their turn.
JOB_SECONDS = 5.0


class Cancelled(TypedDict):
    """A task's IDs at the moment of its cancel: those cancelled by it, sent before it, and in flight during
    it.
    """

    cancelled: int
    already_sent: int
    in_flight: int


def cancel(
    task: models.Task, *, by: Actor, now: Callable[[], datetime], if_version: int | None = None
) -> Cancelled:
    """Cancel what was not sent yet, and keep the record: one short transaction at any size.

    Also while the list is still being written. The places are free when this returns, and nothing unclaimed
    goes out any more, since claims look at the task's mark; the rows follow in slices (`update_rows`). A second
    cancel returns the same counts. A task that is done stays done. Raises StaleVersion.
    """
    with store.write():
        queue = reservations.lock_queue(task.queue_id)
        at = now()
        ledger.lock_waiting_buckets(task)
        task = models.Task.objects.select_for_update().get(pk=task.pk)
        if task.cancelled_at is not None:
            return cast(Cancelled, task.cancel_answer)
        if if_version not in (None, task.version):
            raise StaleVersion
        waiting = dict(ledger.waiting_buckets_of(task).values_list("bucket_id", "waiting_count"))
        counts = Cancelled(
            cancelled=sum(waiting.values()), already_sent=task.sent_count, in_flight=task.in_flight_count
        )
        if task.finished_at is not None:
            return counts
        ledger.release_places(queue, task, waiting, at=at)
        models.Task.objects.filter(pk=task.pk).update(
            cancelled_at=at,
            cancel_answer=counts,
            waiting_count=F("waiting_count") - counts["cancelled"],
            cancelled_count=F("cancelled_count") + counts["cancelled"],
            version=F("version") + 1,
        )
        activity.record(by, "cancelled", task, at=at, count=counts["cancelled"], after=dict(counts))
        recording.task_cancelled(task, dict(counts), at=at)
        if task.placed_at is not None:
            cluster.enqueue("scheduling.jobs.follow_cancel", task.pk)
    return counts


def update_rows(task_id: int, now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> None:
    """Set the rows of a cancelled task to cancelled, in slices, once all of them are written.

    `Task.cancel_position` is how far this has come. It moves by compare-and-set with the rows, so anyone may
    continue, and a process that is overtaken stops.
    """
    limit = TimeLimit(seconds)
    task = models.Task.objects.get(pk=task_id)
    if task.cancelled_at is None or task.placed_at is None:
        return
    first, ids = -1, list[int]()
    while task.cancel_position < task.ids_count:
        if limit.is_over:
            cluster.enqueue("scheduling.jobs.follow_cancel", task_id)
            return
        start = task.cancel_position // limits.SORTED_IDS * limits.SORTED_IDS
        if start != first:
            first, ids = start, sorted(stored_lists.ids_of(task.list_id, start, limits.SORTED_IDS))
        offset = task.cancel_position - first
        if not _update_slice(task, ids[offset : offset + SLICE_IDS]):
            return


def _update_slice(task: models.Task, users: list[int]) -> bool:
    """Cancel the rows of these IDs. Returns False if another worker has done so."""
    position = task.cancel_position + len(users)
    with store.bulk_write():
        unchanged = models.Task.objects.filter(pk=task.pk, cancel_position=task.cancel_position)
        if not users or not unchanged.update(cancel_position=position):
            return False
        store.cancel_rows(task.pk, users)
    task.cancel_position = position
    return True
