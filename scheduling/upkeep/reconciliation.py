"""Find work that no live process owns, and queue a job for it. Jobs are hints; the work of lost ones is found here."""

from collections.abc import Callable
from datetime import datetime

import structlog
from django.db import DatabaseError
from django.db.models import F, QuerySet

from scheduling import models, store
from scheduling.alerts import evaluation
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import minute_worker, overdue, recovery
from scheduling.events import delivery
from scheduling.intake import acceptance, allocation
from scheduling.jobqueue import bulk_operations, cluster, schedules
from scheduling.placement import canaries
from scheduling.queues import rates, targets
from scheduling.tasks import callbacks, failures
from scheduling.upkeep import quarter_hour

log = structlog.get_logger(__name__)

LOG_AGAIN_SECONDS = 600.0
# When the failure of a look is logged again, by its module.
_logged: dict[str, TimeLimit] = {}


def requeue_lost_work(*, at: datetime) -> None:
    """Queue jobs for work without a live owner: segments, batches, minutes, late IDs, quarter-hours, rows of
    cancelled tasks, completion callbacks, events, bulk operations. It also checks the conditions of alerts, and decides
    canaries.

    Cheap where there is nothing to do (partial indexes), so it is called every few seconds.
    """
    for look in (
        minute_worker.wake,
        canaries.wake,
        overdue.wake,
        allocation.wake,
        quarter_hour.wake,
        schedules.ensure,
        callbacks.wake,
        delivery.wake,
        evaluation.wake,
        bulk_operations.wake,
        requeue_cancels,
    ):
        _look_alone(look, at)


def _look_alone(look: Callable[..., object], at: datetime) -> None:
    """Look for one kind of work. A malformed row of that kind must not hide the others' work."""
    try:
        look(at=at)
    except DatabaseError:
        raise
    except Exception:
        # Every worker looks every few seconds.
        if _logged.get(look.__module__, TimeLimit(-1)).is_over:
            _logged[look.__module__] = TimeLimit(LOG_AGAIN_SECONDS)
            log.exception("look_failed", look=look.__module__)


def requeue_cancels(*, at: datetime) -> None:
    """Queue jobs for cancelled tasks whose rows are all written but not all marked as cancelled."""
    for task_id in unfinished_cancels().values_list("pk", flat=True)[:10]:
        cluster.enqueue("scheduling.jobs.follow_cancel", task_id)


def unfinished_cancels() -> QuerySet[models.Task]:
    """Return cancelled tasks whose rows are all written but not all marked as cancelled."""
    return models.Task.objects.filter(
        cancelled_at__isnull=False, cancel_position__lt=F("ids_count"), placed_at__isnull=False
    )


def clean_up(*, at: datetime) -> None:
    """Do what may wait for a minute: delete old drafts and idempotency keys, refit minutes above a hard cap,
    let queues know the targets whose budgets they share, keep the counts of failures, release IDs in flight that no
    batch has claimed, drop malformed jobs.
    """
    acceptance.sweep_drafts(at=at)
    failures.keep_counts(at=at)
    targets.wake(at=at)
    rates.wake(at=at)
    recovery.recover_unclaimed(store.now)
    cluster.drop_malformed(at=at)
