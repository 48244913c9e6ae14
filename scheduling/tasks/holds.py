"""Put one list of a queue on hold, and continue it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import clock, keys
from scheduling.core.errors import AlreadyOnHold, NotOnHold, TaskCancelled, TaskDone
from scheduling.dispatch import overdue
from scheduling.models import CanaryState
from scheduling.placement import canaries, holds, reservations


@dataclass(frozen=True)
class Effect:
    """What continuing a task would do.

    late_count: IDs whose minute has passed; they take the first free places. ends_at: when its last ID would
    be sent; None if none of its IDs is waiting.
    """

    waiting_count: int
    late_count: int
    ends_at: datetime | None


def hold(task: models.Task, reason: str = "", *, by: Actor, now: Callable[[], datetime]) -> models.Task:
    """Stop one task; the others of its queue go on.

    Once this returns, none of its IDs are claimed any more, and those claimed before are not sent, as in a pause. Its
    IDs keep their places, which pass unused. Raises AlreadyOnHold, TaskCancelled, TaskDone.
    """
    with store.write():
        task = _locked(task)
        if task.is_on_hold:
            raise AlreadyOnHold
        holds.put_on_hold(task, reason, by=by, at=now())
    return task


def resume(task: models.Task, *, by: Actor, now: Callable[[], datetime]) -> models.Task:
    """Continue a task at the planned pace; its late IDs take free places. Raises NotOnHold, TaskCancelled, TaskDone.

    A task that is on hold because of its canary, or that waits for it, no longer waits for it.
    """
    with store.write():
        task = _locked(task)
        at = now()
        if not task.is_on_hold and not task.waits_for_canary:
            raise NotOnHold
        before = {"reason": task.hold_reason or f"the canary: {task.canary_progress}"}
        if task.canary_state == CanaryState.FAILED or not task.is_on_hold:
            canaries.skip(task, at=at)
        # Counting for the error budget starts again: somebody has looked at the failures before the hold.
        models.Task.objects.filter(pk=task.pk).update(
            held_at=None,
            hold_reason="",
            succeeded_before_count=F("succeeded_count"),
            failed_before_count=F("failed_count"),
        )
        task.refresh_from_db()
        activity.record(by, "continued", task, at=at, before=before)
        # A canary may have ended while the task was on hold.
        canaries.decide([task.pk], at=at)
        # The sweep would do this too, but a few seconds later.
        overdue.wake(at=at)
    return task


def _locked(task: models.Task) -> models.Task:
    locked = models.Task.objects.select_for_update().get(pk=task.pk)
    if locked.cancelled_at is not None:
        raise TaskCancelled
    if locked.finished_at is not None:
        raise TaskDone
    return locked


def effect_of_resume(task: models.Task, *, at: datetime) -> Effect:
    """Return what continuing the task at `at` would do, as long as nobody else changes the queue's fills."""
    queue = models.Queue.objects.get(pk=task.queue_id)
    waiting = models.TaskBucket.objects.filter(task=task, waiting_count__gt=0)
    current = keys.bucket_at(queue.pk, clock.minute_start(at))
    leaving = dict(waiting.filter(bucket_id__lt=current).values_list("bucket_id", "waiting_count"))
    late = sum(leaving.values())
    last = waiting.order_by("-bucket_id").values_list("bucket_id", flat=True).first()
    for bucket_id, _ in reservations.free(queue, late, clock.next_unsealed_minute(at), leaving=leaving):
        last = max(last or 0, bucket_id)
    ends_at = None if last is None else keys.minute_of_bucket(last) + clock.MINUTE
    return Effect(task.waiting_count, late, ends_at)
