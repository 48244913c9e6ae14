"""Checks of the plan that somebody asked for, or the night: made by jobs, in pieces, and kept with what they found."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

import structlog
from django.db.models import F, Sum

from operators.actor import Actor, Kind
from scheduling import activity, models, proof, store
from scheduling.core import limits
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, BulkActKind

log = structlog.get_logger(__name__)

# A job goes on for so long; what is left is the next job's, and lists that came in meanwhile go first.
JOB_SECONDS = 5.0
# What doesn't hold is kept as far as somebody will read it; how much it is, in any case.
KEPT = 1_000


def begin(*, by: Actor, at: datetime) -> BulkAct:
    """Have the plan checked by a job; return the check. One that is under way is enough."""
    with store.write():
        under_way = bulk_operations.under_way().filter(kind=BulkActKind.CHECK_PLAN).first()
        if under_way is not None:
            return under_way
        ids = models.Task.objects.aggregate(n=Sum("ids_count"))["n"] or 0
        act = bulk_operations.begin(BulkActKind.CHECK_PLAN, asked={}, number=ids, by=by, at=at)
        if by.kind != Kind.SYSTEM:
            activity.record(by, "checked_plan", at=at)
        bulk_operations.hand_over(act, at=at)
    return act


def resume(act_id: int, now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> None:
    """The job: take up where the one before stopped, if nobody else has."""
    act = bulk_operations.take(act_id, at=now())
    if act is None:
        return
    limit = TimeLimit(seconds)
    stage, cursor = act.asked.get("stage", 0), tuple(act.asked.get("behind", proof.START))
    try:
        for step in proof.steps(now, stage=stage, cursor=cursor):
            _keep(act, step, at=now())
            if step.is_last:
                bulk_operations.end(act, at=now())
            elif limit.is_over:
                bulk_operations.hand_over(act, at=now())
                return
    except bulk_operations.Overtaken:
        return


def _keep(act: BulkAct, step: proof.Step, *, at: datetime) -> None:
    """Write down how far it is and what it found. Raises Overtaken."""
    for difference in step.differences:
        log.error("plan_does_not_hold", **asdict(difference))
    kept = act.found or []
    act.found = kept + [asdict(one) for one in step.differences[: KEPT - len(kept)]]
    mine = bulk_operations.under_way().filter(pk=act.pk, owner=act.owner)
    if not mine.update(
        asked={"stage": step.stage, "behind": list(step.cursor)},
        found=act.found,
        found_count=F("found_count") + len(step.differences),
        done_count=F("done_count") + step.ids_count,
        lease_until=at + limits.BULK_LEASE,
    ):
        raise bulk_operations.Overtaken


def stored():
    """The checks that are kept, newest first."""
    return BulkAct.objects.filter(kind=BulkActKind.CHECK_PLAN).order_by("-pk")
