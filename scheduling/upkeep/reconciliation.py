"""Look for work that nobody is at, and tell a cluster of it. Jobs are hints: this finds what they lost."""

from datetime import datetime

from django.db.models import F

from scheduling import models, store
from scheduling.dispatch import minute_worker, overdue, recovery
from scheduling.intake import acceptance, allocation
from scheduling.jobqueue import bulk_operations, cluster, schedules
from scheduling.queues import rates
from scheduling.tasks import callbacks, failures
from scheduling.upkeep import quarter_hour


def requeue_lost_work(*, at: datetime) -> None:
    """Queue jobs for whatever nobody is at: segments and batches without a living owner, minutes without a
    seat, late IDs, quarters that weren't processed, cancels whose rows don't follow, ends that weren't
    told, acts on many rows that nobody is at.

    Cheap where there is nothing to do (partial indexes), so every worker calls it each few seconds.
    """
    minute_worker.wake(at=at)
    overdue.wake(at=at)
    allocation.wake(at=at)
    quarter_hour.wake(at=at)
    schedules.ensure(at=at)
    callbacks.wake(at=at)
    bulk_operations.wake(at=at)
    for task_id in unfinished_cancels().values_list("pk", flat=True)[:10]:
        cluster.enqueue("scheduling.jobs.follow_cancel", task_id)


def unfinished_cancels():
    """Cancelled tasks whose rows are all written and don't all say so."""
    return models.Task.objects.filter(
        cancelled_at__isnull=False, cancel_position__lt=F("ids_count"), placed_at__isnull=False
    )


def clean_up(*, at: datetime) -> None:
    """What can wait for a minute: drafts that nobody accepted, keys past their week, minutes past a hard cap,
    counts of what failed, IDs in flight that nobody holds.
    """
    acceptance.sweep_drafts(at=at)
    failures.keep_counts(at=at)
    rates.wake(at=at)
    recovery.recover_unclaimed(store.now)
