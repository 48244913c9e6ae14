"""Give IDs another minute: late ones, retries, and what an operator sends again; or end them there.

An ID that waits or was just sent gets no other minute if its request could not be made there: an edit has removed
it meanwhile, or its list will have expired.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import NamedTuple

from scheduling import models, store
from scheduling.core import keys
from scheduling.models import Group, Status
from scheduling.placement import ledger, removals, reservations
from scheduling.placement.snapshot import Snapshot

FAR = datetime.max.replace(tzinfo=UTC)


class Row(NamedTuple):
    """The columns of an assignment that a move needs."""

    key: int
    user_id: int
    task_id: int
    attempts: int

    @property
    def bucket_id(self) -> int:
        return keys.bucket_of_assignment(self.key)


def move(
    queue: models.Queue,
    rows: Sequence[Row],
    *,
    from_minute: datetime,
    reason: str,
    was: Status,
    at: datetime,
    latest: Mapping[int, datetime] | None = None,
    snapshot: Snapshot | None = None,
) -> list[reservations.Places]:
    """Give rows with the status `was` the first free places from a minute on; there they wait.

    The caller holds the rows of the queue and of the buckets that are left, and the rows are as it read them
    under those locks. from_minute: not sealed at `at`. latest: by key, the start of the last minute in which a row may
    run. snapshot: what the caller has read already, under the lock. Returns the places, in order.
    """
    snapshot = snapshot or Snapshot()
    task_ids = {row.task_id for row in rows}
    rows, ending = _partition_movable(queue, rows, latest or {}, snapshot, from_minute=from_minute, was=was)
    # IDs that an operator retries or resends, and that would come too late, keep their status.
    if ending and Group.UNFINISHED in was.groups:
        # In order, together with those that move: another transaction may be changing the same tasks.
        ledger.lock_tasks(task_ids)
        _end_all(queue, ending, snapshot, was=was, at=at)
    if not rows:
        return []
    if Group.UNFINISHED not in was.groups:
        # The operator wants them sent, even if an edit has removed them.
        removals.forget_in_flight((row.task_id, row.user_id) for row in rows)
    leaving: dict[int, int] = defaultdict(int)
    for row in rows:
        leaving[row.bucket_id] += 1
    places = ledger.take_other_places(
        queue, leaving, was=was, from_minute=from_minute, reason=reason, at=at, snapshot=snapshot
    )
    pairs = list(zip(rows, _keys(places), strict=True))
    moved: dict[ledger.Route, list[int]] = defaultdict(list)
    for row, key in pairs:
        moved[ledger.Route(row.task_id, row.bucket_id, keys.bucket_of_assignment(key))].append(row.user_id)
    ledger.record_moves(moved, was=was, reason=reason, at=at, armed=snapshot.armed)
    store.move_rows([(row.key, key) for row, key in pairs], status=Status.WAITING, was=was)
    return places


def _partition_movable(
    queue: models.Queue,
    rows: Sequence[Row],
    latest: Mapping[int, datetime],
    snapshot: Snapshot,
    *,
    from_minute: datetime,
    was: Status,
) -> tuple[list[Row], dict[Status, list[Row]]]:
    """Return the rows that get another minute, and the others by the status with which they end."""
    task_ids = {row.task_id for row in rows}
    is_unfinished = Group.UNFINISHED in was.groups
    removed, expires = snapshot.removed_and_expires(task_ids)
    if not is_unfinished:
        removed = set()
    if not removed and not expires and not latest:
        return list(rows), {}
    # It was sent and failed, or was returned unsent.
    removed_status = Status.FAILED if was == Status.IN_FLIGHT else Status.CANCELLED
    leaving = Counter(row.bucket_id for row in rows) if is_unfinished else None
    free = reservations.free(queue, len(rows), from_minute, leaving=leaving, snapshot=snapshot)
    minutes = chain.from_iterable(repeat(keys.minute_of_bucket(bucket), count) for bucket, count in free)
    movable: list[Row] = []
    ending: dict[Status, list[Row]] = defaultdict(list)
    minute = next(minutes, from_minute)
    for row in rows:
        if (row.task_id, row.user_id) in removed:
            ending[removed_status].append(row)
        elif minute > latest.get(row.key, minute) or minute >= (expires.get(row.task_id) or FAR):
            ending[Status.EXPIRED].append(row)
        else:
            movable.append(row)
            minute = next(minutes, minute)
    return movable, ending


def _end_all(
    queue: models.Queue,
    ending: Mapping[Status, Sequence[Row]],
    snapshot: Snapshot,
    *,
    was: Status,
    at: datetime,
) -> None:
    for status, rows in ending.items():
        _end(queue, rows, status, snapshot, was=was, at=at)
    ledger.finish(sorted({row.task_id for rows in ending.values() for row in rows}), at=at)


def _end(
    queue: models.Queue,
    rows: Sequence[Row],
    status: Status,
    snapshot: Snapshot,
    *,
    was: Status,
    at: datetime,
) -> None:
    store.set_status_of_all([row.key for row in rows], status, was=was)
    if status != Status.CANCELLED:
        counters = ledger.Counters()
        for row in rows:
            counters.change(row.task_id, row.bucket_id, was, status)
        counters.write()
        return
    places: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        places[row.task_id][row.bucket_id] += 1
    for task in models.Task.objects.filter(pk__in=places).order_by("pk"):
        count = sum(places[task.pk].values())
        store.add_to_tasks({task.pk: {"waiting_count": -count, "cancelled_count": count}})
        ledger.release_places(queue, task, places[task.pk], at=at, snapshot=snapshot)


def _keys(places: Sequence[reservations.Places]) -> Iterator[int]:
    for place in places:
        yield from range(place.first_key, place.first_key + place.count)


def last_minute(queue: models.Queue, due: datetime) -> datetime:
    """Return the start of the last minute in which, by the queue's late policy, an ID may run that was due at `due`."""
    if queue.late_policy != models.LatePolicy.EXPIRE:
        return FAR
    return due + timedelta(seconds=queue.late_after_seconds or 0)
