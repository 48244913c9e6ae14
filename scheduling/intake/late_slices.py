"""Rows that are written when their minute is sealed or past: their IDs take free places, or expire."""

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
    """Return the groups as they are to be written, by status. Counters and moves are kept here.

    The caller holds the rows of the queue, of the buckets that may be sealed, and of the task. IDs that are too late
    by the list's `expires_at` or the queue's late policy expire where they are.
    """
    candidates = [group.bucket_id for group in groups]
    sealed = set(
        models.Bucket.objects.filter(pk__in=candidates, sealed_at__isnull=False).values_list("pk", flat=True)
    )
    in_time: list[Placed] = []
    late: list[Placed] = []
    for group in groups:
        closed = clock.sealed_at(keys.minute_of_bucket(group.bucket_id)) <= at
        (late if closed or group.bucket_id in sealed else in_time).append(group)
    if not late:
        return {Status.WAITING: in_time}
    from_minute = clock.next_unsealed_minute(at)
    movable, expired = _partition_movable(queue, task, late, from_minute)
    _expire(task, expired)
    moved = _move_to_free_places(queue, task, movable, from_minute, at) if movable else []
    log.warning(
        "ids_written_late",
        task=task.pk,
        queue=queue.name,
        count=sum(len(group.ids) for group in movable),
        expired=sum(len(group.ids) for group in expired),
    )
    return {Status.WAITING: in_time + moved, Status.EXPIRED: expired}


def _partition_movable(
    queue: models.Queue, task: models.Task, groups: Sequence[Placed], from_minute: datetime
) -> tuple[list[Placed], list[Placed]]:
    """Return the IDs that get a free place in time, and those that don't. Places go to the first in order."""
    leaving = {group.bucket_id: len(group.ids) for group in groups}
    places = reservations.free(queue, sum(leaving.values()), from_minute, leaving=leaving)
    movable: list[Placed] = []
    expired: list[Placed] = []
    room, minute = 0, from_minute
    for group in groups:
        last, count = last_minute(queue, keys.minute_of_bucket(group.bucket_id)), 0
        while count < len(group.ids):
            if not room:
                bucket_id, room = next(places)
                minute = keys.minute_of_bucket(bucket_id)
            if minute > last or (task.expires_at is not None and minute >= task.expires_at):
                break
            moving = min(room, len(group.ids) - count)
            count, room = count + moving, room - moving
        if count:
            movable.append(Placed(group.bucket_id, group.first_key, group.ids[:count]))
        if count < len(group.ids):
            expired.append(Placed(group.bucket_id, group.first_key + count, group.ids[count:]))
    return movable, expired


def _expire(task: models.Task, groups: Sequence[Placed]) -> None:
    counters = ledger.Counters()
    for group in groups:
        counters.change(task.pk, group.bucket_id, Status.WAITING, Status.EXPIRED, len(group.ids))
    counters.write()


def _move_to_free_places(
    queue: models.Queue, task: models.Task, late: Sequence[Placed], from_minute: datetime, at: datetime
) -> list[Placed]:
    """Give IDs whose minute is sealed or past the first free places from a minute on."""
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
        {ledger.Route(task.pk, from_bucket, group.bucket_id): group.ids for from_bucket, group in moved},
        was=Status.WAITING,
        reason=models.MoveReason.WRITTEN_LATE,
        at=at,
    )
    return [group for _, group in moved]


def _share_out(late: Sequence[Placed], places: Sequence[reservations.Places]) -> list[tuple[int, Placed]]:
    """Pair late IDs with places, in order: (bucket that they leave, their new group)."""
    waiting = ((group.bucket_id, user) for group in late for user in group.ids)
    moved: list[tuple[int, Placed]] = []
    for place in places:
        by_origin: dict[int, list[int]] = {}
        for from_bucket, user in islice(waiting, place.count):
            by_origin.setdefault(from_bucket, []).append(user)
        first_key = place.first_key
        for from_bucket, users in by_origin.items():
            moved.append((from_bucket, Placed(place.bucket_id, first_key, users)))
            first_key += len(users)
    return moved
