"""The functions that clusters call. Each passes the clock in, and each may be lost or run twice."""

from collections.abc import Callable
from datetime import datetime

import structlog
from django.db import Error as DatabaseError

from scheduling import store
from scheduling.alerts import evaluation
from scheduling.core.clock_watch import ClockWatch
from scheduling.dispatch import minute_worker, overdue
from scheduling.dispatch.minute_clock import Clocks
from scheduling.events import delivery
from scheduling.intake import allocation
from scheduling.jobqueue import host_watch
from scheduling.proof import checks
from scheduling.queues import rates
from scheduling.tasks import bulk_cancel, callbacks, cancellation, resend
from scheduling.upkeep import quarter_hour
from scheduling.upkeep import reconciliation as sweeping
from scheduling.upkeep import retention as keeping

log = structlog.get_logger(__name__)
_clock_watch = ClockWatch()


def _clock_has_jumped(at: datetime | None = None) -> bool:
    """Whether a job that moves, ends or removes what is late has to wait: another one is queued in its place.

    at: the database's time, where it was just asked for.
    """
    if _clock_watch.is_steady(at or store.now()):
        return False
    log.error("clock_has_jumped")
    return True


def allocate() -> None:
    """Write lists whose IDs have no rows yet."""
    if _clock_has_jumped():
        return
    allocation.write_segments(store.now)


def follow_cancel(task_id: int) -> None:
    """Update the rows of a cancelled task."""
    cancellation.update_rows(task_id, store.now)


def cancel_matching(act_id: int) -> None:
    """Continue cancelling all tasks that match a filter."""
    bulk_cancel.resume(act_id, store.now)


def retry_failed(act_id: int) -> None:
    """Continue retrying the failed IDs that an operator asked for."""
    resend.resume_retry(act_id, store.now)


def send_again(act_id: int) -> None:
    """Continue resending a task's IDs."""
    resend.resume_resend(act_id, store.now)


def refit() -> None:
    """Move on what is past a hard cap that was lowered."""
    if _clock_has_jumped():
        return
    rates.refit(store.now)


def look_around() -> None:
    """Find work that nobody is at. Each cluster `quarterdeck` does so each few seconds: see runner.broker."""
    _look(sweeping.requeue_lost_work)


def look_at_minutes() -> None:
    """Find a minute that nobody serves. Every cluster does so each few seconds."""
    _look(minute_worker.wake)
    # The other cluster may be the one that is silent.
    _look(evaluation.wake)


def _look(look: Callable[..., object]) -> None:
    try:
        at = store.now()
        if not _clock_has_jumped(at):
            look(at=at)
    except DatabaseError as error:
        # The next check comes in seconds; a stored failure for each would fill the table.
        log.warning("look_around_failed", reason=str(error))


def sweep() -> None:
    """Do the same, and whatever can wait for a minute."""
    if _clock_has_jumped():
        return
    sweeping.requeue_lost_work(at=store.now())
    sweeping.clean_up(at=store.now())


def seat(number: int, index: int, not_on: str = "") -> None:
    """Serve a minute, in minutes since 1970. not_on: the host that asked others to."""
    if not_on and not_on == host_watch.host_name():
        minute_worker.decline(number, Clocks(store.now), not_on=not_on)
    elif _clock_has_jumped():
        minute_worker.decline(number, Clocks(store.now))
    else:
        minute_worker.serve_minute(number, index, Clocks(store.now))


def place_late() -> None:
    """Give what is late another minute."""
    if _clock_has_jumped():
        return
    overdue.run(store.now)


def process_quarter() -> None:
    """Arm the coming minutes, and total the windows that have ended."""
    if _clock_has_jumped():
        return
    quarter_hour.run(store.now)


def call_back(task_id: int) -> None:
    """Call a queue's callback_url to say that a task is done."""
    callbacks.call_back(task_id, store.now)


def deliver() -> None:
    """Deliver the events that are due."""
    delivery.deliver(store.now)


def nightly() -> None:
    """Check the plan, and let go of what is past its retention."""
    if _clock_has_jumped():
        return
    keeping.run(store.now)


def prune(act_id: int) -> None:
    """Continue deleting what is past its retention."""
    if _clock_has_jumped():
        return
    keeping.resume(act_id, store.now)


def check_plan(act_id: int) -> None:
    """Continue checking the plan."""
    checks.resume(act_id, store.now)
