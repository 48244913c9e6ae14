"""Rows whose request is nothing but a mark in the database: counted and marked without leaving it.

Neither keys nor times travel. Which slot the k-th row gets is closed form (pacing.Slots), and mostly the rows'
keys follow each other, so that k is the distance from the first.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from django.db import connection

from scheduling import store
from scheduling.core import pacing
from scheduling.models import Status
from scheduling.store import later

_THESE = "id BETWEEN %s AND %s AND status = %s"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one task has among some waiting rows: how many, the first key and the last."""

    task_id: int
    count: int
    first: int
    last: int


def waiting_tasks(first: int, last: int, *, at_most: int, then: Callable[[list[Waiting]], None]) -> None:
    """Count the first waiting rows of a range of keys, by task. without cancelled tasks and those on hold.

    then: is given the counts; in a tick with the next statement that is waited for.
    """
    later.run(
        "SELECT task_id, COUNT(*), MIN(id), MAX(id) FROM (SELECT id, task_id FROM scheduling_assignment"
        f" WHERE {_THESE} AND {store.not_stopped_in([(first, last, at_most)])} ORDER BY id LIMIT %s) rows_there"
        " GROUP BY task_id",
        [first, last, Status.WAITING, at_most],
        lambda rows: then([Waiting(*row) for row in rows]),
    )


def expire(first: int, last: int, *, task_id: int, count: int) -> None:
    """Let the waiting rows of a task in a range of keys expire: so many."""
    store.may_become(Status.WAITING, [Status.EXPIRED])
    later.run_for(
        count,
        f"UPDATE scheduling_assignment SET status = %s WHERE {_THESE} AND task_id = %s",
        [Status.EXPIRED, first, last, Status.WAITING, task_id],
    )


def succeed(first: int, last: int, *, of_tasks: Mapping[int, int], slots: pacing.Slots, now_ms: int) -> None:
    """Let waiting rows in a range of keys succeed, an attempt more for each.

    of_tasks: whose rows, and how many of each are there. The k-th of all starts at the k-th of the slots, or
    `now_ms` after the minute's start where that is later.
    """
    store.may_become(Status.WAITING, [Status.SUCCEEDED])
    count = sum(of_tasks.values())
    if not count:
        return
    rank, rows, where = f"(id - {first:d})", "", _THESE
    if last - first + 1 != count:
        # Others' rows lie between.
        these = f"{_THESE} AND task_id IN ({_numbers(of_tasks)})"
        ranked = f"SELECT id AS key, row_number() OVER (ORDER BY id) - 1 AS k FROM scheduling_assignment WHERE {these}"
        rank, rows, where = "k", f" FROM ({ranked}) ranked", "id = key"
    larger = "greatest" if connection.vendor == "postgresql" else "max"
    later.run_for(
        count,
        "UPDATE scheduling_assignment SET status = %s, attempts = attempts + 1, started_after_ms ="
        f" {larger}(%s, {_slot_of(rank, slots)} * 60000 / {slots.plan.slot_count}){rows} WHERE {where}",
        [Status.SUCCEEDED, now_ms, first, last, Status.WAITING],
    )


def _slot_of(rank: str, slots: pacing.Slots) -> str:
    """The slot of a rank as SQL: whole numbers of ours, nobody's text."""
    plan, planned, free = slots.plan, slots.planned, slots.free
    of_plan = f"(({rank} + {planned.start}) * {plan.slot_count} / {max(plan.n, 1)})"
    if not free:
        return of_plan
    index = f"({rank} + {free.start - len(planned) + 1})"
    of_free = f"(({index} * {plan.slot_count} + {plan.free_count - 1}) / {plan.free_count} - 1)"
    return f"(CASE WHEN {rank} < {len(planned)} THEN {of_plan} ELSE {of_free} END)"


def _numbers(task_ids: Iterable[int]) -> str:
    return ", ".join(str(int(task_id)) for task_id in task_ids)
