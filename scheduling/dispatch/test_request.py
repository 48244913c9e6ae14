"""One test request, as a queue would send it: in a free slot of the plan, its answer shown and not kept."""

import asyncio
import fcntl
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import clock, id_tokens, keys
from scheduling.core.errors import BadFields, NoFreeSlot, TestRequestWaiting
from scheduling.dispatch import bucket_slots, shared_minutes
from scheduling.handlers import factory
from scheduling.handlers.base import Outcome, Request
from scheduling.handlers.shown_request import Sent, shown
from scheduling.handlers.webhook import Webhook
from scheduling.lists import external_ids, record_lists
from scheduling.placement import quotas, reservations, shapes

# What a receiver sees in place of a task's number and a user's: no task has it.
TASK_ID = 0
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TrialRequest(Request):
    """A test request. Its key is new each time: a receiver that drops repeats would not see the second one."""

    own_key: str = ""

    @property
    def idempotency_key(self) -> str:
        return self.own_key


@dataclass(frozen=True)
class ExampleId:
    """The ID of a test request. external_id: where it is text. data: the columns that travel with it.

    is_stored: whether the data are those of a list, which not everybody may see.
    """

    user_id: int = 1
    external_id: str | None = None
    data: Mapping[str, Any] | None = None
    is_stored: bool = False

    @classmethod
    def of(
        cls,
        queue: models.Queue,
        text: str,
        data: Mapping[str, Any] | None = None,
        *,
        id_type: str | None = None,
    ) -> "ExampleId":
        """Return the example that somebody asks for; by default with the data of the ID's latest list in the queue.

        text: an ID. Digits are a number, unless only the text was received; id_type decides. Raises BadFields for
        what is no ID.
        """
        text_id, reason, _ = id_tokens.read_text(text)
        number = external_ids.number_of_written(text, id_type)
        if number == 0 and id_type is None and id_tokens.looks_like_a_number(text):
            # A damaged number is not taken for text.
            number = None
        if number is None:
            raise BadFields(id=f"{text[:40]!r} is not an ID. {reason or ''}".rstrip())
        stored_data = _latest_data(queue, number) if data is None and number else None
        # A text that was never received has no number yet.
        return cls(
            number or -1,
            None if number > 0 else text_id,
            stored_data if data is None else data,
            is_stored=stored_data is not None,
        )


def _latest_data(queue: models.Queue, user_id: int) -> Mapping[str, Any] | None:
    tasks = models.Task.objects.filter(queue=queue, data_columns__isnull=False)
    rows = models.Assignment.objects.filter(user_id=user_id, task__in=tasks).order_by("-task_id")
    task_id = rows.values_list("task_id", flat=True).first()
    return None if task_id is None else record_lists.read(task_id, [user_id]).get(user_id)


@dataclass(frozen=True)
class Trial:
    """A test request that was made, when, and its outcome. sent: None where the handler isn't `webhook`.

    has_stored_data: whether it contains the data that an ID has in a list.
    """

    request: Request
    started_at: datetime
    outcome: Outcome
    sent: Sent | None
    has_stored_data: bool = False

    def sent_for(self, *, sees_data: bool) -> Sent | None:
        """Return the request for somebody who may see the data of IDs, or may not."""
        if self.sent is None or sees_data or not self.has_stored_data:
            return self.sent
        return self.sent.without_data()


def send_one(
    queue: models.Queue,
    *,
    by: Actor,
    now: Callable[[], datetime],
    example: ExampleId = ExampleId(),
    sleep: Callable[[float], None] = time.sleep,
) -> Trial:
    """Send one request in the next free slot, and wait for its response.

    Raises TestRequestWaiting if another one of the queue is waiting on this host, and NoFreeSlot, with the next
    minute that has one, if no slot is free within a minute.
    """
    with _only_one(queue):
        return _send_one(queue, by=by, now=now, example=example, sleep=sleep)


