"""Tasks whose IDs stand in the minutes that a test wants, as acceptance and allocation leave them."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.lists import stored_lists
from scheduling.placement import reservations


def minutes_of(plan: reservations.Plan) -> dict[datetime, int]:
    """How many IDs of a plan each minute gets."""
    return {
        keys.minute_of_bucket(keys.bucket_id(window.window_id, k)): count
        for window in plan.windows
        for k, count in enumerate(window.added)
        if count
    }


def make_queue(name: str = "q", **fields) -> models.Queue:
    return models.Queue.objects.create(name=name, created_at=clock.EPOCH, **fields)


def place(
    queue: models.Queue,
    minutes: Mapping[datetime, Sequence[int]],
    *,
    at: datetime,
    name: str = "a list",
    written: bool = True,
    **fields,
) -> models.Task:
    """Make a task with these user IDs in these minutes (their starts)."""
    ids = [user for minute in sorted(minutes) for user in minutes[minute]]
    by_window = keys.by_window((keys.bucket_at(queue.pk, at), len(users)) for at, users in minutes.items())
    windows, position = [], 0
    for window_id, added in sorted(by_window.items()):
        before = reservations.fills([window_id]).get(window_id, reservations.EMPTY)
        windows.append(reservations.WindowPlan(window_id, before, tuple(added), position))
        position += sum(added)
    plan = reservations.Plan(queue.rpm, tuple(windows))
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        id_list = models.IdList.objects.create(ids_count=len(ids), created_at=at, accepted_at=at)
        task = models.Task.objects.create(
            name=name,
            queue=queue,
            list=id_list,
            ids_count=len(ids),
            waiting_count=len(ids),
            first_minute_at=plan.first_at,
            last_minute_at=plan.last_at,
            created_at=at,
            created_by="a test",
            placed_at=at if written else None,
            **fields,
        )
        stored_lists.write(id_list, blocks(array("q", ids), stored_lists.CHUNK_IDS))
        reservations.reserve(queue, plan, task_id=task.pk, list_id=id_list.pk, at=at)
        if written:
            groups = []
            buckets = {keys.bucket_at(queue.pk, minute): list(users) for minute, users in minutes.items()}
            ordinals = store.take_ordinals({bucket: len(users) for bucket, users in buckets.items()})
            for bucket_id, users in sorted(buckets.items()):
                groups.append((keys.assignment_id(bucket_id, ordinals[bucket_id]), users))
            store.insert_assignments(task.pk, groups, status=models.Status.WAITING)
    return task


def blocks(ids: array, size: int) -> Iterator[array]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def counted() -> dict[str, int]:
    """How many rows have which status, by its word."""
    result: dict[str, int] = {}
    for status in models.Assignment.objects.values_list("status", flat=True):
        word = models.Status(status).word
        result[word] = result.get(word, 0) + 1
    return result
