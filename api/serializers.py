"""Rows as JSON values."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from scheduling import models
from scheduling.core import clock, keys
from scheduling.core.clock import iso
from scheduling.handlers.base import Outcome
from scheduling.placement import budgets, shapes
from scheduling.queues import validation
from scheduling.reports import planning
from scheduling.tasks import callbacks

STATES = tuple(status.word for status in models.Status)


def task_json(task: models.Task, *, at: datetime, payload: bool = True) -> dict[str, Any]:
    """A task as it is at `at`. Reads the row of its queue."""
    fields = {
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
        "first_at": iso(task.first_minute_at),
        "last_at": iso(task.last_minute_at),
        "date_created": iso(task.created_at),
        "finished_at": iso(task.finished_at),
        "reference": task.reference or None,
        "deadline": iso(task.deadline_at),
        "misses_deadline": task.misses_deadline_at(at),
        "max_failed_percent": task.max_failed_percent,
        "min_finished": task.min_finished,
        "canary": canary_json(task),
        "hold": {"at": iso(task.held_at), "reason": task.hold_reason} if task.is_on_hold else None,
        "id_type": task.id_type,
        "data_columns": task.data_columns,
        "callback": callback_json(task),
    }
    if payload:
        fields["payload"] = task.payload
    return fields


def canary_json(task: models.Task) -> dict[str, Any] | None:
    """How far the canary of a task is; None without one."""
    if task.canary_ids is None:
        return None
    return {
        "ids": task.canary_ids,
        "min_succeeded_percent": task.canary_percent,
        "state": task.canary_state,
        "count": task.canary_count,
        "succeeded": task.canary_succeeded,
        "needed": task.canary_needed,
        "decided_at": iso(task.canary_decided_at),
    }


def callback_json(task: models.Task) -> dict[str, Any] | None:
    """The state of the call of the queue's callback_url; None before the task is done, or without one."""
    state = callbacks.state_of(task)
    if state is None:
        return None
    return {
        "state": state,
        "attempts": task.callback_attempts,
        "at": iso(task.called_back_at),
        "next_at": iso(task.callback_due_at),
    }


def user_json(user: models.User, external_id: str | None) -> dict[str, Any]:
    return {
        "id": user.pk,
        "id_str": str(user.pk),
        "external_id": external_id,
        "name": user.name,
        "date_created": iso(user.created_at),
    }


# Secrets can be written but not read. Pause and brake are set by actions of their own, and shown.
QUEUE_FIELDS = (
    "name",
    *(name for name in validation.FIELDS if name not in validation.WRITE_ONLY),
    "paused",
    "brake_per_minute",
)


def queue_json(queue: models.Queue) -> dict[str, Any]:
    """A queue without its secrets, and with the names of its headers only."""
    return {
        **{name: getattr(queue, name) for name in QUEUE_FIELDS},
        "hours": queue.named_hours,
        "note": queue.note or None,
        "webhook_headers": dict.fromkeys(queue.webhook_headers),
        "date_created": iso(queue.created_at),
    }


def target_json(target: models.Target) -> dict[str, Any]:
    """A target with its budget and the queues that share it."""
    return {
        "id": target.pk,
        "origin": target.origin,
        "rpm": target.rpm,
        "hours": target.named_hours,
        "quotas": target.quotas,
        "queues": list(target.queues.order_by("name").values_list("name", flat=True)),
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The result of a call that was made as a test."""
    return {
        "verdict": str(outcome.verdict),
        "http_status": outcome.status,
        "answer": outcome.answer,
        "error": outcome.error,
        "duration_ms": outcome.duration_ms,
    }


def window_json(
    window: models.Window,
    queue: models.Queue,
    buckets: dict[int, models.Bucket],
    planned: planning.Planning | None,
    *,
    at: datetime,
) -> dict[str, Any]:
    """A window with its 15 buckets. A bucket without a row is empty and has the queue's rpm."""
    starts_at = keys.starts_at_of_window(window.pk)
    other_counts = budgets.taken_by_others(queue, *keys.range_of_window(window.pk))
    return {
        "id": window.pk,
        "queue": queue.name,
        "starts_at": iso(starts_at),
        "label": clock.label(starts_at),
        "state": clock.state(starts_at, at).value,
        "buckets": [
            _bucket(queue, buckets.get(keys.bucket_id(window.pk, k)), minute, other_counts)
            for k, minute in enumerate(clock.minutes(starts_at))
        ],
        "planning": asdict(planned or planning.Planning()),
        "receipt": window.receipt,
    }


def _bucket(
    queue: models.Queue, stored: models.Bucket | None, minute: datetime, other_counts: budgets.Taken
) -> dict[str, Any]:
    bucket = stored or models.Bucket(capacity=shapes.capacity_at(queue, minute))
    counts = ("filled", *STATES, "moved")
    return {
        "minute": iso(minute),
        "capacity": bucket.capacity,
        "reason": shapes.reason_at(queue, minute, bucket.capacity, other_counts) or None,
        **{name: getattr(bucket, f"{name}_count") for name in counts},
    }
