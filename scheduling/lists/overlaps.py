"""Compares a list with what is stored: which IDs are known users, were sent lately, or wait in other tasks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from scheduling import models, store
from scheduling.lists import stored_lists
from scheduling.models.states import Group, Status
from scheduling.parsing.spool import Spool

# The IDs that one statement looks up: in list order, and sorted.
IDS_PER_LOOKUP = 10_000
SORTED_IDS_PER_LOOKUP = 250_000
TASKS_NAMED = 20


class OverlapKind(StrEnum):
    """The ways in which IDs of a list can be in other tasks as well."""

    WAITING = "waiting"
    # Their request has succeeded, in one of the given tasks.
    SENT = "sent"


@dataclass(frozen=True)
class Elsewhere:
    """The number of IDs of a list that are in other tasks.

    tasks: the first few of these tasks, the largest overlap first.
    """

    count: int
    tasks: tuple[tuple[models.Task, int], ...]
    tasks_count: int


@dataclass(frozen=True)
class Overlap:
    """How many IDs of a list belong to no user, how many wait in other tasks, and how many were recently
    sent.
    """

    unknown_count: int
    waiting: Elsewhere
    sent: Elsewhere


def of_list(list_id: int, *, recent: Collection[int] = ()) -> Overlap:
    """Look up each ID of a list, which takes a few seconds for a million.

    recent: tasks that count as recently sent.
    """
    existing = total = 0
    counts = dict.fromkeys(OverlapKind, 0)
    by_task: dict[OverlapKind, Counter[int]] = {kind: Counter() for kind in OverlapKind}
    for ids in _sorted_parts(list_id):
        total += len(ids)
        existing += store.count_users(ids)
        for kind in OverlapKind:
            pairs = _elsewhere(ids, kind, recent)
            counts[kind] += len({user_id for user_id, _ in pairs})
            by_task[kind].update(task_id for _, task_id in pairs)
    named = {kind: by_task[kind].most_common(TASKS_NAMED) for kind in OverlapKind}
    tasks = models.Task.objects.in_bulk({task_id for each in named.values() for task_id, _ in each})
    waiting, sent = (
        Elsewhere(
            counts[kind],
            tuple((tasks[task_id], count) for task_id, count in named[kind] if task_id in tasks),
            len(by_task[kind]),
        )
        for kind in OverlapKind
    )
    return Overlap(total - existing, waiting, sent)


def recent_tasks(queue_name: str, *, since: datetime) -> dict[int, str]:
    """Return the tasks of the queue that were created since then, with the digests of their lists, by id."""
    tasks = models.Task.objects.filter(queue__name=queue_name, created_at__gte=since)
    return dict(tasks.order_by("pk").values_list("pk", "same_as_digest"))


def _sorted_parts(list_id: int) -> Iterator[list[int]]:
    """Yield the IDs sorted within large parts, so that neighbours in the index are read together."""
    return map(sorted, stored_lists.blocks(list_id, SORTED_IDS_PER_LOOKUP))


def _elsewhere(ids: Sequence[int], kind: OverlapKind, recent: Collection[int]) -> list[tuple[int, int]]:
    """Return pairs of an ID and a task in which it is waiting, or was sent."""
    if kind is OverlapKind.SENT:
        sent = store.in_status(ids, [Status.SUCCEEDED]) if recent else []
        return [pair for pair in sent if pair[1] in recent]
    pairs = store.in_status(ids, Status.of(Group.UNFINISHED))
    tasks = {task_id for _, task_id in pairs}
    # A waiting row of a cancelled task counts as cancelled, even if the row has not been updated yet.
    cancelled = set(
        models.Task.objects.filter(pk__in=tasks, cancelled_at__isnull=False).values_list("pk", flat=True)
    )
    return [pair for pair in pairs if pair[1] not in cancelled]


def spool_without(
    id_list: models.IdList,
    spool: Spool,
    kind: OverlapKind = OverlapKind.WAITING,
    *,
    recent: Collection[int] = (),
) -> int:
    """Spool a stored list without the IDs that are in other tasks as well. Returns how many are left out.

    They are looked up only once, because the spool is read several times while IDs start and stop waiting.
    Raises NoSpace.
    """
    left_out = 0
    for ids in stored_lists.blocks(id_list.pk, IDS_PER_LOOKUP):
        elsewhere = {user_id for user_id, _ in _elsewhere(ids, kind, recent)}
        remaining = array("q", [user_id for user_id in ids if user_id not in elsewhere])
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
    unchanged = waiting = total = 0
    for ids in _sorted_parts(list_id):
        total += len(ids)
        kept_here, waiting_here = store.kept_and_waiting(task.pk, ids)
        unchanged += kept_here
        waiting += waiting_here
    return Comparison(unchanged, total - unchanged, task.waiting_count - waiting)