@contextmanager
def _only_one(queue: models.Queue) -> Iterator[None]:
    """Refuse a second test request of a queue while one waits. Each waits in a thread for up to a minute."""
    # A lock on a file: it holds for all processes of the host, and ends with the process.
    with open(settings.DATA_DIR / f"test-request-{queue.pk}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TestRequestWaiting(name=queue.name) from None
        yield


def _send_one(
    queue: models.Queue,
    *,
    by: Actor,
    now: Callable[[], datetime],
    example: ExampleId,
    sleep: Callable[[float], None],
) -> Trial:
    deadline = now() + timedelta(seconds=WAIT_SECONDS)
    while True:
        slot_at, latest = _next_slot(queue, now, sleep, deadline)
        sleep(max(0.0, (slot_at - now()).total_seconds()))
        # This late, it would not fit the plan: its slot stays unused.
        if now() <= latest:
            break
    key = f"msg_test_{secrets.token_hex(12)}"
    planned_at = clock.minute_start(slot_at)
    request = TrialRequest(
        example.user_id,
        TASK_ID,
        "a test request",
        queue.name,
        planned_at,
        1,
        external_id=example.external_id,
        data=example.data,
        own_key=key,
    )
    started_at = now()
    outcome, sent = asyncio.run(_send(queue, request))
    # What a target responds may repeat the ID and its data, which an erasure would not find in the log.
    error = "" if outcome.status else outcome.error
    with store.write():
        activity.record(by, "tested", queue, at=now(), after={"status": outcome.status, "error": error})
    return Trial(request, started_at, outcome, sent, has_stored_data=example.is_stored)


async def _send(queue: models.Queue, request: Request) -> tuple[Outcome, Sent | None]:
    handler = factory.make_handler(queue)
    try:
        if not isinstance(handler, Webhook):
            return (await handler.handle([request]))[0], None
        outcome, message = await handler.call_and_show(request)
    finally:
        await handler.close()
    if message is None:
        return outcome, None
    return outcome, shown(handler, message)


def _next_slot(
    queue: models.Queue, now: Callable[[], datetime], sleep: Callable[[float], None], deadline: datetime
) -> tuple[datetime, datetime]:
    """Take the next free slot; return when it begins, and until when it may be met."""
    while True:
        at = now()
        minute = clock.minute_start(at)
        # In its last two seconds, the next minute's plan is fixed too.
        for start in (minute, clock.minute_start(at + timedelta(seconds=clock.SEAL_SECONDS))):
            slot = _take_slot(queue, start, now)
            if slot is not None and slot[0] <= deadline:
                return slot
        seal = clock.sealed_at(minute + clock.MINUTE)
        if slot is not None or seal >= deadline or seal <= at:
            raise NoFreeSlot(_next_free(queue, minute + 2 * clock.MINUTE))
        sleep((seal - at).total_seconds() + 0.05)


def _take_slot(
    queue: models.Queue, minute: datetime, now: Callable[[], datetime]
) -> tuple[datetime, datetime] | None:
    """Take a free slot of a minute that runs, or is about to: see _next_slot. None without one."""
    bucket_id = keys.bucket_at(queue.pk, minute)
    number = keys.minute_number_of_bucket(bucket_id)
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        window_id = keys.window_of_bucket(bucket_id)
        shapes.create_windows(queue, [window_id])
        shared = () if queue.target_id is None else shared_minutes.buckets_of([queue.target_id], number)
        rows = models.Bucket.objects.select_for_update().filter(pk__in={bucket_id, *shared}).order_by("pk")
        locked = {row.pk: row for row in rows}
        bucket, at = locked[bucket_id], now()
        if queue.target_id is None or bucket.sealed_at is not None:
            is_sealed = bucket_slots.seal_alone(bucket, queue, at) and bucket_slots.may_send(bucket, queue)
        else:
            is_sealed = shared_minutes.seal(bucket, queue, locked, at)
        # If the period's quota is used up, or booked, no slot is free.
        if not is_sealed or not quotas.remaining(queue, window_id).most(1, window_id):
            return None
        plan = bucket_slots.plan_of(bucket)
        free = plan.free_slot_after(max(0.0, (at - minute).total_seconds()), bucket.cursor)
        if free is None:
            return None
        models.Bucket.objects.filter(pk=bucket_id).update(
            cursor=free.cursor, tests_count=F("tests_count") + 1
        )
        slot_at = minute + timedelta(seconds=plan.offset_of(free.slot))
        return slot_at, slot_at + timedelta(seconds=plan.tolerance_of(free.slot))


def _next_free(queue: models.Queue, minute: datetime) -> datetime:
    """The start of the first minute from `minute` on that has room."""
    return next(keys.minute_of_bucket(bucket_id) for bucket_id, _ in reservations.free(queue, 1, minute))
