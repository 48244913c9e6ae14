"""Canaries of lists: the first IDs run as planned, and the others wait in place until enough of them have succeeded.

While a canary runs, no statement that looks for waiting rows finds the others (`store.may_start_in`). So they become
late, as under a hold, and late IDs of such a task are not moved.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db import connection

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import clock, keys, stopping
from scheduling.jobqueue import cluster
from scheduling.lists import stored_lists
from scheduling.models import CanaryState, Status
from scheduling.placement import holds, reservations

# A look into an index for each ID, however many rows the planner expects.
_STATUSES = (
    "SELECT (SELECT a.status FROM scheduling_assignment a WHERE a.user_id = c.user_id AND a.task_id = c.task_id)"
    " AS status, COUNT(*) FROM scheduling_canaryid c WHERE c.task_id = %s GROUP BY 1"
)
_CANCELLED = (
    "SELECT c.user_id FROM scheduling_canaryid c WHERE c.task_id = %s AND"
    " (SELECT a.status FROM scheduling_assignment a WHERE a.user_id = c.user_id AND a.task_id = c.task_id) = %s"
)
_WAITING = (
    "SELECT (SELECT a.id FROM scheduling_assignment a WHERE a.user_id = c.user_id AND a.task_id = c.task_id"
    " AND a.status = %s) FROM scheduling_canaryid c WHERE c.task_id = %s"
)


@dataclass(frozen=True)
class Tally:
    """How a canary's IDs have ended so far. count: without those that are cancelled."""

    count: int
    succeeded: int
    lost: int


def begin(task: models.Task, list_id: int) -> None:
    """Let the first IDs of a task's list be its canary, in the transaction that accepts the list."""
    if task.canary_ids is not None:
        _add(task, stored_lists.ids_of(list_id, 0, task.canary_ids))


def _add(task: models.Task, users: Iterable[int]) -> None:
    models.CanaryId.objects.bulk_create(models.CanaryId(task=task, user_id=user) for user in users)


def refill(task: models.Task, list_id: int, listed_count: int) -> None:
    """Let the first IDs of another list take the places of those that it no longer has.

    The caller has locked the task's row. What has been sent stays counted, whatever the new list contains.
    """
    if not task.waits_for_canary or task.canary_ids is None:
        return
    members = models.CanaryId.objects.filter(task=task)
    with connection.cursor() as cursor:
        cursor.execute(_CANCELLED, [task.pk, Status.CANCELLED])
        cancelled = [user for (user,) in cursor.fetchall()]
    members.filter(user_id__in=cancelled).delete()
    members_before = set(members.values_list("user_id", flat=True))
    count = min(task.canary_ids, listed_count)
    first = stored_lists.ids_of(list_id, 0, min(listed_count, count + len(members_before)))
    added = list(
        islice((user for user in first if user not in members_before), max(0, count - len(members_before)))
    )
    _add(task, added)
    task.canary_count = len(members_before) + len(added)
    models.Task.objects.filter(pk=task.pk).update(canary_count=task.canary_count)


def decide(task_ids: Iterable[int], *, at: datetime) -> None:
    """Let those of the tasks continue whose canary has passed, and put those on hold whose canary can't pass any more.

    The caller has locked their rows, and has counted how IDs ended just now.
    """
    running = models.Task.objects.with_canary().filter(pk__in=list(task_ids), held_at=None)
    for task in running.order_by("pk"):
        if not _is_near(task):
            continue
        tally = tally_of(task)
        task.canary_count = tally.count
        passed = stopping.canary_passed(
            count=tally.count, succeeded=tally.succeeded, lost=tally.lost, percent=task.canary_percent or 0
        )
        if passed is None:
            models.Task.objects.filter(pk=task.pk).update(canary_count=tally.count)
        else:
            _end(task, tally, CanaryState.PASSED if passed else CanaryState.FAILED, at=at)


def _is_near(task: models.Task) -> bool:
    """Whether a canary may be decided, by the counters of its task alone: then its IDs are counted."""
    lost = task.failed_count + task.expired_count
    least = task.canary_needed
    return task.succeeded_count >= least or task.canary_count - lost < least or task.cancelled_count > 0


def _end(task: models.Task, tally: Tally, state: CanaryState, *, at: datetime) -> None:
    models.Task.objects.filter(pk=task.pk).update(
        canary_state=state,
        canary_count=tally.count,
        canary_succeeded_count=tally.succeeded,
        canary_decided_at=at,
    )
    task.canary_state, task.canary_succeeded_count = state, tally.succeeded
    reason = f"the canary: {task.canary_progress}"
    if state == CanaryState.FAILED:
        if task.waiting_count or task.in_flight_count:
            holds.put_on_hold(task, reason, by=Actor.system(), at=at)
        return
    activity.record(Actor.system(), "continued", task, at=at, after={"reason": reason})
    # For IDs whose minutes have passed meanwhile: the sweep would find them too, but a few seconds later.
    cluster.enqueue("scheduling.jobs.place_late")


def skip(task: models.Task, *, at: datetime) -> None:
    """Let a task continue without waiting for its canary any longer. The caller has locked its row."""
    models.Task.objects.filter(pk=task.pk).update(
        canary_state=CanaryState.SKIPPED,
        canary_succeeded_count=task.canary_succeeded,
        canary_decided_at=at,
    )


def tally_of(task: models.Task) -> Tally:
    """Return how the IDs of a task's canary have ended so far."""
    with connection.cursor() as cursor:
        cursor.execute(_STATUSES, [task.pk])
        # None: of IDs that have no row yet, which wait.
        counts = Counter(dict(cursor.fetchall()))
    lost = counts[Status.FAILED] + counts[Status.EXPIRED]
    return Tally(sum(counts.values()) - counts[Status.CANCELLED], counts[Status.SUCCEEDED], lost)


def wake(*, at: datetime) -> bool:
    """Decide what ended where nobody looked, such as by an edit or as too late; return whether anything was."""
    near = [task.pk for task in models.Task.objects.with_canary().filter(held_at=None) if _is_near(task)]
    if not near:
        return False
    with store.write():
        locked = models.Task.objects.select_for_update().filter(pk__in=near).order_by("pk")
        decide(locked.values_list("pk", flat=True), at=at)
    return True


def waiting_by_bucket(task_ids: Iterable[int]) -> Counter[int]:
    """Return how many IDs of the canaries of these tasks wait, by bucket."""
    counts: Counter[int] = Counter()
    for task_id in task_ids:
        with connection.cursor() as cursor:
            cursor.execute(_WAITING, [Status.WAITING, task_id])
            counts.update(keys.bucket_of_assignment(key) for (key,) in cursor.fetchall() if key is not None)
    return counts


def ends_at(queue: models.Queue, plan: reservations.Plan, count: int) -> datetime | None:
    """Return the end of the last minute in which a plan sends the first `count` IDs of its list."""
    buckets = list(islice(reservations.buckets_in_order(queue, plan), count))
    return keys.minute_of_bucket(max(buckets)) + clock.MINUTE if buckets else None
