"""The counters of buckets and tasks, and the locks under which they change together with their rows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import QuerySet
from django.db.models.functions import Greatest

from scheduling import models, store
from scheduling.core import keys
from scheduling.events import recording
from scheduling.jobqueue import cluster, minute_jobs
from scheduling.models import Status
from scheduling.placement import late_ids, reservations
from scheduling.placement.snapshot import Snapshot
from scheduling.store import later

# The columns of a task that has something to do, even if it was done before: then its end is reported again.
NOT_DONE = {
    "finished_at": None,
    "called_back_at": None,
    "callback_attempts": 0,
    "callback_due_at": None,
    "no_callback": False,
}


class Route(NamedTuple):
    """The buckets between which IDs of a task move."""

    task_id: int
    from_bucket: int
    to_bucket: int


class Counters:
    """Changes of counters, collected, and written once in the order of the locks."""

    def __init__(self) -> None:
        self.buckets: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.tasks: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.placed: dict[tuple[int, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def change(self, task_id: int, bucket_id: int, was: Status, becomes: Status, count: int = 1) -> None:
        """Count `count` IDs of a task in a bucket as `becomes` instead of `was`."""
        for counters in (self.buckets[bucket_id], self.tasks[task_id], self.placed[task_id, bucket_id]):
            counters[was.counter] -= count
            counters[becomes.counter] += count

    def started(self, bucket_id: int, count: int = 1) -> None:
        """Count requests that were started in a bucket."""
        self.buckets[bucket_id]["started_count"] += count

    def write(self) -> None:
        """Add the deltas to the rows of tasks, of what they have where, and of buckets."""
        store.add_to_tasks(self.tasks)
        store.add_to_placed(self.placed)
        store.add_to_buckets(self.buckets)


def waiting_buckets_of(task: models.Task) -> QuerySet[models.TaskBucket]:
    """Return the task's counters in the buckets in which any of its IDs wait."""
    return models.TaskBucket.objects.filter(task=task, waiting_count__gt=0)


def lock_waiting_buckets(task: models.Task) -> None:
    """Lock the windows and buckets in which the task waits: from here on nobody claims any of its IDs."""
    buckets = models.Bucket.objects.filter(pk__in=waiting_buckets_of(task).values("bucket_id"))
    windows = models.Window.objects.filter(pk__in=buckets.values("window_id"))
    list(windows.select_for_update().order_by("pk").values_list("pk"))
    list(buckets.select_for_update().order_by("pk").values_list("pk"))


def release_places(
    queue: models.Queue,
    task: models.Task,
    places: Mapping[int, int],
    *,
    at: datetime,
    snapshot: Snapshot | None = None,
) -> None:
    """Free the places of waiting IDs. The caller updates the rows of the task and of its IDs.

    places: bucket ID to how many.
    """
    if not places:
        return
    reservations.change(
        queue,
        {bucket: -count for bucket, count in places.items()},
        kind=models.ReservationKind.CANCEL,
        at=at,
        task_id=task.pk,
        snapshot=snapshot,
    )
    store.add_to_buckets({bucket: {"cancelled_count": count} for bucket, count in places.items()})
    store.add_to_task_buckets(
        task.pk,
        {bucket: {"waiting_count": -count, "cancelled_count": count} for bucket, count in places.items()},
    )


def log_release(bucket_id: int, count: int, *, at: datetime) -> None:
    """Log places that became free because their task is cancelled. The caller has locked the queue's row."""
    queue = models.Queue.objects.get(pk=keys.queue_of_bucket(bucket_id))
    reservations.change(queue, {bucket_id: -count}, kind=models.ReservationKind.CANCEL, at=at)


def take_other_places(
    queue: models.Queue,
    leaving: Mapping[int, int],
    *,
    was: Status,
    from_minute: datetime,
    reason: str,
    at: datetime,
    task_id: int | None = None,
    snapshot: Snapshot | None = None,
) -> list[reservations.Places]:
    """Give IDs that leave buckets (bucket to how many) the first free places from a minute on, where they wait.

    The caller holds the rows of the queue and of the buckets. The log, the fills and
    the counters of buckets are kept here; the rest is `record_moves`', once it is known who goes where.
    """
    snapshot = snapshot or Snapshot()
    if was != Status.WAITING:
        store.add_to_buckets({b: {was.counter: -n, Status.WAITING.counter: n} for b, n in leaving.items()})
    reservations.change(
        queue,
        {b: -n for b, n in leaving.items()},
        kind=models.ReservationKind.MOVE_OUT,
        at=at,
        task_id=task_id,
        note=reason,
        snapshot=snapshot,
    )
    store.add_to_buckets({b: {"moved_count": n} for b, n in leaving.items()})
    return reservations.take_free_places(
        queue,
        sum(leaving.values()),
        from_minute=from_minute,
        at=at,
        task_id=task_id,
        note=reason,
        snapshot=snapshot,
    )


