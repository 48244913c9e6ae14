"""Checks of the plan, requested by an operator or made each night: run by jobs, in pieces, and stored."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import structlog
from django.db.models import F, QuerySet, Sum

from operators.actor import Actor, Kind
from scheduling import activity, models, proof, store
from scheduling.core import limits
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, BulkActKind

log = structlog.get_logger(__name__)

# A job runs this long. The next job continues, so that lists that have arrived in the meantime go first.
JOB_SECONDS = 5.0
# The differences that are stored; all of them are counted.
KEPT = 1_000


def begin(*, by: Actor, at: datetime) -> BulkAct:
    """Start a check of the plan by jobs, unless one is in progress; return it."""
    with store.write():
        under_way: BulkAct | None = bulk_operations.unfinished().filter(kind=BulkActKind.CHECK_PLAN).first()
        if under_way is not None:
            return under_way
        ids = models.Task.objects.aggregate(n=Sum("ids_count"))["n"] or 0
        act = bulk_operations.begin(BulkActKind.CHECK_PLAN, request={}, number=ids, by=by, at=at)
        if by.kind != Kind.SYSTEM:
            activity.record(by, "checked_plan", at=at)
        bulk_operations.hand_over(act, at=at)
    return act


def resume(act_id: int, now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> None:
    """Continue where the last job stopped, unless another job owns the check. Called by the job."""
    act = bulk_operations.claim(act_id, at=now())
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
    """Store the progress and the differences. Raises Overtaken."""
    for difference in step.differences:
        log.error("plan_does_not_hold", **asdict(difference))
    stored = act.found or []
    act.found = stored + [asdict(item) for item in step.differences[: KEPT - len(stored)]]
    figures = _figures(act.asked.get("figures"), step)
    act.asked = {"stage": step.stage, "behind": list(step.cursor), "figures": figures}
    own_act = bulk_operations.unfinished().filter(pk=act.pk, owner=act.owner)
    if not own_act.update(
        asked=act.asked,
        found=act.found,
        found_count=F("found_count") + len(step.differences),
        done_count=F("done_count") + step.ids_count,
        lease_until=at + limits.BULK_LEASE,
    ):
        raise bulk_operations.Overtaken


def _figures(before: list[dict[str, Any]] | None, step: proof.Step) -> list[dict[str, Any]]:
    """Return the figures of each stage, with a piece added."""
    figures = [dict(each) for each in before or [{"checked": {}, "found": 0} for _ in proof.STAGES]]
    of_stage = figures[step.of_stage]
    of_stage["checked"] = dict(Counter(of_stage["checked"]) + Counter(step.checked)) or dict(step.checked)
    of_stage["found"] += len(step.differences)
    return figures


def stored() -> QuerySet[BulkAct]:
    """Return the checks of the retention time, newest first."""
    return BulkAct.objects.filter(kind=BulkActKind.CHECK_PLAN).order_by("-pk")
