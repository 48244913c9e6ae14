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
from scheduling.placement import holds, reservations


@dataclass(frozen=True)
class Effect:
    """What continuing a task would do.

    late_count: IDs whose minute has passed; they take the first free places. ends_at: when its last ID would
    be sent; None if none of its IDs waits.
    """

    waiting_count: int
    late_count: int
    ends_at: datetime | None


def hold(task: models.Task, reason: str = "", *, by: Actor, now: Callable[[], datetime]) -> models.Task:
    """Stop one task; the others of its queue go on.

    Once this returns nothing of it is claimed, and what was claimed before is kept back as under a pause. Its IDs
    keep their places, which pass unused. Raises AlreadyOnHold, TaskCancelled, TaskDone.
    """
    with store.write():
        task = _locked(task)
        if task.is_on_hold:
            raise AlreadyOnHold
        holds.put_on_hold(task, reason, by=by, at=now())
    return task


def resume(task: models.Task, *, by: Actor, now: Callable[[], datetime]) -> models.Task:
    """Let a task go on at the plan's pace; its late IDs take free places. Raises NotOnHold, TaskCancelled, TaskDone."""
    with store.write():
        task = _locked(task)
        if not task.is_on_hold:
            raise NotOnHold
        at, before = now(), {"reason": task.hold_reason}
        # Its error budget starts again: somebody has looked at the failures before the hold.
        models.Task.objects.filter(pk=task.pk).update(
            held_at=None,
            hold_reason="",
            succeeded_before_count=F("succeeded_count"),
            failed_before_count=F("failed_count"),
        )
        task.held_at, task.hold_reason = None, ""
        activity.record(by, "continued", task, at=at, before=before)
        # The sweep would find it as well, some seconds later.
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