def record_moves(
    moved: Mapping[Route, Sequence[int]],
    *,
    was: Status,
    reason: str,
    at: datetime,
    armed: minute_jobs.Armed = minute_jobs.find_armed,
) -> None:
    """Update the counters of tasks and of their buckets after IDs have moved; keep each move, arm the new minutes."""
    tasks: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    placed: dict[int, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    last: dict[int, int] = {}
    moves: dict[int, list[tuple[Sequence[int], int, int]]] = defaultdict(list)
    for (task_id, from_bucket, to_bucket), users in moved.items():
        count = len(users)
        if was != Status.WAITING:
            tasks[task_id][was.counter] -= count
            tasks[task_id][Status.WAITING.counter] += count
        placed[task_id][from_bucket][was.counter] -= count
        placed[task_id][from_bucket]["moved_count"] += count
        placed[task_id][to_bucket][Status.WAITING.counter] += count
        last[task_id] = max(last.get(task_id, 0), to_bucket)
        moves[task_id].append((users, from_bucket, to_bucket))
    if reason in late_ids.MADE_LATE:
        late_ids.keep_late_since((*route, users) for route, users in moved.items())
    store.add_to_tasks(tasks)
    for task_id, bucket_id in sorted(last.items()):
        last_at = Greatest("last_minute_at", keys.minute_of_bucket(bucket_id))
        later.update(models.Task.objects.filter(pk=task_id), last_minute_at=last_at, **NOT_DONE)
    for task_id in sorted(placed):
        store.add_to_task_buckets(task_id, placed[task_id])
        store.insert_moves(task_id, moves[task_id], reason=reason, at=at)
    windows = {keys.window_of_bucket(route.to_bucket) for route in moved}
    minute_jobs.arm_windows(
        (keys.starts_at_of_window(window) for window in sorted(windows)), at=at, armed=armed
    )


def record_returns(moved: Mapping[Route, Sequence[int]], *, at: datetime) -> None:
    """Count cancelled IDs of a task as moved to the places that an edit gives them, and keep each ID's move."""
    deltas: dict[int, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    moves: dict[int, list[tuple[Sequence[int], int, int]]] = defaultdict(list)
    for (task_id, from_bucket, to_bucket), users in sorted(moved.items()):
        deltas[task_id][from_bucket][Status.CANCELLED.counter] -= len(users)
        deltas[task_id][from_bucket]["moved_count"] += len(users)
        moves[task_id].append((sorted(users), from_bucket, to_bucket))
    for task_id in deltas:
        store.insert_moves(task_id, moves[task_id], reason=models.MoveReason.EDIT, at=at)
        store.add_to_buckets(deltas[task_id])
        store.add_to_task_buckets(task_id, deltas[task_id])


# The columns of a task that recording outcomes needs.
TASK_COLUMNS = (
    "id",
    "name",
    "max_failed_percent",
    "min_finished",
    "succeeded_count",
    "failed_count",
    "succeeded_before_count",
    "failed_before_count",
    "cancelled_at",
    "expires_at",
    "held_at",
    "canary_state",
    "queue_id",
    "waiting_count",
    "in_flight_count",
    "data_columns",
)


def locked_tasks(task_ids: Iterable[int]) -> QuerySet[models.Task]:
    """The tasks, their rows locked in the order of their keys; only what outcomes and requests need is read."""
    tasks = models.Task.objects.filter(pk__in=sorted(task_ids)).order_by("pk").select_for_update()
    return tasks.only(*TASK_COLUMNS)


def lock_tasks(task_ids: Iterable[int]) -> dict[int, models.Task]:
    """Return the tasks by key, locked as in `locked_tasks`."""
    return {task.pk: task for task in locked_tasks(task_ids)}


def lock_tasks_and_waiting(
    task_ids: Iterable[int],
    ranges: Sequence[tuple[int, int, int]],
    then: Callable[[list[models.Task]], None],
) -> None:
    """Lock tasks as `lock_tasks` does, and those of the first waiting rows of ranges of keys that the caller
    hasn't read yet, with the next statement that is waited for. then: is given them.
    """
    waiting, params = store.tasks_that_wait(ranges)
    # The array is made first: as part of the condition, it could be looked for in every task there is.
    sql = (
        f"SELECT {', '.join(TASK_COLUMNS)},"
        " (SELECT q.callback_url <> '' FROM scheduling_queue q WHERE q.id = queue_id) OR EXISTS (SELECT 1"
        f" FROM scheduling_channel c WHERE c.is_on AND c.types @> '[\"{models.EventType.TASK_DONE}\"]') AS is_reported"
        " FROM scheduling_task"
        f" WHERE id = ANY(ARRAY(SELECT unnest(%s::bigint[]) UNION {waiting})) ORDER BY id FOR UPDATE"
    )
    later.read_by_sql(models.Task, (*TASK_COLUMNS, "is_reported"), sql, [sorted(task_ids), *params], then)


def finish(task_ids: Iterable[int], *, at: datetime) -> None:
    """Mark the tasks that have nothing left to do as finished, queue their callbacks, and record the events."""
    if not (task_ids := list(task_ids)):
        return
    done = _done(task_ids)
    finished = []
    for task_id, callback in list(done.order_by("pk").values_list("pk", "queue__callback_url")):
        if done.filter(pk=task_id).update(finished_at=at):
            finished.append(task_id)
            if callback:
                cluster.enqueue("scheduling.jobs.call_back", task_id)
    if finished:
        recording.tasks_done(finished, at=at)


def finish_locked(tasks: Iterable[models.Task], *, at: datetime) -> None:
    """Do the same for tasks as `lock_tasks` or `lock_tasks_and_waiting` returned them: most need no event."""
    tasks = list(tasks)
    silent = [task.pk for task in tasks if not getattr(task, "is_reported", True)]
    if silent:
        later.update(_done(silent), finished_at=at)
    finish([task.pk for task in tasks if task.pk not in silent], at=at)


def _done(task_ids: Sequence[int]) -> QuerySet[models.Task]:
    return models.Task.objects.filter(
        pk__in=task_ids,
        finished_at=None,
        cancelled_at=None,
        placed_at__isnull=False,
        waiting_count=0,
        in_flight_count=0,
    )
