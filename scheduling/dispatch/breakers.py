"""An operator unblocks requests: a breaker is closed, a Retry-After ends, a queue's credentials are tried."""

from datetime import datetime

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core.errors import NotBlocked
from scheduling.dispatch import credentials, targets


def of_queue(queue: models.Queue, *, at: datetime) -> models.Target | None:
    """Return the target of a queue, if it is blocked at `at`."""
    target = targets.target_of(queue)
    return target if target is not None and targets.is_blocked(target, at) else None


def release_queue(queue: models.Queue, *, by: Actor, at: datetime) -> str:
    """End what blocks the requests of a queue; return what was blocked. Raises NotBlocked if nothing is."""
    target = of_queue(queue, at=at)
    if target is not None:
        release(target, by=by, at=at)
    if queue.is_blocked(at):
        credentials.release(queue, by=by, at=at)
    elif target is None:
        raise NotBlocked(origin=f"the target of the queue {queue.name}")
    return target.origin if target else f"the target of the queue {queue.name}"


def release(target: models.Target, *, by: Actor, at: datetime) -> None:
    """Let requests to a target be made as planned. Raises NotBlocked if it isn't blocked.

    If it still fails, the breaker opens again after as many failures as before.
    """
    with store.write():
        target = models.Target.objects.select_for_update().get(pk=target.pk)
        if not targets.is_blocked(target, at):
            raise NotBlocked(origin=target.origin)
        before = {
            "opened_at": target.opened_at and target.opened_at.isoformat(),
            "held_until": target.blocked_until and target.blocked_until.isoformat(),
        }
        models.Target.objects.filter(pk=target.pk).update(
            opened_at=None, probe_at=None, blocked_until=None, block_reason="", failures_count=0
        )
        activity.record(by, "released_target", target, at=at, before=before)
