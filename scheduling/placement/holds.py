"""Tasks on hold: none of their IDs is claimed or starts, their places pass unused, and their IDs become late."""

from collections.abc import Iterable
from datetime import datetime

from operators.actor import Actor
from scheduling import activity, models
from scheduling.core import limits, stopping
from scheduling.events import recording

# The number of finished IDs that an error budget waits for by default.
MIN_FINISHED = 100


def put_on_hold(task: models.Task, reason: str, *, by: Actor, at: datetime) -> None:
    """Put a task on hold. The caller has locked its row, and it is neither on hold nor at its end."""
    reason = reason[: limits.REASON_CHARACTERS]
    models.Task.objects.filter(pk=task.pk).update(held_at=at, hold_reason=reason)
    task.held_at, task.hold_reason = at, reason
    activity.record(by, "put_on_hold", task, at=at, after={"reason": reason})
    recording.task_on_hold(task, reason, at=at)


def reason_over_budget(task: models.Task, *, succeeded: int = 0, failed: int = 0) -> str:
    """Return why a task is over its error budget; empty if it isn't.

    succeeded, failed: how many have ended that its row doesn't count yet.
    """
    if task.max_failed_percent is None:
        return ""
    counts = {
        "succeeded": max(0, task.succeeded_count + succeeded - task.succeeded_before_count),
        "failed": max(0, task.failed_count + failed - task.failed_before_count),
    }
    percent, least = task.max_failed_percent, task.min_finished or MIN_FINISHED
    if not stopping.is_over_budget(**counts, max_failed_percent=percent, min_finished=least):
        return ""
    return stopping.budget_reason(**counts, max_failed_percent=percent)


def stop_over_budget(task_ids: Iterable[int], *, at: datetime) -> None:
    """Put those of the tasks on hold of which more IDs have failed than their error budget allows.

    The caller has locked their rows, and has counted what ended just now.
    """
    with_budget = models.Task.objects.filter(pk__in=list(task_ids), max_failed_percent__isnull=False)
    for task in with_budget.filter(held_at=None, cancelled_at=None, finished_at=None).order_by("pk"):
        if reason := reason_over_budget(task):
            put_on_hold(task, reason, by=Actor.system(), at=at)
