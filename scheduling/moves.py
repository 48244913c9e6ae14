"""Give IDs another minute: late ones, retries, and what an operator sends again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models.functions import Greatest

from . import arming, claims, clock, keys, models, placement, store
from .models import Status

# The columns of a task that has something to do, also where it was done before: then its end is told again.
NOT_DONE = {
    "finished_at": None,
    "called_back_at": None,
    "callback_attempts": 0,
    "callback_due_at": None,
    "no_callback": False,
}


class Row(NamedTuple):
    """An assignment, as much of it as a move needs."""

    key: int
    user_id: int
    task_id: int
    attempts: int

    @property
    def bucket_id(self) -> int:
        return keys.bucket_of_assignment(self.key)


def move(
    queue: models.Queue, rows: Sequence[Row], *, from_minute: datetime, reason: str, was: Status, at: datetime
) -> list[placement.Places]:
    """Give rows with the status `was` the first free places from a minute on; there they wait.

    The caller holds the rows of the queue and of the buckets that are left, and the rows are as it read them
    under those locks. from_minute: not sealed at `at`. Returns the places, in order.
    """
    if not rows:
        return []
    counters = claims.Counters()
    leaving: dict[int, int] = defaultdict(int)
    for row in rows:
        leaving[row.bucket_id] += 1
        if was != Status.WAITING:
            counters.buckets[row.bucket_id][f"{was.word}_count"] -= 1
            counters.buckets[row.bucket_id]["waiting_count"] += 1
    store.add_to_buckets(counters.buckets)
    placement.change(
        queue, {b: -n for b, n in leaving.items()}, kind=models.ReservationKind.MOVE_OUT, at=at, note=reason
    )
    store.add_to_buckets({b: {"moved_count": n} for b, n in leaving.items()})
    places = placement.take_free_places(queue, len(rows), from_minute=from_minute, at=at, note=reason)
    pairs = list(zip(rows, _keys(places), strict=True))
    _count(pairs, was)
    if store.move_rows([(row.key, key) for row, key in pairs], status=Status.WAITING, was=was) != len(pairs):
        raise RuntimeError(f"{len(pairs)} rows were to move, and not all did")
    _remember(pairs, reason, at)
    for starts_at in sorted({keys.starts_at_of_window(place.bucket_id >> 4) for place in places}):
        if clock.state(starts_at, at) != clock.WindowState.FUTURE:
            arming.arm_window(starts_at, at=at)
    return places


def _keys(places: Sequence[placement.Places]) -> Iterator[int]:
    for place in places:
        yield from range(place.first_key, place.first_key + place.count)


def _count(pairs: Sequence[tuple[Row, int]], was: Status) -> None:
    """What the tasks have where, and how far they are."""
    tasks: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    placed: dict[int, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    last: dict[int, int] = {}
    for row, key in pairs:
        to_bucket = keys.bucket_of_assignment(key)
        if was != Status.WAITING:
            tasks[row.task_id][f"{was.word}_count"] -= 1
            tasks[row.task_id]["waiting_count"] += 1
        placed[row.task_id][row.bucket_id][f"{was.word}_count"] -= 1
        placed[row.task_id][row.bucket_id]["moved_count"] += 1
        placed[row.task_id][to_bucket]["waiting_count"] += 1
        last[row.task_id] = max(last.get(row.task_id, 0), to_bucket)
    store.add_to_tasks(tasks)
    for task_id, bucket_id in sorted(last.items()):
        last_at = Greatest("last_minute_at", keys.minute_of_bucket(bucket_id))
        models.Task.objects.filter(pk=task_id).update(last_minute_at=last_at, **NOT_DONE)
    for task_id in sorted(placed):
        store.add_to_task_buckets(task_id, placed[task_id])


def _remember(pairs: Sequence[tuple[Row, int]], reason: str, at: datetime) -> None:
    by_task: dict[int, dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, key in pairs:
        by_task[row.task_id][row.bucket_id, keys.bucket_of_assignment(key)].append(row.user_id)
    for task_id, moves in sorted(by_task.items()):
        groups = [(users, came_from, to) for (came_from, to), users in moves.items()]
        store.insert_moves(task_id, groups, reason=reason, at=at)
