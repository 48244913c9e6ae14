"""Invented data for a demonstration: a day of history, a running quarter-hour, and lists that keep arriving.

Everything goes through the real operations with their clock set back, so that the check of the plan passes.
The same seed gives the same day.
"""

import math
import random
import secrets
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from operators.actor import Actor, Interface, Kind
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.errors import QueueTaken
from scheduling.dispatch import claims, messages
from scheduling.intake import acceptance, allocation
from scheduling.queues import operations

BY = (
    Actor(Kind.OPERATOR, None, "m.ortiz", Interface.PAGE),
    Actor(Kind.OPERATOR, None, "j.lind", Interface.PAGE),
    Actor(Kind.TOKEN, None, "crm-export", Interface.API),
)
GENERATOR = Actor(Kind.TOKEN, None, "demo generator", Interface.API)
HISTORY = timedelta(hours=24)
SEED = 20261125


@dataclass(frozen=True)
class DemoQueue:
    """A queue of the demonstration: how full its minutes are at the height of the day, and names of lists."""

    name: str
    rpm: int
    fullness: float
    failing: float
    names: tuple[str, ...]


QUEUES = (
    DemoQueue(
        "default",
        120,
        0.85,
        0.004,
        ("Spring renewals", "Re-check of bounced", "Address check", "Invoices due"),
    ),
    DemoQueue("crm", 60, 0.6, 0.02, ("crm-sync", "crm-merge")),
    DemoQueue("sign-ups", 240, 0.25, 0.0, ("sign-ups",)),
)
# When, to which queue, the name of the list, its IDs.
Planned = tuple[datetime, str, str, list[int]]
ANSWERS = ((410, "gone"), (404, "no such customer"), (422, "customer is blocked"))


class InMemory:
    """A short list in the form that `intake` accepts."""

    repeats_count = 0

    def __init__(self, ids: list[int]) -> None:
        self._ids = array("q", dict.fromkeys(ids))
        self.ids_count = len(self._ids)
        self.same_as_digest = secrets.token_hex(32)

    def unique_blocks(self, size: int) -> Iterator["array[int]"]:
        """Yield the IDs in arrays of at most `size`."""
        for start in range(0, self.ids_count, size):
            yield self._ids[start : start + size]


def submit(queue: str, name: str, ids: list[int], *, by: Actor, now: Callable[[], datetime]) -> models.Task:
    """Submit a short list."""
    submission = acceptance.Submission(task_name=name, queue_name=queue)
    accepted = acceptance.submit(submission, InMemory(ids), by=by, now=now, render=lambda accepted: None)
    # Only a replayed request has none.
    assert accepted.task is not None
    return accepted.task


def make_queues(*, at: datetime) -> None:
    """Create the queues of the demonstration, unless they exist."""
    for queue in QUEUES:
        with suppress(QueueTaken):
            operations.create(name=queue.name, fields={"rpm": queue.rpm}, by=Actor.command_line(), at=at)


def populate(*, at: datetime) -> int:
    """Invent the day until `at` with its finished minutes, and the open window; return the number of lists."""
    dice = random.Random(SEED)
    make_queues(at=at - HISTORY)
    first = clock.quarter_start(at - HISTORY)
    # Past minutes must not be armed, since no cluster can run them.
    _past_minutes(first, at)
    lists = 0
    quarter = first
    while quarter <= at:
        planned = sorted(
            (submission for queue in QUEUES for submission in _lists(queue, quarter, at, dice)), key=_moment
        )
        for moment, queue_name, name, ids in planned:
            submit(queue_name, name, ids, by=dice.choice(BY), now=partial(_same, moment))
        lists += len(planned)
        allocation.write_segments(partial(_same, quarter), seconds=60)
        quarter += clock.QUARTER
        _run(quarter - clock.QUARTER, min(quarter, clock.minute_start(at)), dice)
    return lists


def catch_up(since: datetime, *, at: datetime) -> None:
    """Run the minutes that passed while the day was being invented."""
    _run(clock.minute_start(since), clock.minute_start(at), random.Random(SEED))


def _past_minutes(first: datetime, at: datetime) -> None:
    start, end = (clock.minute_number(moment) for moment in (first, at))
    models.Minute.objects.bulk_create(
        (
            models.Minute(
                id=number,
                armed_at=(minute := clock.minute_of(number)) - clock.QUARTER,
                seats=1,
                started_at=minute + timedelta(microseconds=200),
                ended_at=minute + clock.MINUTE,
            )
            for number in range(start, end + 1)
        ),
        ignore_conflicts=True,
        batch_size=500,
    )


def _moment(planned: Planned) -> datetime:
    return planned[0]


def _same(moment: datetime) -> datetime:
    """A clock that stands still."""
    return moment


