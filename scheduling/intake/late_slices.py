"""IDs whose rows are written when their minute is sealed or past: they take free places, or end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import structlog

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import Status
from scheduling.placement import ledger, reservations
from scheduling.placement.moves import last_minute

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Placed:
    """IDs of one bucket that get the keys from `first_key` on."""

    bucket_id: int
    first_key: int
    ids: Sequence[int]


def settle(
    queue: models.Queue, task: models.Task, groups: Sequence[Placed], at: datetime
) -> dict[Status, list[Placed]]:
    """Return the groups as they are to be written, by status; counters and moves are kept here.

    The caller holds the rows of the queue, of the buckets that may be sealed, and of the task. What comes too
    late by the list's `expires_at` or the queue's late policy ends where it is.
    """
    candidates = [group.bucket_id for group in groups]
    sealed = set(
        models.Bucket.objects.filter(pk__in=candidates, sealed_at__isnull=False).values_list("pk", flat=True)
    )
    in_time, late = [], []
    for group in groups:
        closed = clock.sealed_at(keys.minute_of_bucket(group.bucket_id)) <= at
        (late if closed or group.bucket_id in sealed else in_time).append(group)
    if not late:
        return {Status.WAITING: in_time}
    from_minute = clock.next_unsealed_minute(at)
    late, ended = _of_use(queue, task, late, from_minute)
    _end(task, ended)
    moved = _elsewhere(queue, task, late, from_minute, at) if late else []
    log.warning(
        "ids_written_late",
        task=task.pk,
        queue=queue.name,
        count=sum(len(group.ids) for group in late),
        expired=sum(len(group.ids) for group in ended),
    )
    return {Status.WAITING: in_time + moved, Status.EXPIRED: ended}


def _of_use(
    queue: models.Queue, task: models.Task, groups: Sequence[Placed], from_minute: datetime
) -> tuple[list[Placed], list[Placed]]:
    """Part what still gets a minute that is of use from what doesn't: free places go to the first in order."""
    places = reservations.free(queue, sum(len(group.ids) for group in groups), from_minute)
    late, ended, room, minute = [], [], 0, from_minute
    for group in groups:
        last, count = last_minute(queue, keys.minute_of_bucket(group.bucket_id)), 0
        while count < len(group.ids):
            if not room:
                bucket_id, room = next(places)
                minute = keys.minute_of_bucket(bucket_id)
            if minute > last or (task.expires_at is not None and minute >= task.expires_at):
                break
            taken = min(room, len(group.ids) - count)
            count, room = count + taken, room - taken
        if count:
            late.append(Placed(group.bucket_id, group.first_key, group.ids[:count]))
        if count < len(group.ids):
            ended.append(Placed(group.bucket_id, group.first_key + count, group.ids[count:]))
    return late, ended


def _end(task: models.Task, groups: Sequence[Placed]) -> None:
    counters = ledger.Counters()
    for group in groups:
        counters.change(task.pk, group.bucket_id, Status.WAITING, Status.EXPIRED, len(group.ids))
    counters.write()


def _elsewhere(
    queue: models.Queue, task: models.Task, late: Sequence[Placed], from_minute: datetime, at: datetime
) -> list[Placed]:
    """Give IDs whose minute is sealed or past the first free places from a minute on; keep the move."""
    leaving = {group.bucket_id: len(group.ids) for group in late}
    places = ledger.take_other_places(
        queue,
        leaving,
        was=Status.WAITING,
        from_minute=from_minute,
        reason=models.MoveReason.WRITTEN_LATE,
        at=at,
        task_id=task.pk,
    )
    moved = _share_out(late, places)
    ledger.record_moves(
        {ledger.Route(task.pk, came_from, group.bucket_id): group.ids for came_from, group in moved},
        was=Status.WAITING,
        reason=models.MoveReason.WRITTEN_LATE,
        at=at,
    )
    return [group for _, group in moved]


def _share_out(late: Sequence[Placed], places: Sequence[reservations.Places]) -> list[tuple[int, Placed]]:
    """Pair late IDs with places, in order: (bucket it leaves, its new group)."""
    waiting = ((group.bucket_id, user) for group in late for user in group.ids)
    moved: list[tuple[int, Placed]] = []
    for place in places:
        by_origin: dict[int, list[int]] = {}
        for came_from, user in islice(waiting, place.count):
            by_origin.setdefault(came_from, []).append(user)
        first_key = place.first_key
        for came_from, users in by_origin.items():
            moved.append((came_from, Placed(place.bucket_id, first_key, users)))
            first_key += len(users)
    return moved
