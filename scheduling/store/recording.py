"""Rows whose request is nothing but a mark in the database: counted and marked without leaving it.

Neither keys nor times travel. Which slot the k-th row gets is closed form (pacing.Slots), and mostly the rows'
keys follow each other, so that k is the distance from the first.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from django.db import connection

from scheduling import store
from scheduling.core import pacing
from scheduling.models import Status
from scheduling.store import later, outcomes
from scheduling.store.canary_rows import IN_CANARY

_THESE = "id BETWEEN %s AND %s AND status = %s"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one task has among some waiting rows: how many, the first key and the last.

    is_canary: only those of its canary, among others that wait for it.
    """

    task_id: int
    count: int
    first: int
    last: int
    is_canary: bool = False


def waiting_tasks(first: int, last: int, *, at_most: int, then: Callable[[list[Waiting]], None]) -> None:
    """Count the first waiting rows of a range of keys that may start, by task.

    then: is given the counts; in a tick with the next statement that is waited for.
    """
    rows_in = [(first, last, at_most)]
    later.run(
        "SELECT task_id, COUNT(*), MIN(id), MAX(id), MAX(canary) FROM (SELECT id, task_id,"
        f" CASE WHEN {store.is_of_canary_in(rows_in)} THEN 1 ELSE 0 END AS canary FROM scheduling_assignment"
        f" WHERE {_THESE} AND {store.may_start_in(rows_in)} ORDER BY id LIMIT %s) rows_there"
        " GROUP BY task_id",
        [first, last, Status.WAITING, at_most],
        lambda rows: then(
            [Waiting(task, n, first_key, last_key, bool(own)) for task, n, first_key, last_key, own in rows]
        ),
    )


def expire(first: int, last: int, *, task_id: int, count: int, is_canary: bool = False) -> None:
    """Let the `count` waiting rows of a task in a range of keys expire. is_canary: those of its canary alone."""
    store.may_become(Status.WAITING, [Status.EXPIRED])
    condition = f"{_THESE} AND {IN_CANARY}" if is_canary else _THESE
    later.run_for(
        count,
        f"UPDATE scheduling_assignment SET status = %s WHERE {condition} AND task_id = %s",
        [Status.EXPIRED, first, last, Status.WAITING, task_id],
    )
    outcomes.add_range(first, last)


def succeed(
    first: int,
    last: int,
    *,
    of_tasks: Mapping[int, int],
    canaries: Collection[int] = (),
    slots: pacing.Slots,
    now_ms: int,
) -> None:
    """Let waiting rows in a range of keys succeed, an attempt more for each.

    of_tasks: whose rows, and how many of each are there. canaries: those of which only the canary's are meant. The
    k-th of all starts at the k-th of the slots, or `now_ms` after the minute's start where that is later.
    """
    store.may_become(Status.WAITING, [Status.SUCCEEDED])
    count = sum(of_tasks.values())
    if not count:
        return
    rank, rows, where = f"(id - {first:d})", "", _THESE
    if last - first + 1 != count:
        # There are rows of other tasks in between.
        condition = f"{_THESE} AND task_id IN ({_numbers(of_tasks)})"
        if canaries:
            condition += f" AND (task_id NOT IN ({_numbers(canaries)}) OR {IN_CANARY})"
        ranked = (
            "SELECT id AS key, row_number() OVER (ORDER BY id) - 1 AS k"
            f" FROM scheduling_assignment WHERE {condition}"
        )
        rank, rows, where = "k", f" FROM ({ranked}) ranked", "id = key"
    larger = "greatest" if connection.vendor == "postgresql" else "max"
    later.run_for(
        count,
        "UPDATE scheduling_assignment SET status = %s, attempts = attempts + 1, started_after_ms ="
        f" {larger}(%s, {_slot_of(rank, slots)} * 60000 / {slots.plan.slot_count}){rows} WHERE {where}",
        [Status.SUCCEEDED, now_ms, first, last, Status.WAITING],
    )
    outcomes.add_range(first, last)


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
