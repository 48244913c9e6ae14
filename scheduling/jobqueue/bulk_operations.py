"""Acts on more rows than one click can do: begun in a click, gone on with by jobs, found again by the sweep.

One worker at a time is at an act, under a lease. Each slice moves the act's row on in its own transaction, and
so is done once, whoever dies; a worker that was overtaken finds that out there, and what it did is undone.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import F, Q

from operators.actor import Actor, Interface, Kind
from scheduling import activity, store
from scheduling.core import limits
from scheduling.jobqueue import cluster
from scheduling.models import BulkAct, BulkActKind

JOBS = {
    BulkActKind.CANCEL_MATCHING: "scheduling.jobs.cancel_matching",
    BulkActKind.RETRY_FAILED: "scheduling.jobs.retry_failed",
    BulkActKind.SEND_AGAIN: "scheduling.jobs.send_again",
    BulkActKind.PRUNE: "scheduling.jobs.prune",
    BulkActKind.CHECK_PLAN: "scheduling.jobs.check_plan",
}

# What the log calls a stop of it.
STOPPED = {
    BulkActKind.CANCEL_MATCHING: "stopped_cancelling",
    BulkActKind.RETRY_FAILED: "stopped_retrying",
    BulkActKind.SEND_AGAIN: "stopped_sending_again",
}


class Overtaken(Exception):
    """The act has ended, was stopped, or is another worker's by now: this transaction is rolled back."""


def begin(
    kind: BulkActKind, *, asked: Mapping[str, Any], number: int, name: str = "", by: Actor, at: datetime
) -> BulkAct:
    """Make the act's row, in the transaction that logs it; the caller is at it from then on.

    asked: JSON. number: of how many rows. name: by which it can be stopped.
    """
    return BulkAct.objects.create(
        kind=kind,
        name=name or secrets.token_hex(6),
        asked=dict(asked),
        by={"kind": by.kind, "id": by.id, "name": by.name, "face": by.interface},
        number=number,
        began_at=at,
        owner=secrets.randbits(63),
        lease_until=at + limits.BULK_LEASE,
    )


def take(act_id: int, *, at: datetime) -> BulkAct | None:
    """Be at the act from now on; None where it is over, or where somebody lives who is at it."""
    owner = secrets.randbits(63)
    free = under_way().filter(Q(owner=None) | Q(lease_until__lt=at), pk=act_id)
    if not free.update(owner=owner, lease_until=at + limits.BULK_LEASE):
        return None
    return BulkAct.objects.filter(pk=act_id, owner=owner).first()


def under_way():
    """The acts that aren't over."""
    return BulkAct.objects.filter(ended_at=None)


def move_on(act: BulkAct, *, after_id: int, at: datetime) -> None:
    """Begin a slice, in its transaction: what it does is done up to `after_id`. Raises Overtaken.

    The act's row is locked before any other.
    """
    mine = under_way().filter(pk=act.pk, owner=act.owner, after_id=act.after_id)
    if not mine.update(after_id=after_id, lease_until=at + limits.BULK_LEASE):
        raise Overtaken
    act.after_id = after_id


def count(act: BulkAct, done: int) -> None:
    """Say how many rows the slice has done, in its transaction."""
    BulkAct.objects.filter(pk=act.pk).update(done_count=F("done_count") + done)


def hand_over(act: BulkAct, *, at: datetime) -> None:
    """Leave the rest to a job."""
    with store.write():
        if (
            under_way()
            .filter(pk=act.pk, owner=act.owner)
            .update(owner=None, lease_until=at + limits.BULK_LEASE)
        ):
            cluster.enqueue(JOBS[BulkActKind(act.kind)], act.pk)


def end(act: BulkAct, *, at: datetime) -> None:
    """Nothing is left of it."""
    under_way().filter(pk=act.pk, owner=act.owner).update(owner=None, ended_at=at)


def stop(act: BulkAct, *, by: Actor, at: datetime) -> bool:
    """Let an act end after the slice that it is at; what is done stays so. False where it has ended already."""
    with store.write():
        if not under_way().filter(pk=act.pk).update(stopped_at=at, ended_at=at):
            return False
        activity.record(by, STOPPED[BulkActKind(act.kind)], at=at, after={"run": act.name})
    return True


def is_stopped(name: str) -> bool:
    """Whether somebody said stop before it was done."""
    return BulkAct.objects.filter(name=name, stopped_at__isnull=False).exists()


def actor_of(act: BulkAct) -> Actor:
    """Who asked for it."""
    return Actor(Kind(act.by["kind"]), act.by["id"], act.by["name"], Interface(act.by["face"]))


def wake(*, at: datetime) -> None:
    """Queue jobs for acts that nobody is at and whose job, if there was one, didn't come."""
    for act_id, kind in under_way().filter(lease_until__lt=at).values_list("pk", "kind")[:10]:
        with store.write():
            # Compare-and-set: of many who look at the same time, one queues the job.
            orphan = under_way().filter(pk=act_id, lease_until__lt=at)
            if orphan.update(owner=None, lease_until=at + limits.BULK_LEASE):
                cluster.enqueue(JOBS[BulkActKind(kind)], act_id)
