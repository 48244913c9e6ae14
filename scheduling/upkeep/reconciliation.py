"""Find work that no live process owns, and queue a job for it. Jobs are hints, and lost ones are found here."""

from datetime import datetime

from django.db.models import F, QuerySet

from scheduling import models, store
from scheduling.dispatch import minute_worker, overdue, recovery
from scheduling.intake import acceptance, allocation
from scheduling.jobqueue import bulk_operations, cluster, schedules
from scheduling.queues import rates
from scheduling.tasks import callbacks, failures
from scheduling.upkeep import quarter_hour


def requeue_lost_work(*, at: datetime) -> None:
    """Queue jobs for work without a live owner: segments, batches, minutes, late IDs, quarter-hours, rows of
    cancelled tasks, completion callbacks, bulk operations.

    Cheap where there is nothing to do (partial indexes), so every worker calls it every few seconds.
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


def unfinished_cancels() -> QuerySet[models.Task]:
    """Return cancelled tasks whose rows are all written but not all marked as cancelled."""
    return models.Task.objects.filter(
        cancelled_at__isnull=False, cancel_position__lt=F("ids_count"), placed_at__isnull=False
    )


def clean_up(*, at: datetime) -> None:
    """Do what can wait for a minute: delete old drafts and idempotency keys, refit minutes above a hard cap,
    keep the counts of failures, release IDs in flight that no batch has claimed, drop malformed jobs.
    """
    acceptance.sweep_drafts(at=at)
    failures.keep_counts(at=at)
    rates.wake(at=at)
    recovery.recover_unclaimed(store.now)
    cluster.drop_malformed(at=at)
