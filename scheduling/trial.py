"""One test request, as a queue would send it: in a free slot of the plan, its answer shown and not kept."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from operators.actor import Actor

from . import activity, bucket_slots, clock, keys, models, placement, store
from .errors import NoFreeSlot
from .handlers import make
from .handlers.base import Outcome, Request

# What a receiver sees in place of a task's number and a user's: no task has it.
TASK_ID = 0
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Trial:
    """What was sent, when, and what came of it."""

    request: Request
    started_at: datetime
    outcome: Outcome


def send_one(
    queue: models.Queue,
    *,
    by: Actor,
    now: Callable[[], datetime],
    user_id: int = 1,
    sleep: Callable[[float], None] = time.sleep,
) -> Trial:
    """Send one request in the next free slot, and wait for its answer.

    Raises NoFreeSlot, with the next minute that has one, when none comes within a minute.
    """
    slot_at = _next_slot(queue, now, sleep)
    sleep(max(0.0, (slot_at - now()).total_seconds()))
    request = Request(user_id, TASK_ID, "a test request", queue.name, clock.minute_start(slot_at), 1)
    started_at = now()
    outcome = asyncio.run(_send(queue, request))
    with store.write():
        activity.record(
            by, "tested", queue, at=now(), after={"status": outcome.status, "error": outcome.error}
        )
    return Trial(request, started_at, outcome)


async def _send(queue: models.Queue, request: Request) -> Outcome:
    handler = make.handler(queue)
    try:
        return (await handler.handle([request]))[0]
    finally:
        await handler.close()


def _next_slot(queue: models.Queue, now: Callable[[], datetime], sleep: Callable[[float], None]) -> datetime:
    deadline = now() + timedelta(seconds=WAIT_SECONDS)
    while True:
        at = now()
        minute = clock.minute_start(at)
        # In its last two seconds the next minute's plan stands as well.
        for start in (minute, clock.minute_start(at + timedelta(seconds=clock.SEAL_SECONDS))):
            slot_at = _take_slot(queue, start, now)
            if slot_at is not None and slot_at <= deadline:
                return slot_at
        seal = clock.sealed_at(minute + clock.MINUTE)
        if slot_at is not None or seal >= deadline or seal <= at:
            following = _next_free(queue, minute + 2 * clock.MINUTE)
            raise NoFreeSlot(next=following.strftime("%Y-%m-%dT%H:%M:%SZ"))
        sleep((seal - at).total_seconds() + 0.05)


def _take_slot(queue: models.Queue, minute: datetime, now: Callable[[], datetime]) -> datetime | None:
    """Take a free slot of a minute that runs, or is about to; return when it begins, None without one."""
    bucket_id = keys.bucket_at(queue.pk, minute)
    with store.write():
        queue = placement.lock_queue(queue.pk)
        store.create_windows([bucket_id >> 4], capacity=queue.rpm)
        bucket = models.Bucket.objects.select_for_update().get(pk=bucket_id)
        at = now()
        if not bucket_slots.seal(bucket, queue, at):
            return None
        plan = bucket_slots.plan_of(bucket)
        free = plan.free_slot_after(max(0.0, (at - minute).total_seconds()), bucket.cursor)
        if free is None:
            return None
        models.Bucket.objects.filter(pk=bucket_id).update(cursor=free.cursor)
        return minute + timedelta(seconds=plan.offset_of(free.slot))


def _next_free(queue: models.Queue, minute: datetime) -> datetime:
    """The start of the first minute from `minute` on that has room."""
    return next(keys.minute_of_bucket(bucket_id) for bucket_id, _ in placement.free(queue, 1, minute))
