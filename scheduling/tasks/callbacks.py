"""The call that says that a task is done: signed as webhooks are, once, and tried again while it fails.

The task records how often it was tried, and when it may be tried again: jobs are hints here too. A worker takes
the call by compare-and-set before it makes it, so that of two with the same job one calls; a worker that dies
in the middle has used up an attempt.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

import orjson
import structlog
from django.db.models import F, Q

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import retry
from scheduling.core.errors import CallbackDue, NoCallback
from scheduling.events import recording
from scheduling.handlers.base import Outcome, message_key
from scheduling.handlers.webhook import Webhook
from scheduling.jobqueue import cluster

log = structlog.get_logger(__name__)

JOB = "scheduling.jobs.call_back"
# Longer than a job can live: a worker that has claimed a call and stored no result by then is dead.
LEASE = timedelta(seconds=90)
# A call that has been due for this long has no job.
GRACE = timedelta(seconds=10)
LOOK_AT = 500
CALLS_A_LOOK = 10


def call_back(task_id: int, now: Callable[[], datetime]) -> bool:
    """Call a finished task's `callback_url`, unless that was done or is being done. Returns whether it succeeded.

    After a failure that may pass, another call is due later, up to the queue's max_attempts.
    """
    task = _claim(task_id, now())
    if task is None or task.finished_at is None:
        return False
    outcome = asyncio.run(_call(task, task.finished_at, models.Installation.current()))
    at = now()
    if outcome.verdict == retry.Verdict.SUCCEEDED:
        return bool(_open(task).update(called_back_at=at, callback_due_at=None))
    details = {"attempt": task.callback_attempts, "status": outcome.status, "error": outcome.error}
    log.warning("callback_failed", task=task_id, **details)
    if outcome.verdict == retry.Verdict.RETRY and task.callback_attempts < task.queue.max_attempts:
        delays = task.queue.retry_delays_minutes
        due = retry.due_at(at, attempts=task.callback_attempts, random=0.5, delays=delays)
        with store.write():
            if _open(task).filter(callback_attempts=task.callback_attempts).update(callback_due_at=due):
                cluster.enqueue(JOB, task_id, not_before=due)
    else:
        _give_up(task, at, outcome)
    return False


def state_of(task: models.Task) -> str | None:
    """Return `due`, `succeeded` or `given_up`; None if the task isn't done, or nobody wants to be called."""
    if task.finished_at is None:
        return None
    if task.called_back_at is not None:
        return "succeeded"
    if not task.queue.callback_url:
        return None
    return "given_up" if task.no_callback else "due"


def call_again(task: models.Task, *, by: Actor, at: datetime) -> None:
    """Have a task's callback_url called again, although a call succeeded or all were given up.

    Raises NoCallback if there is nothing to call, and CallbackDue while a call is due anyway.
    """
    if not task.queue.callback_url or task.finished_at is None or task.cancelled_at is not None:
        raise NoCallback
    with store.write():
        settled = models.Task.objects.filter(pk=task.pk, finished_at=task.finished_at)
        settled = settled.exclude(called_back_at=None, no_callback=False)
        again = {"called_back_at": None, "callback_attempts": 0, "callback_due_at": at, "no_callback": False}
        if not settled.update(**again):
            raise CallbackDue
        activity.record(by, "asked_to_call_back", task, at=at)
        cluster.enqueue(JOB, task.pk)


def test(queue: models.Queue, *, by: Actor, at: datetime) -> Outcome:
    """Call the queue's callback_url once, as if a task with the number 0 were done. Raises NoCallback."""
    if not queue.callback_url:
        raise NoCallback
    counts = {f"{name}_count": 0 for name in recording.COUNTS if name != "repeats"}
    task = models.Task(pk=0, name="a test call", queue=queue, finished_at=at, **counts)
    outcome = asyncio.run(_post(queue, f"msg_test_{secrets.token_hex(12)}", body_of(task, at)))
    with store.write():
        details = {"status": outcome.status, "error": outcome.error}
        activity.record(by, "tested_callback", queue, at=at, after=details)
    return outcome


def wake(*, at: datetime) -> None:
    """Queue the calls that are due and have no job; mark tasks without a callback_url as settled."""
    due = _due(at - GRACE).order_by("callback_due_at", "pk")
    rows = list(due.values_list("pk", "queue__callback_url")[:LOOK_AT])
    if not rows:
        return
    models.Task.objects.filter(pk__in=[pk for pk, url in rows if not url]).update(no_callback=True)
    queued = cluster.queued(JOB, at=at)
    for task_id in [pk for pk, url in rows if url and (pk,) not in queued][:CALLS_A_LOOK]:
        cluster.enqueue(JOB, task_id)


def _due(at: datetime) -> models.TaskQuerySet:
    """Return the tasks that were done at `at` and may have been called back since, if they have a callback."""
    done = models.Task.objects.filter(finished_at__isnull=False, called_back_at=None, no_callback=False)
    return done.filter(Q(callback_due_at=None, finished_at__lte=at) | Q(callback_due_at__lte=at))


def _open(task: models.Task) -> models.TaskQuerySet:
    """The task's row, as long as nobody has called back that it was done then."""
    return models.Task.objects.filter(pk=task.pk, finished_at=task.finished_at, called_back_at=None)


def _claim(task_id: int, at: datetime) -> models.Task | None:
    """Claim a task's call for a while. Returns None if none is due or another worker has claimed it."""
    task = _due(at).select_related("queue").filter(pk=task_id).first()
    if task is None or not task.queue.callback_url:
        return None
    if task.callback_attempts >= task.queue.max_attempts:
        # The process that made the last call died before it stored the result.
        _give_up(task, at, None)
        return None
    unclaimed = _due(at).filter(
        pk=task_id, finished_at=task.finished_at, callback_attempts=task.callback_attempts
    )
    if not unclaimed.update(callback_attempts=F("callback_attempts") + 1, callback_due_at=at + LEASE):
        return None
    task.callback_attempts += 1
    return task


def _give_up(task: models.Task, at: datetime, outcome: Outcome | None) -> None:
    with store.write():
        unsettled = _open(task).filter(no_callback=False, callback_attempts=task.callback_attempts)
        if not unsettled.update(no_callback=True, callback_due_at=None):
            return
        details = {
            "status": outcome.status if outcome else None,
            "error": outcome.error if outcome else "the worker that called died",
        }
        activity.record(
            Actor.system(), "gave_up_calling_back", task, at=at, count=task.callback_attempts, after=details
        )
    log.error("callback_given_up", task=task.pk, attempts=task.callback_attempts, **details)


def body_of(task: models.Task, finished_at: datetime) -> bytes:
    """Return what the receiver gets: the facts about the task that can no longer change."""
    return orjson.dumps({"type": models.EventType.TASK_DONE, **recording.done_facts(task, finished_at)})


async def _call(task: models.Task, finished_at: datetime, installation: models.Installation) -> Outcome:
    # A list that is resent is done again, which takes another call, with a key of its own.
    done = f"done_{int(finished_at.timestamp())}"
    key = message_key(installation.key_part_of(task.pk), task.pk, done)
    return await _post(task.queue, key, body_of(task, finished_at))


async def _post(queue: models.Queue, key: str, body: bytes) -> Outcome:
    # As the queue's own webhooks, but for where it goes.
    handler = Webhook.of_callback(queue)
    try:
        return await handler.post(key, body)
    finally:
        await handler.close()
