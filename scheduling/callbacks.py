"""The call that says that a task is done: signed as webhooks are, once, and tried again while it fails."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import orjson
import structlog

from . import cluster, models, retry
from .handlers.webhook import Webhook

log = structlog.get_logger(__name__)

COUNTS = ("ids", "repeats", "waiting", "in_flight", "succeeded", "failed", "cancelled", "expired")


def call_back(task_id: int, attempt: int, now: Callable[[], datetime]) -> bool:
    """Call a finished task's `callback_url`, unless that was done; return whether it is done now.

    attempt: from 1; after a failure that may pass another call is queued, up to the queue's max_attempts.
    """
    task = models.Task.objects.select_related("queue").filter(pk=task_id, called_back_at=None).first()
    if task is None or task.finished_at is None or not task.queue.callback_url:
        return False
    outcome = asyncio.run(_call(task))
    done = models.Task.objects.filter(pk=task_id, called_back_at=None)
    if outcome.verdict == retry.Verdict.SUCCEEDED:
        return bool(done.update(called_back_at=now()))
    log.warning("callback_failed", task=task_id, attempt=attempt, status=outcome.status, error=outcome.error)
    if outcome.verdict == retry.Verdict.RETRY and attempt < task.queue.max_attempts:
        at = now()
        due = max(at + timedelta(seconds=1), retry.due_at(at, attempts=attempt, random=0.5))
        cluster.enqueue("scheduling.jobs.call_back", task_id, attempt + 1, not_before=due)
    return False


def body_of(task: models.Task) -> bytes:
    """What the receiver gets: the task, as far as it can't change any more."""
    return orjson.dumps(
        {
            "type": "task.done",
            "task_id": task.pk,
            "task_name": task.name,
            "queue": task.queue.name,
            "state": "done",
            "counts": {name: getattr(task, f"{name}_count") for name in COUNTS},
            "finished_at": task.finished_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


async def _call(task: models.Task):
    # As the queue's own webhooks, but for where it goes.
    handler = replace(Webhook.of(task.queue), url=task.queue.callback_url, method="POST", headers={})
    try:
        # A list that is sent again is done again: another call, with a key of its own.
        key = f"msg_{task.pk}_done_{int(task.finished_at.timestamp())}"
        return await handler.post(key, body_of(task))
    finally:
        await handler.close()
