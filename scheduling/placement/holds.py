"""A task on hold: nothing more of it is claimed or starts, its places pass unused, and its IDs become late."""

from datetime import datetime

from operators.actor import Actor
from scheduling import activity, models

REASON_CHARACTERS = 200


def put_on_hold(task: models.Task, reason: str, *, by: Actor, at: datetime) -> None:
    """Put a task on hold, whose row the caller has locked and which is neither on hold nor at its end."""
    reason = reason[:REASON_CHARACTERS]
    models.Task.objects.filter(pk=task.pk).update(held_at=at, hold_reason=reason)
    task.held_at, task.hold_reason = at, reason
    activity.record(by, "put_on_hold", task, at=at, after={"reason": reason})
