"""Record an event in the transaction that causes it, with a delivery for each channel that gets its type.

Whatever ends after the commit, the rows are there, and any process delivers them.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from scheduling import models
from scheduling.core.clock import iso
from scheduling.jobqueue import cluster
from scheduling.models import Channel, Delivery, Event, EventType

JOB = "scheduling.jobs.deliver"
TITLE_CHARACTERS = 300


def channels_of(event_type: EventType) -> list[int]:
    """Return the channels that get events of a type."""
    channels = Channel.objects.filter(is_on=True).order_by("pk")
    return [pk for pk, types in channels.values_list("pk", "types") if event_type in types]


def record(
    event_type: EventType,
    title: str,
    data: dict[str, Any],
    *,
    at: datetime,
    path: str = "",
    channels: Iterable[int] | None = None,
) -> Event | None:
    """Record an event. Returns None if no channel gets it.

    title: what happened, in a sentence. path: of the page that shows more. channels: those that get it; by default
    all that get its type.
    """
    channel_ids = channels_of(event_type) if channels is None else list(channels)
    if not channel_ids:
        return None
    # Where a delivery is due already, a job for all of them is queued or will be.
    is_quiet = not Delivery.objects.filter(due_at__lte=at).exists()
    event = Event.objects.create(type=event_type, at=at, title=title[:TITLE_CHARACTERS], path=path, data=data)
    until = at + Delivery.RETRIED_FOR
    Delivery.objects.bulk_create(
        Delivery(event=event, channel_id=pk, due_at=at, retry_until=until) for pk in channel_ids
    )
    if is_quiet:
        cluster.enqueue(JOB)
    return event


# --- The facts about tasks and targets ---

COUNTS = ("ids", "repeats", *(status.word for status in models.Status))


def task_facts(task: models.Task) -> dict[str, Any]:
    return {"task_id": task.pk, "task_name": task.name, "queue": task.queue.name}


def done_facts(task: models.Task, finished_at: datetime) -> dict[str, Any]:
    """Return the facts about a task that is done: they can no longer change."""
    return {
        **task_facts(task),
        "state": "done",
        "counts": {name: getattr(task, f"{name}_count") for name in COUNTS},
        "finished_at": iso(finished_at, "seconds"),
    }


def tasks_done(task_ids: Iterable[int], *, at: datetime) -> None:
    """Record that tasks are done."""
    if channels := channels_of(EventType.TASK_DONE):
        for task in models.Task.objects.filter(pk__in=list(task_ids)).select_related("queue").order_by("pk"):
            title = (
                f"The list “{task.name}” is done: {task.succeeded_count:,} of {task.ids_count:,} succeeded."
            )
            facts = done_facts(task, at)
            record(EventType.TASK_DONE, title, facts, at=at, path=path_of(task), channels=channels)


def task_on_hold(task: models.Task, reason: str, *, at: datetime) -> None:
    """Record that a task was put on hold."""
    title = f"The list “{task.name}” is on hold{f': {reason}' if reason else ''}."
    facts = {**task_facts(task), "reason": reason, "held_at": iso(at, "seconds")}
    record(EventType.TASK_ON_HOLD, title, facts, at=at, path=path_of(task))


def task_cancelled(task: models.Task, counts: dict[str, Any], *, at: datetime) -> None:
    """Record that a task was cancelled. counts: how many of its IDs were cancelled, were sent, and are in flight."""
    count = counts["cancelled"]
    title = f"The list “{task.name}” is cancelled: {count:,} {'ID is' if count == 1 else 'IDs are'} not sent."
    facts = {**task_facts(task), **counts, "cancelled_at": iso(at, "seconds")}
    record(EventType.TASK_CANCELLED, title, facts, at=at, path=path_of(task))


def target_blocked(target: models.Target, reason: str, *, at: datetime) -> None:
    """Record that requests to a target are blocked from now on."""
    facts = {
        "origin": target.origin,
        "reason": reason,
        "blocked_at": iso(at, "seconds"),
        "blocked_until": iso(target.blocked_until, "seconds"),
    }
    record(
        EventType.TARGET_BLOCKED, f"{target.origin} is blocked: {reason}.", facts, at=at, path="/dashboard/"
    )


def path_of(task: models.Task) -> str:
    return f"/dashboard/tasks/{task.pk}/"
