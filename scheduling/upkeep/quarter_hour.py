"""What is done at minutes 0, 15, 30 and 45: the coming quarter is armed, every ended window totalled, once.

It asks what is left to do and never what quarter it was called for: so it may come late, twice, from several
clusters, or not at all for hours.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db.models import F, QuerySet

from scheduling import models, store
from scheduling.core import clock
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import overdue as late
from scheduling.jobqueue import cluster, minute_jobs
from scheduling.reports import receipts

log = structlog.get_logger(__name__)

# The seats of its last minute keep what they know of it for so long.
SETTLED = timedelta(seconds=3)
JOB_SECONDS = 20.0
# How long after a quarter's start its run may be missing before somebody asks for it.
OVERDUE = timedelta(seconds=40)
# An ended window that can't be totalled yet is looked at no more often than this.
AGAIN = timedelta(seconds=20)


def run(now: Callable[[], datetime]) -> int:
    """Arm the coming quarter, place what was left behind, total what has ended; return how many windows."""
    at = now()
    arm(at=at)
    placed_again = late.run(now)
    totalled = total(now)
    with store.write():
        kept, _ = models.QuarterRun.objects.get_or_create(
            quarter_at=clock.quarter_start(at), defaults={"ran_at": at}
        )
        models.QuarterRun.objects.filter(pk=kept.pk).update(
            ran_at=at,
            totalled_count=F("totalled_count") + totalled,
            placed_again_count=F("placed_again_count") + placed_again,
        )
    log.info("quarter_hour_ran", totalled=totalled, placed_again=placed_again)
    return totalled


def wake(*, at: datetime) -> bool:
    """Queue a run where this quarter's is missing, or an ended window isn't totalled; return whether."""
    ran = models.QuarterRun.objects.filter(quarter_at=clock.quarter_start(at)).first()
    overdue = ran is None and at >= clock.quarter_start(at) + OVERDUE
    left = ran is not None and at >= ran.ran_at + AGAIN and untotalled(at).exists()
    if not overdue and not left:
        return False
    if cluster.is_queued("scheduling.jobs.process_quarter", at=at):
        return False
    cluster.enqueue("scheduling.jobs.process_quarter")
    return True


def arm(*, at: datetime) -> int:
    """Arm the minutes of windows that run or are open and hold something; return how many were not."""
    wanted = (clock.running_window_start(at), clock.open_window_start(at))
    armed = 0
    for starts_at in wanted:
        if models.Window.objects.filter(starts_at=starts_at).exists():
            with store.write():
                armed += minute_jobs.arm_window(starts_at, at=at)
    return armed


def untotalled(at: datetime) -> QuerySet:
    """Ended windows without a total, of queues that aren't paused: those are totalled once they resume."""
    ended = at - 2 * clock.QUARTER - SETTLED
    return models.Window.objects.filter(totalled_at=None, starts_at__lte=ended, queue__paused_at=None)


def total(now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> int:
    """Write the receipt of every ended window in which nothing is left to do; return how many.

    seconds: what isn't done then is the next run's, which is asked for as long as something is left.
    """
    totalled, limit = 0, TimeLimit(seconds)
    # No cursor stays open meanwhile: SQLite begins no transaction on a reading that others have overtaken.
    for window in list(untotalled(now()).order_by("pk")):
        if limit.is_over:
            break
        buckets = list(models.Bucket.objects.filter(window=window).order_by("pk"))
        # Late IDs move first, and a seat that died has its lease: the next run, or the sweep, comes back.
        if any(bucket.waiting_count or bucket.in_flight_count for bucket in buckets):
            continue
        receipt = receipts.of_window(window, buckets)
        with store.write():
            # Compare-and-set: several clusters may be at it.
            untouched = models.Window.objects.filter(pk=window.pk, totalled_at=None, version=window.version)
            totalled += untouched.update(totalled_at=now(), receipt=receipt)
    return totalled
