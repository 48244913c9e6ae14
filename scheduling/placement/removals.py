"""IDs that an edit removes from a task: looked up without a lock, then cancelled under it in the order of places.

So a million rows are read in the order in which they lie; only those that were claimed, sent or moved since they were
looked up are looked up again.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.db.models import QuerySet

from scheduling import models, store
from scheduling.core import keys, limits
from scheduling.core.batches import batches
from scheduling.core.closing import Closing
from scheduling.lists.differences import Difference
from scheduling.models import Group, Status
from scheduling.parsing.spool import IdFile
from scheduling.store import later

_SENT = Status.of(Group.SENT)
_UNFINISHED = Status.of(Group.UNFINISHED)


class ChangedMeanwhile(Exception):
    """Something has changed since the look-up, and only another look-up can tell what."""


@dataclass
class Removed:
    """What became of the IDs that an edit removes. released: bucket ID to how many places become free.

    in_flight: the IDs whose request is being made, also those that an earlier edit removed. in_flight_count: how
    many of them this edit removes.
    """

    released: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    already_sent_count: int = 0
    in_flight_count: int = 0
    in_flight: list[int] = field(default_factory=list)

    def count(self, user: int, status: int, *, is_current: bool) -> None:
        """Count an ID that is not cancelled, if it was still in the list as it was sent."""
        self.already_sent_count += is_current and status in _SENT
        self.in_flight_count += is_current and status == Status.IN_FLIGHT
        if status == Status.IN_FLIGHT:
            self.in_flight.append(user)

    def release(self, places: Iterable[int]) -> None:
        """Count the places of these assignment keys as released."""
        for key in places:
            self.released[keys.bucket_of_assignment(key)] += 1


class Removal(Closing):
    """The IDs that an edit removes, by place: first looked up, then cancelled in the edit's transaction."""

    def __init__(self, task: models.Task, difference: Difference, folder: Path) -> None:
        self._task = task
        self._keys, self._users = IdFile(folder), IdFile(folder)
        self._current_count = 0
        self._finished = Removed()
        self._last_move = self._resent().order_by("-pk").values_list("pk", flat=True).first() or 0
        removed_ids, current = difference.removed, difference.removed_now_count
        self._look_up(removed_ids, 0, current, is_current=True)
        self._current_count = self._keys.count
        self._look_up(removed_ids, current, removed_ids.count, is_current=False)

    def _resent(self) -> QuerySet[models.Move]:
        return models.Move.objects.filter(task_id=self._task.pk, reason=models.MoveReason.OPERATOR)

    def _look_up(self, removed_ids: IdFile, first: int, end: int, *, is_current: bool) -> None:
        for start in range(first, end, limits.SORTED_IDS):
            users = sorted(removed_ids.read(start, min(limits.SORTED_IDS, end - start)))
            row_keys, row_users = array("q"), array("q")
            for key, user, status in _rows(self._task, users):
                if status in _UNFINISHED:
                    row_keys.append(key)
                    row_users.append(user)
                else:
                    self._finished.count(user, status, is_current=is_current)
            order = sorted(range(len(row_keys)), key=row_keys.__getitem__)
            self._keys.append(array("q", map(row_keys.__getitem__, order)))
            self._users.append(array("q", map(row_users.__getitem__, order)))

    def cancel_waiting(self) -> Removed:
        """Cancel what waits; the caller holds the buckets where the task waits. Raises ChangedMeanwhile."""
        # Sent and expired IDs wait again only if an operator asks for it.
        if self._resent().filter(pk__gt=self._last_move).exists():
            raise ChangedMeanwhile
        result = Removed(
            already_sent_count=self._finished.already_sent_count,
            in_flight_count=self._finished.in_flight_count,
        )
        for first, end in ((0, self._current_count), (self._current_count, self._keys.count)):
            for start in range(first, end, limits.IDS_PER_QUERY):
                count = min(limits.IDS_PER_QUERY, end - start)
                self._cancel(start, count, result, is_current=first < self._current_count)
        return result

    def _cancel(self, start: int, count: int, result: Removed, *, is_current: bool) -> None:
        places, users = self._keys.read(start, count), self._users.read(start, count)
        # Read first: a row may also have been cancelled since it was looked up, as it came back unsent.
        rows = models.Assignment.objects.filter(pk__in=places, status=Status.WAITING)
        waiting = set(rows.values_list("pk", flat=True))
        if store.set_status(sorted(waiting), Status.CANCELLED, was=Status.WAITING) != len(waiting):
            raise ChangedMeanwhile
        result.release(waiting)
        if len(waiting) == count:
            return
        again = [user for key, user in zip(places, users, strict=True) if key not in waiting]
        for key, user, status in list(_rows(self._task, sorted(again))):
            if status != Status.WAITING:
                result.count(user, status, is_current=is_current)
            elif store.set_status([key], Status.CANCELLED, was=Status.WAITING):
                result.release([key])

    def close(self) -> None:
        """Give the disk space back."""
        self._keys.close()
        self._users.close()


def record_in_flight(task: models.Task, users: Iterable[int]) -> None:
    """Record which IDs were removed while their request was being made, in the transaction of the edit."""
    models.LeftInFlight.objects.filter(task=task).delete()
    removed = [models.LeftInFlight(task=task, user_id=user) for user in users]
    models.LeftInFlight.objects.bulk_create(removed, batch_size=limits.IDS_PER_QUERY)


def removed_in_flight(task_ids: Iterable[int]) -> set[tuple[int, int]]:
    """Return (task, ID) of IDs that edits removed while their request was being made: they aren't sent again."""
    removed = models.LeftInFlight.objects.filter(task__in=set(task_ids))
    return set(removed.values_list("task_id", "user_id"))


def read_removed_in_flight(task_ids: Iterable[int], then: Callable[[set[tuple[int, int]]], None]) -> None:
    """Read the same, in a tick with the next statement that is waited for. then: is given it."""
    removed = models.LeftInFlight.objects.filter(task__in=set(task_ids))
    later.read(removed, lambda rows: then({(row.task_id, row.user_id) for row in rows}))


def forget_in_flight(ids: Iterable[tuple[int, int]]) -> None:
    """Forget that edits have removed these IDs, as (task, ID), while their request was being made."""
    by_task: dict[int, list[int]] = defaultdict(list)
    for task_id, user_id in ids:
        by_task[task_id].append(user_id)
    removed = models.LeftInFlight.objects.filter(task__in=by_task)
    for task_id in set(removed.values_list("task_id", flat=True)):
        for users in batches(by_task[task_id]):
            removed.filter(task=task_id, user_id__in=users).delete()


def _rows(task: models.Task, users: list[int]) -> Iterator[tuple[int, int, int]]:
    for part in batches(users):
        rows = models.Assignment.objects.filter(task=task, user_id__in=part)
        yield from rows.values_list("pk", "user_id", "status")
