"""Operations on more rows than one click can change: a click begins them, jobs continue them.

One worker at a time owns an operation, under a lease. Each slice advances the operation's row in its own
transaction, so it is done once, whichever process dies; a worker that was overtaken finds out there, and its slice is
rolled back. The sweep finds operations without a live owner.
"""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import structlog
from django.db.models import F, Q, QuerySet

from operators.actor import Actor, Interface, Kind
from scheduling import activity, store
from scheduling.core import limits
from scheduling.jobqueue import cluster
from scheduling.models import BulkAct, BulkActKind

Question = TypeVar("Question")

log = structlog.get_logger(__name__)

JOBS = {
    BulkActKind.CANCEL_MATCHING: "scheduling.jobs.cancel_matching",
    BulkActKind.RETRY_FAILED: "scheduling.jobs.retry_failed",
    BulkActKind.SEND_AGAIN: "scheduling.jobs.send_again",
    BulkActKind.PRUNE: "scheduling.jobs.prune",
    BulkActKind.CHECK_PLAN: "scheduling.jobs.check_plan",
}

# The verb that the activity log records for a stop.
STOPPED = {
    BulkActKind.CANCEL_MATCHING: "stopped_cancelling",
    BulkActKind.RETRY_FAILED: "stopped_retrying",
    BulkActKind.SEND_AGAIN: "stopped_sending_again",
}


class Overtaken(Exception):
    """The operation has ended, was stopped, or belongs to another worker: this transaction is rolled back."""


def begin(
    kind: BulkActKind, *, request: Mapping[str, Any], number: int, name: str = "", by: Actor, at: datetime
) -> BulkAct:
    """Create the operation in the transaction that logs it. The caller owns it from then on.

    request: JSON. number: of how many rows. name: by which it can be stopped.
    """
    return BulkAct.objects.create(
        kind=kind,
        name=name or secrets.token_hex(6),
        asked=dict(request),
        by={"kind": by.kind, "id": by.id, "name": by.name, "face": by.interface},
        number=number,
        began_at=at,
        owner=secrets.randbits(63),
        lease_until=at + limits.BULK_LEASE,
    )


def claim(act_id: int, *, at: datetime) -> BulkAct | None:
    """Claim the operation. Returns None if it has finished or another live worker owns it."""
    owner = secrets.randbits(63)
    free = unfinished().filter(Q(owner=None) | Q(lease_until__lt=at), pk=act_id)
    if not free.update(owner=owner, lease_until=at + limits.BULK_LEASE):
        return None
    return BulkAct.objects.filter(pk=act_id, owner=owner).first()


def claim_and_read(
    act_id: int, read: Callable[[BulkAct], Question], now: Callable[[], datetime]
) -> tuple[BulkAct, Question] | None:
    """Claim the operation and read what was asked for. Returns None where `claim` does.

    An operation whose row can't be read ends, and is logged once, instead of failing whenever it is looked at.
    """
    act = claim(act_id, at=now())
    if act is None:
        return None
    try:
        return act, read(act)
    except (AttributeError, KeyError, TypeError, ValueError):
        log.exception("operation_malformed", operation=act.pk, kind=act.kind)
        end(act, at=now())
        return None


def unfinished() -> QuerySet[BulkAct]:
    """Return the operations that haven't ended."""
    return BulkAct.objects.filter(ended_at=None)


def advance(act: BulkAct, *, after_id: int, at: datetime) -> None:
    """Begin a slice that ends with the key `after_id`, in its transaction. Raises Overtaken.

    The operation's row is locked before any other.
    """
    owned = unfinished().filter(pk=act.pk, owner=act.owner, after_id=act.after_id)
    if not owned.update(after_id=after_id, lease_until=at + limits.BULK_LEASE):
        raise Overtaken
    act.after_id = after_id


def count(act: BulkAct, done: int) -> None:
    """Add the rows that a slice has done, in its transaction."""
    BulkAct.objects.filter(pk=act.pk).update(done_count=F("done_count") + done)


def hand_over(act: BulkAct, *, at: datetime) -> None:
    """Leave the remaining rows to a job."""
    with store.write():
        if (
            unfinished()
            .filter(pk=act.pk, owner=act.owner)
            .update(owner=None, lease_until=at + limits.BULK_LEASE)
        ):
            cluster.enqueue(JOBS[BulkActKind(act.kind)], act.pk)


def end(act: BulkAct, *, at: datetime) -> None:
    """Mark the operation as ended."""
    unfinished().filter(pk=act.pk, owner=act.owner).update(owner=None, ended_at=at)


def stop(act: BulkAct, *, by: Actor, at: datetime) -> bool:
    """End an operation after its current slice; what is done stays done. Returns False if it has ended already."""
    with store.write():
        if not unfinished().filter(pk=act.pk).update(stopped_at=at, ended_at=at):
            return False
        activity.record(by, STOPPED[BulkActKind(act.kind)], at=at, after={"run": act.name})
    return True


def is_stopped(name: str) -> bool:
    """Whether somebody stopped it before it was done."""
    return BulkAct.objects.filter(name=name, stopped_at__isnull=False).exists()


def actor_of(act: BulkAct) -> Actor:
    """Return the actor who asked for it."""
    return Actor(Kind(act.by["kind"]), act.by["id"], act.by["name"], Interface(act.by["face"]))


def wake(*, at: datetime) -> None:
    """Queue jobs for operations without a live owner whose job, if there was one, didn't start."""
    for act_id, kind in unfinished().filter(lease_until__lt=at).values_list("pk", "kind")[:10]:
        with store.write():
            # Compare-and-set: of several processes that look at the same time, only one queues the job.
            orphan = unfinished().filter(pk=act_id, lease_until__lt=at)
            if orphan.update(owner=None, lease_until=at + limits.BULK_LEASE):
                cluster.enqueue(JOBS[BulkActKind(kind)], act_id)
