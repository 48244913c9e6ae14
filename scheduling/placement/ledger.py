"""The counters of buckets and tasks, and the locks under which they change together with their rows."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from scheduling import models, store
from scheduling.core import keys
from scheduling.jobqueue import cluster
from scheduling.models import Status
from scheduling.placement import reservations


class Counters:
    """Deltas of counters, gathered, and written once in the order of the locks."""

    def __init__(self) -> None:
        self.buckets: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.tasks: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.placed: dict[tuple[int, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def change(self, task_id: int, bucket_id: int, was: Status, becomes: Status, count: int = 1) -> None:
        """`count` IDs of a task in a bucket were `was` and become `becomes`."""
        for counters in (self.buckets[bucket_id], self.tasks[task_id], self.placed[task_id, bucket_id]):
            counters[was.counter] -= count
            counters[becomes.counter] += count

    def started(self, bucket_id: int, count: int = 1) -> None:
        self.buckets[bucket_id]["started_count"] += count

    def write(self) -> None:
        store.add_to_tasks(self.tasks)
        store.add_to_placed(self.placed)
        store.add_to_buckets(self.buckets)


def give_back(bucket_id: int, count: int, *, at: datetime) -> None:
    """Log that places came free since their task is cancelled; the caller holds the queue's row."""
    queue = models.Queue.objects.get(pk=keys.queue_of_bucket(bucket_id))
    reservations.change(queue, {bucket_id: -count}, kind=models.ReservationKind.CANCEL, at=at)


def lock_tasks(task_ids: Iterable[int]) -> dict[int, models.Task]:
    wanted = models.Task.objects.filter(pk__in=sorted(task_ids)).order_by("pk").select_for_update()
    columns = ("pk", "cancelled_at", "expires_at", "queue_id", "waiting_count", "in_flight_count")
    return {task.pk: task for task in wanted.only(*columns)}


def must_be(wanted: int, count: int) -> None:
    # Under the bucket's lock nobody else changes these rows; if somebody did, nothing of this turn may stay.
    if count != wanted:
        raise RuntimeError(f"{wanted} rows were to change, {count} did")


def finish(task_ids: Iterable[int], *, at: datetime) -> None:
    """Mark those of the tasks that have nothing left to do as finished, and have that called back."""
    if not (task_ids := list(task_ids)):
        return
    done = models.Task.objects.filter(
        pk__in=task_ids,
        finished_at=None,
        cancelled_at=None,
        placed_at__isnull=False,
        waiting_count=0,
        in_flight_count=0,
    )
    for task_id, callback in list(done.order_by("pk").values_list("pk", "queue__callback_url")):
        if done.filter(pk=task_id).update(finished_at=at) and callback:
            cluster.enqueue("scheduling.jobs.call_back", task_id)