def _lists(queue: DemoQueue, quarter: datetime, at: datetime, dice: random.Random) -> Iterator[Planned]:
    """Yield some lists of a quarter-hour."""
    # A working day that ends about now, whatever the hour, after a night.
    ago = (at - quarter) / timedelta(hours=1)
    busy = max(0.0, math.sin((ago + 2.5) / 13 * math.pi)) if ago <= 10.5 else 0.1 * (ago > 21)
    total = int(queue.rpm * clock.BUCKETS * queue.fullness * busy * dice.uniform(0.5, 1.25))
    if dice.random() < 0.06:
        total *= 2
    if clock.running_window_start(at) == quarter:
        # Fill it nearly to its end, so that it can be watched.
        total = int(queue.rpm * clock.BUCKETS * 0.97)
    elif clock.open_window_start(at) == quarter:
        total = int(queue.rpm * clock.BUCKETS * queue.fullness * 0.6)
    parts = min(total, dice.randint(1, 3))
    for part in range(parts):
        moment = quarter + timedelta(seconds=dice.uniform(5, 600))
        if moment >= at:
            moment = at - timedelta(seconds=dice.uniform(1, 50))
        ids = [dice.randrange(10_000, 400_000) for _ in range(total // parts)]
        number = (quarter - clock.EPOCH) // clock.QUARTER % 96
        name = f"{dice.choice(queue.names)}, part {number}.{part + 1}"
        yield moment, queue.name, name, ids


def _run(start: datetime, end: datetime, dice: random.Random) -> None:
    """Run the minutes from `start` until `end`."""
    by_key = {queue.pk: queue for queue in models.Queue.objects.all()}
    failing = {queue.name: queue.failing for queue in QUEUES}
    for pk, queue in by_key.items():
        first, last = keys.bucket_at(pk, start), keys.bucket_at(pk, max(start, end))
        for bucket in models.Bucket.objects.filter(pk__gte=first, pk__lt=last, waiting_count__gt=0).order_by(
            "pk"
        ):
            _run_bucket(bucket, queue, bucket.minute_at, failing.get(queue.name, 0), dice)


def _run_bucket(
    bucket: models.Bucket, queue: models.Queue, minute: datetime, failing: float, dice: random.Random
) -> None:
    owner = secrets.randbits(63)
    failures = sum(dice.random() < failing for _ in range(bucket.waiting_count))
    if failures:
        want = messages.ClaimRequest(queue, until=60.0, immediate=False, at_most=failures)
        tick = claims.commit_tick(
            owner=owner, elapsed=lambda: 0.0, requests={bucket.pk: want}, now=lambda: minute
        )
        results = [_failed(claimed, minute, dice) for claimed in tick.claims]
        batches = {claimed.batch_id for claimed in tick.claims}
        claims.commit_tick(
            owner=owner,
            elapsed=lambda: 0.0,
            requests={},
            results=results,
            open_batches=batches,
            now=lambda: minute,
        )
        models.Batch.objects.filter(pk__in=batches).delete()
    want = messages.ClaimRequest(queue, until=60.0, immediate=True)
    done = minute + clock.MINUTE
    claims.commit_tick(owner=owner, elapsed=lambda: 0.0, requests={bucket.pk: want}, now=lambda: done)


def run_part_of_minute(*, at: datetime) -> None:
    """Run the minute of `at` up to `at`; the last of its requests are in flight."""
    minute = clock.minute_start(at)
    for queue in models.Queue.objects.all():
        bucket = models.Bucket.objects.filter(
            pk=keys.bucket_at(queue.pk, minute), waiting_count__gt=0
        ).first()
        if bucket is None:
            continue
        elapsed = (at - minute).total_seconds()
        owner = secrets.randbits(63)
        for until, immediate in ((elapsed - 2, True), (elapsed, False)):
            want = messages.ClaimRequest(queue, until=until, immediate=immediate)
            claims.commit_tick(owner=owner, elapsed=lambda: 0.0, requests={bucket.pk: want}, now=lambda: at)


def _failed(claimed: messages.Claim, minute: datetime, dice: random.Random) -> messages.Result:
    status, answer = dice.choice(ANSWERS)
    attempt = models.Attempt(
        task_id=claimed.task_id,
        user_id=claimed.user_id,
        number=claimed.attempts + 1,
        bucket_id=claimed.bucket_id,
        started_at=minute + timedelta(seconds=claimed.offset),
        duration_ms=dice.randint(20, 900),
        http_status=status,
        answer=answer,
    )
    return messages.Result(claimed, models.Status.FAILED, round(claimed.offset * 1000), attempt)


def generate(*, seconds: float = math.inf, rest: Callable[[float], None] = time.sleep) -> None:
    """Send some IDs every second, until `seconds` have passed."""
    dice = random.Random()
    began = time.monotonic()
    turns = 0
    while time.monotonic() - began < seconds:
        # Wait for the next second, however long the last one took.
        rest(1 - time.time() % 1)
        turns += 1
        _send("sign-ups", f"sign-ups {store.now():%H:%M:%S}", dice.randint(1, 4), dice)
        if turns % 10 == 1:
            _send("default", f"Renewals, wave {turns // 10 + 1}", dice.randint(5, 25), dice)
        if turns % 45 == 20:
            _send("crm", f"crm-sync {store.now():%H:%M}", dice.randint(10, 40), dice)


def _send(queue: str, name: str, count: int, dice: random.Random) -> None:
    ids = [dice.randrange(10_000, 400_000) for _ in range(count)]
    submit(queue, name, ids, by=GENERATOR, now=store.now)
