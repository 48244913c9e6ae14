"""Give IDs another minute: late ones, retries, and what an operator sends again; or end them there.

What waits or was just sent gets no other minute where its request could not be made in it: an edit has left it
out meanwhile, or its list has expired by then.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import NamedTuple

from scheduling import models, store
from scheduling.core import keys
from scheduling.models import Group, Status
from scheduling.placement import cancellation, ledger, removals, reservations

FAR = datetime.max.replace(tzinfo=UTC)


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
    queue: models.Queue,
    rows: Sequence[Row],
    *,
    from_minute: datetime,
    reason: str,
    was: Status,
    at: datetime,
    latest: Mapping[int, datetime] | None = None,
) -> list[reservations.Places]:
    """Give rows with the status `was` the first free places from a minute on; there they wait.

    The caller holds the rows of the queue and of the buckets that are left, and the rows are as it read them
    under those locks. from_minute: not sealed at `at`. latest: by key, the start of the last minute that is of
    use to a row. Returns the places, in order.
    """
    rows = _that_go_on(queue, rows, latest or {}, from_minute=from_minute, was=was, at=at)
    if not rows:
        return []
    leaving: dict[int, int] = defaultdict(int)
    for row in rows:
        leaving[row.bucket_id] += 1
    places = ledger.take_other_places(queue, leaving, was=was, from_minute=from_minute, reason=reason, at=at)
    pairs = list(zip(rows, _keys(places), strict=True))
    moved: dict[ledger.Route, list[int]] = defaultdict(list)
    for row, key in pairs:
        moved[ledger.Route(row.task_id, row.bucket_id, keys.bucket_of_assignment(key))].append(row.user_id)
    ledger.record_moves(moved, was=was, reason=reason, at=at)
    count = store.move_rows([(row.key, key) for row, key in pairs], status=Status.WAITING, was=was)
    ledger.must_be(len(pairs), count)
    return places


def _that_go_on(
    queue: models.Queue,
    rows: Sequence[Row],
    latest: Mapping[int, datetime],
    *,
    from_minute: datetime,
    was: Status,
    at: datetime,
) -> Sequence[Row]:
    """Return the rows that get another minute. Of the others, what waits or was just sent ends.

    What an operator asks for again, and would come too late, stays what it is.
    """
    task_ids = {row.task_id for row in rows}
    at_work = Group.UNFINISHED in was.groups
    left = removals.have_left(task_ids) if at_work else set()
    expiring = models.Task.objects.filter(pk__in=task_ids, expires_at__isnull=False, cancelled_at=None)
    expires = dict(expiring.values_list("pk", "expires_at"))
    if not left and not expires and not latest:
        return rows
    free = reservations.free(queue, len(rows), from_minute)
    minutes = chain.from_iterable(repeat(keys.minute_of_bucket(bucket), count) for bucket, count in free)
    going, ended, minute = [], defaultdict(list), next(minutes, from_minute)
    for row in rows:
        if (row.task_id, row.user_id) in left:
            # It was sent and failed; or it came back unsent.
            ended[Status.FAILED if was == Status.IN_FLIGHT else Status.CANCELLED].append(row)
        elif minute > latest.get(row.key, minute) or minute >= expires.get(row.task_id, FAR):
            ended[Status.EXPIRED].append(row)
        else:
            going.append(row)
            minute = next(minutes, minute)
    if ended and at_work:
        # In order, and with those that move: another transaction may be at the same tasks.
        ledger.lock_tasks(task_ids)
        for status, some in ended.items():
            _end(queue, some, status, was=was, at=at)
        ledger.finish(sorted({row.task_id for some in ended.values() for row in some}), at=at)
    return going


def _end(queue: models.Queue, rows: Sequence[Row], status: Status, *, was: Status, at: datetime) -> None:
    ledger.must_be(len(rows), store.set_status([row.key for row in rows], status, was=was))
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
        cancellation.give_back(queue, task, places[task.pk], at=at)


def _keys(places: Sequence[reservations.Places]) -> Iterator[int]:
    for place in places:
        yield from range(place.first_key, place.first_key + place.count)


def last_minute(queue: models.Queue, due: datetime) -> datetime:
    """The last minute in which by the queue's late policy an ID may run that was due in another. Their starts."""
    if queue.late_policy != models.LatePolicy.EXPIRE:
        return FAR
    return due + timedelta(seconds=queue.late_after_seconds or 0)
