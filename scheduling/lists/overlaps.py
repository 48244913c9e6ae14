"""Compares a list with what is stored: which IDs are known users, and which are waiting in other tasks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduling import models, store
from scheduling.lists import stored_lists
from scheduling.parsing.spool import Spool

# IDs that are looked up in one statement: in list order, and sorted.
IDS_PER_LOOKUP = 10_000
SORTED_IDS_PER_LOOKUP = 250_000
TASKS_NAMED = 20


@dataclass(frozen=True)
class Overlap:
    """How many IDs of a list belong to no user, and how many are waiting in which other tasks."""

    unknown_count: int
    waiting_count: int
    tasks: tuple[tuple[models.Task, int], ...]
    tasks_count: int


def of_list(list_id: int) -> Overlap:
    """Look up each ID of a list, which takes some seconds for a million."""
    known = waiting = total = 0
    by_task: Counter[int] = Counter()
    for ids in _sorted_parts(list_id):
        total += len(ids)
        known += store.count_users(ids)
        found = _waiting(ids)
        waiting += len({user_id for user_id, _ in found})
        by_task.update(task_id for _, task_id in found)
    named = by_task.most_common(TASKS_NAMED)
    tasks = models.Task.objects.in_bulk([task_id for task_id, _ in named])
    return Overlap(
        unknown_count=total - known,
        waiting_count=waiting,
        tasks=tuple((tasks[task_id], count) for task_id, count in named if task_id in tasks),
        tasks_count=len(by_task),
    )


def _sorted_parts(list_id: int) -> Iterator[list[int]]:
    """Yield the IDs sorted within large parts, so that neighbours in the index are read together."""
    return map(sorted, stored_lists.blocks(list_id, SORTED_IDS_PER_LOOKUP))


def _waiting(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of an ID and a task in which it is waiting."""
    found = store.unfinished(ids)
    tasks = {task_id for _, task_id in found}
    # A waiting row of a cancelled task counts as cancelled, even if the row has not been updated yet.
    cancelled = set(
        models.Task.objects.filter(pk__in=tasks, cancelled_at__isnull=False).values_list("pk", flat=True)
    )
    return [pair for pair in found if pair[1] not in cancelled]


def spool_without_waiting(id_list: models.IdList, spool: Spool) -> int:
    """Spool a stored list without the IDs that are waiting in other tasks. Returns how many are left out.

    They are looked up only once, because the spool is read several times while IDs start and stop waiting.
    Raises NoSpace.
    """
    left_out = 0
    for ids in stored_lists.blocks(id_list.pk, IDS_PER_LOOKUP):
        waiting = {user_id for user_id, _ in _waiting(ids)}
        remaining = array("q", [user_id for user_id in ids if user_id not in waiting])
        left_out += len(ids) - len(remaining)
        spool.extend(remaining)
    spool.finish()
    return left_out


class StoredSource:
    """A stored list as a source, which can be read as often as needed."""

    def __init__(self, id_list: models.IdList) -> None:
        self._list = id_list
        self.ids_count = id_list.ids_count
        self.repeats_count = id_list.repeats_count
        self.same_as_digest = id_list.about["same_as_digest"]

    def unique_blocks(self, size: int) -> Iterator[array[int]]:
        """Yield the IDs in list order, in arrays of `size`."""
        return stored_lists.blocks(self._list.pk, size)


@dataclass(frozen=True)
class Comparison:
    """A list compared with that of a task: how many IDs are in both, only in the new one, and to be cancelled."""

    kept: int
    added: int
    cancelled: int


def compare_with_task(task: models.Task, list_id: int) -> Comparison:
    """Return what replacing the task's list would change now. The task is completely written."""
    kept = waiting = total = 0
    for ids in _sorted_parts(list_id):
        total += len(ids)
        kept_here, waiting_here = store.kept_and_waiting(task.pk, ids)
        kept += kept_here
        waiting += waiting_here
    return Comparison(kept, total - kept, task.waiting_count - waiting)
