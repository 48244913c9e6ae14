"""What a list has in common with what is there: users that are known, IDs that wait in other tasks."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduling import models, store
from scheduling.lists import stored_lists
from scheduling.parsing.spool import Spool

# IDs that are left out of a list as it is spooled, and IDs that are sorted and asked for in one statement.
ASKED_AT_ONCE = 10_000
SORTED_IDS = 250_000
TASKS_NAMED = 20


@dataclass(frozen=True)
class Overlap:
    """Of a list's IDs: how many no user has, how many wait elsewhere, and how many in which tasks."""

    unknown_count: int
    waiting_count: int
    tasks: tuple[tuple[models.Task, int], ...]
    tasks_count: int


def of_list(list_id: int) -> Overlap:
    """Look up each ID of a list by key: some seconds for a million."""
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
    """The list's IDs, sorted within large parts, so that neighbours in the index are met together."""
    return map(sorted, stored_lists.blocks(list_id, SORTED_IDS))


def _waiting(ids: Sequence[int]) -> list[tuple[int, int]]:
    found = store.unfinished(ids)
    tasks = {task_id for _, task_id in found}
    # A waiting row of a cancelled task is cancelled: its row only hasn't followed yet.
    cancelled = set(
        models.Task.objects.filter(pk__in=tasks, cancelled_at__isnull=False).values_list("pk", flat=True)
    )
    return [pair for pair in found if pair[1] not in cancelled]


def spool_without_waiting(id_list: models.IdList, spool: Spool) -> int:
    """Spool a stored list less the IDs that wait elsewhere, in its order; return how many are left out.

    Looked up once: what is written of a long list is read several times, and IDs begin and cease to wait
    meanwhile. Raises NoSpace.
    """
    left_out = 0
    for ids in stored_lists.blocks(id_list.pk, ASKED_AT_ONCE):
        waiting = {user_id for user_id, _ in _waiting(ids)}
        remaining = array("q", [user_id for user_id in ids if user_id not in waiting])
        left_out += len(ids) - len(remaining)
        spool.extend(remaining)
    spool.finish()
    return left_out


class StoredSource:
    """A stored list as a source, to be read as often as is needed."""

    def __init__(self, id_list: models.IdList) -> None:
        self._list = id_list
        self.ids_count = id_list.ids_count
        self.repeats_count = id_list.repeats_count
        self.same_as_digest = id_list.about["same_as_digest"]

    def unique_blocks(self, size: int) -> Iterator[array]:
        """Yield the IDs in the order of the list, in arrays of `size`."""
        return stored_lists.blocks(self._list.pk, size)


@dataclass(frozen=True)
class Comparison:
    """A list beside the one that a task has: IDs in both, only in the new one, to be cancelled."""

    kept: int
    added: int
    cancelled: int


def compare_with_task(task: models.Task, list_id: int) -> Comparison:
    """What a list would change of a task that is written, as things stand."""
    kept = waiting = total = 0
    for ids in _sorted_parts(list_id):
        total += len(ids)
        found = store.kept_and_waiting(task.pk, ids)
        kept, waiting = kept + found[0], waiting + found[1]
    return Comparison(kept, total - kept, task.waiting_count - waiting)
