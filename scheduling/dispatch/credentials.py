"""Queues whose credentials can't be used: none of their requests are sent for a while, and no attempt is used up.

Their target stays open to other queues, whose credentials may be all right.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from django.db.models import Q

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.dispatch.messages import RequestResult
from scheduling.handlers.base import truncate

log = structlog.get_logger(__name__)

REASON_CHARACTERS = 300


def record(answered: Sequence[RequestResult], *, now: Callable[[], datetime]) -> bool:
    """Block the queues whose requests could not be made for lack of credentials; return whether there are any."""
    blocked = {
        result.scheduled.queue_id: result.outcome
        for result in answered
        if result.outcome is not None and result.outcome.block_seconds
    }
    for queue_id, outcome in sorted(blocked.items()):
        until = now() + timedelta(seconds=outcome.block_seconds)
        reason = truncate(outcome.error, REASON_CHARACTERS)
        with store.write():
            queues = models.Queue.objects.filter(
                Q(blocked_until=None) | Q(blocked_until__lt=until), pk=queue_id
            )
            queues.update(blocked_until=until, block_reason=reason)
        log.error("queue_blocked", queue=queue_id, reason=reason, seconds=round(outcome.block_seconds))
    return bool(blocked)


def release(queue: models.Queue, *, by: Actor, at: datetime) -> None:
    """Let the next request try the credentials of a queue."""
    with store.write():
        models.Queue.objects.filter(pk=queue.pk).update(blocked_until=None, block_reason="")
        before = {"blocked_until": queue.blocked_until and queue.blocked_until.isoformat()}
        activity.record(by, "released_target", queue, at=at, before=before)
