"""How rows are written: plain JSON values, the same in lists, answers and webhooks' documentation."""

from datetime import datetime
from typing import Any

from scheduling import models
from scheduling.core import clock, keys
from scheduling.queues import validation

from .plans import moment

STATES = [status.word for status in models.Status]


def task_answer(task: models.Task, *, at: datetime, payload: bool = True) -> dict[str, Any]:
    """A task as it is at `at`; its queue's row is read beside it."""
    rendered = {
        "id": task.pk,
        "task_name": task.name,
        "task_status": task.placed_at is not None,
        "state": task.state_at(at).value,
        "queue": task.queue.name,
        "counts": {
            "ids": task.ids_count,
            "repeats": task.repeats_count,
            **{state: getattr(task, f"{state}_count") for state in STATES},
        },
        "first_at": moment(task.first_minute_at),
        "last_at": moment(task.last_minute_at),
        "date_created": moment(task.created_at),
        "finished_at": moment(task.finished_at),
    }
    if payload:
        rendered["payload"] = task.payload
    return rendered


def user_answer(user: models.User) -> dict[str, Any]:
    return {"id": user.pk, "name": user.name, "date_created": moment(user.created_at)}


# A secret is written and never read; pause and brake are acts, and shown all the same.
QUEUE_FIELDS = (
    "name",
    *(name for name in validation.FIELDS if name != "webhook_secret"),
    "paused",
    "brake_per_minute",
)


def queue_answer(queue: models.Queue) -> dict[str, Any]:
    """A queue without its secret, which is never read."""
    return {name: getattr(queue, name) for name in QUEUE_FIELDS} | {"date_created": moment(queue.created_at)}


def window_answer(
    window: models.Window, queue: models.Queue, buckets: dict[int, models.Bucket], *, at: datetime
) -> dict[str, Any]:
    """A window with its 15 buckets; one without rows is empty, and has the queue's rpm."""
    starts_at = keys.starts_at_of_window(window.pk)
    return {
        "id": window.pk,
        "queue": queue.name,
        "starts_at": moment(starts_at),
        "label": clock.label(starts_at),
        "state": clock.state(starts_at, at).value,
        "buckets": [
            _bucket(buckets.get(keys.bucket_id(window.pk, k)) or models.Bucket(capacity=queue.rpm), minute)
            for k, minute in enumerate(clock.minutes(starts_at))
        ],
        "receipt": window.receipt,
    }


def _bucket(bucket: models.Bucket, minute: datetime) -> dict[str, Any]:
    counts = ("filled", *STATES, "moved")
    return {
        "minute": moment(minute),
        "capacity": bucket.capacity,
        **{name: getattr(bucket, f"{name}_count") for name in counts},
    }
