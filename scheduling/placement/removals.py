"""IDs that leave a task by an edit: looked up without a lock, cancelled under it in the order of places.

Under the lock a million rows are met one after the other, as they lie, instead of here and there; only those
that were claimed, sent or moved since they were looked up are looked up again.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from scheduling import models, store
from scheduling.core import keys, limits
from scheduling.lists.differences import Difference
from scheduling.models import Group, Status
from scheduling.parsing.spool import IdFile

_SENT = Status.of(Group.SENT)
_UNFINISHED = Status.of(Group.UNFINISHED)


class ChangedMeanwhile(Exception):
    """What was looked up is no longer so in a way that only a new look can tell."""


@dataclass
class LetGo:
    """What became of IDs that left. places: bucket ID to how many it gives back.

    under_way: the IDs whose request is just being made, by this edit's or an earlier one's leave.
    """

    places: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    already_sent: int = 0
    in_flight: int = 0
    under_way: list[int] = field(default_factory=list)

    def count(self, user: int, status: int, *, is_now: bool) -> None:
        """Count an ID that is not cancelled, if it was still in the list as it was sent."""
        self.already_sent += is_now and status in _SENT
        self.in_flight += is_now and status == Status.IN_FLIGHT
        if status == Status.IN_FLIGHT:
            self.under_way.append(user)


class Leaving:
    """What is in a difference's `gone`, by place. Look first, then let go in the transaction of the edit."""

    def __init__(self, task: models.Task, difference: Difference, folder: Path) -> None:
        self._task = task
        self._keys, self._users = IdFile(folder), IdFile(folder)
        self._now_count = 0
        self._found = LetGo()
        self._last_move = self._moves().order_by("-pk").values_list("pk", flat=True).first() or 0
        gone, now = difference.gone, difference.gone_now_count
        self._look(gone, 0, now, is_now=True)
        self._now_count = self._keys.count
        self._look(gone, now, gone.count, is_now=False)

    def _moves(self):
        return models.Move.objects.filter(task_id=self._task.pk, reason=models.MoveReason.OPERATOR)

    def _look(self, gone: IdFile, first: int, end: int, *, is_now: bool) -> None:
        for start in range(first, end, limits.SORTED_IDS):
            users = sorted(gone.read(start, min(limits.SORTED_IDS, end - start)))
            found, found_users = array("q"), array("q")
            for key, user, status in _rows(self._task, users):
                if status in _UNFINISHED:
                    found.append(key)
                    found_users.append(user)
                else:
                    self._found.count(user, status, is_now=is_now)
            order = sorted(range(len(found)), key=found.__getitem__)
            self._keys.append(array("q", map(found.__getitem__, order)))
            self._users.append(array("q", map(found_users.__getitem__, order)))

    def let_go(self) -> LetGo:
        """Cancel what waits; the caller holds the buckets where the task waits. Raises ChangedMeanwhile."""
        # What was sent or expired comes to wait again by an operator's hand alone.
        if self._moves().filter(pk__gt=self._last_move).exists():
            raise ChangedMeanwhile
        result = LetGo(already_sent=self._found.already_sent, in_flight=self._found.in_flight)
        for first, end in ((0, self._now_count), (self._now_count, self._keys.count)):
            for start in range(first, end, limits.IDS_PER_QUERY):
                count = min(limits.IDS_PER_QUERY, end - start)
                self._cancel(start, count, result, is_now=first < self._now_count)
        return result

    def _cancel(self, start: int, count: int, result: LetGo, *, is_now: bool) -> None:
        places, users = self._keys.read(start, count), self._users.read(start, count)
        # Read first: a row may also have been cancelled since it was looked up, as it came back unsent.
        there = models.Assignment.objects.filter(pk__in=places, status=Status.WAITING)
        waiting = set(there.values_list("pk", flat=True))
        if store.set_status(sorted(waiting), Status.CANCELLED, was=Status.WAITING) != len(waiting):
            raise ChangedMeanwhile
        _tally(waiting, result)
        if len(waiting) == count:
            return
        again = [user for key, user in zip(places, users, strict=True) if key not in waiting]
        for key, user, status in list(_rows(self._task, sorted(again))):
            if status != Status.WAITING:
                result.count(user, status, is_now=is_now)
            elif store.set_status([key], Status.CANCELLED, was=Status.WAITING):
                _tally([key], result)

    def close(self) -> None:
        """Give the disk space back."""
        self._keys.close()
        self._users.close()

    def __enter__(self) -> "Leaving":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remember(task: models.Task, under_way: Iterable[int]) -> None:
    """Keep which IDs have left whose request is being made, in the transaction of the edit."""
    models.LeftInFlight.objects.filter(task=task).delete()
    left = [models.LeftInFlight(task=task, user_id=user) for user in under_way]
    models.LeftInFlight.objects.bulk_create(left, batch_size=limits.IDS_PER_QUERY)


def have_left(task_ids: Iterable[int]) -> set[tuple[int, int]]:
    """(task, ID) of IDs that left these tasks while their request was being made: they aren't sent again."""
    left = models.LeftInFlight.objects.filter(task__in=set(task_ids))
    return set(left.values_list("task_id", "user_id"))


def _tally(places: Iterable[int], result: LetGo) -> None:
    for key in places:
        result.places[keys.bucket_of_assignment(key)] += 1


def _rows(task: models.Task, users: list[int]) -> Iterator[tuple[int, int, int]]:
    for start in range(0, len(users), limits.IDS_PER_QUERY):
        rows = models.Assignment.objects.filter(
            task=task, user_id__in=users[start : start + limits.IDS_PER_QUERY]
        )
        yield from rows.values_list("pk", "user_id", "status")
