"""The processing at minutes 0, 15, 30 and 45: it arms the coming quarter and totals each ended window once.

It looks for what is left to do, not for the quarter that it was called for. So it can run late, twice, on
several clusters, or not at all for hours.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db.models import F, Q, QuerySet

from scheduling import models, store
from scheduling.core import clock, receipt_chain
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import overdue
from scheduling.jobqueue import cluster, minute_jobs
from scheduling.placement import reservations
from scheduling.proof import chain
from scheduling.queues import rates
from scheduling.reports import receipts

log = structlog.get_logger(__name__)

# The minute workers of its last minute may take this long to record the last results.
SETTLED = timedelta(seconds=3)
JOB_SECONDS = 20.0
# A run that is still missing this long after the quarter began is queued again.
OVERDUE = timedelta(seconds=40)
# A window that can't be totalled yet is tried again no sooner than this.
AGAIN = timedelta(seconds=20)


def run(now: Callable[[], datetime]) -> int:
    """Arm the coming quarter, move late IDs, total what has ended; return how many windows were totalled."""
    at = now()
    arm(at=at)
    placed_again = overdue.run(now)
    totalled = total(now)
    with store.write():
        quarter_run, _ = models.QuarterRun.objects.get_or_create(
            quarter_at=clock.quarter_start(at), defaults={"ran_at": at}
        )
        models.QuarterRun.objects.filter(pk=quarter_run.pk).update(
            ran_at=at,
            totalled_count=F("totalled_count") + totalled,
            placed_again_count=F("placed_again_count") + placed_again,
        )
    log.info("quarter_hour_ran", totalled=totalled, placed_again=placed_again)
    return totalled


def wake(*, at: datetime) -> bool:
    """Queue a run if this quarter's is missing or an ended window isn't totalled; return whether it was queued."""
    ran = models.QuarterRun.objects.filter(quarter_at=clock.quarter_start(at)).first()
    is_missing = ran is None and at >= clock.quarter_start(at) + OVERDUE
    is_left = ran is not None and at >= ran.ran_at + AGAIN and untotalled(at).exists()
    if not is_missing and not is_left:
        return False
    if cluster.is_queued("scheduling.jobs.process_quarter", at=at):
        return False
    cluster.enqueue("scheduling.jobs.process_quarter")
    return True


def arm(*, at: datetime) -> int:
    """Arm the minutes of the running and the open windows; return how many weren't armed yet."""
    windows = (clock.running_window_start(at), clock.open_window_start(at))
    armed = 0
    for queue in models.Queue.objects.filter(Q(hours__isnull=False) | Q(ramp__isnull=False)).order_by("pk"):
        # Pages that show a window of a queue with hours or a ramp read its rows.
        with store.write():
            rates.keep_open_windows(reservations.lock_queue(queue.pk), at=at)
    for starts_at in windows:
        if models.Window.objects.filter(starts_at=starts_at).exists():
            with store.write():
                armed += minute_jobs.arm(clock.minutes(starts_at), at=at)
    return armed


def untotalled(at: datetime) -> QuerySet[models.Window]:
    """Return ended windows without a total. Those of paused queues are totalled when the queue resumes."""
    ended = at - 2 * clock.QUARTER - SETTLED
    return models.Window.objects.filter(totalled_at=None, starts_at__lte=ended, queue__paused_at=None)


def total(now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> int:
    """Write the receipt of every ended window in which nothing is left to do; return how many.

    seconds: the time limit. The next run does the rest; it is queued as long as there is any.
    """
    totalled, limit = 0, TimeLimit(seconds)
    # A list, not a cursor: SQLite begins no transaction on a read snapshot that a writer has overtaken.
    for window in list(untotalled(now()).order_by("pk")):
        if limit.is_over:
            break
        buckets = list(models.Bucket.objects.filter(window=window).order_by("pk"))
        # Late IDs move first, and leases of dead minute workers must run out. A later run totals the window.
        if any(bucket.waiting_count or bucket.in_flight_count for bucket in buckets):
            continue
        starts = receipts.own_starts(window.pk)
        receipt = receipts.of_window(window, buckets, starts)
        with store.write():
            queue = reservations.lock_queue(window.queue_id)
            # Compare-and-set: several clusters may total the same window.
            untouched = models.Window.objects.filter(pk=window.pk, totalled_at=None, version=window.version)
            is_next = not chain.unchained().filter(queue=queue).exists()
            if untouched.update(totalled_at=now(), receipt=receipt):
                totalled += 1
                if is_next:
                    chain.append(queue, window.pk, receipt, receipt_chain.write_starts(starts))
    _chain_the_rest(limit)
    return totalled


def _chain_the_rest(limit: TimeLimit) -> None:
    """Chain the receipts that an earlier version wrote without it, the oldest first. The next run does the rest."""
    while not limit.is_over and (window := chain.unchained().order_by("starts_at", "pk").first()):
        starts = receipt_chain.write_starts(receipts.own_starts(window.pk))
        with store.write():
            queue = reservations.lock_queue(window.queue_id)
            if not models.ChainedReceipt.objects.filter(pk=window.pk).exists():
                chain.append(queue, window.pk, window.receipt or {}, starts)
