"""Queues that share a target's budget, served by two minute workers: what the target sees, start by start."""

import random
from datetime import datetime, timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.core import clock, pacing
from scheduling.dispatch import overdue
from scheduling.dispatch.minute_worker import MinuteWorker
from scheduling.models import HandlerKind
from scheduling.queues import operations, targets
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.command_line()
ORIGIN = "https://api.vendor.example:443"
URL = f"{ORIGIN}/in"


def webhook_queue(name: str, rpm: int, **fields) -> models.Queue:
    return make_queue(name, rpm=rpm, handler=HandlerKind.WEBHOOK, webhook_url=URL, **fields)


def budget(rpm: int) -> models.Target:
    return targets.create(origin=ORIGIN, fields={"rpm": rpm}, by=BY, now=lambda: BEFORE)


class CountingHandler(SimulatedHandler):
    """Keeps when each request starts, in seconds of the simulated time."""

    def __init__(self, time: SimulatedTime, starts: list[tuple[float, str]]) -> None:
        super().__init__()
        self.time, self.starts = time, starts

    async def handle(self, batch):
        self.starts += [(self.time.seconds, request.queue) for request in batch]
        return await super().handle(batch)


class Service:
    """Two minute workers for each minute, as on two hosts. `starts`: when each request began, and its queue."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.time = SimulatedTime(MINUTE - timedelta(seconds=3))
        self.starts: list[tuple[float, str]] = []
        self.chance = chance

    def worker(self, minute: datetime, owner: int = 1) -> MinuteWorker:
        handler = CountingHandler(self.time, self.starts)
        return self.time.worker(minute, owner=owner, make_handler=lambda queue: handler)

    def serve(self, minutes: int, *, then=lambda minute: None) -> None:
        for number in range(minutes):
            minute = MINUTE + number * clock.MINUTE
            self.time.sleep((minute - timedelta(seconds=3) - self.time.now()).total_seconds())
            due = [[self.time.seconds, self.worker(minute, owner)] for owner in (1, 2)]
            while due:
                due.sort(key=lambda each: each[0])
                at, worker = due[0]
                # Now and then a worker stalls for some seconds.
                stall = self.chance.uniform(0, 4) if self.chance and self.chance.random() < 0.01 else 0.0
                self.time.sleep(max(0.0, at - self.time.seconds) + stall)
                following = worker.tick()
                if following is None:
                    due.pop(0)
                else:
                    due[0][0] = self.time.seconds + max(0.0, following - worker.clock.elapsed())
            then(minute)
            while overdue.run(self.time.now):
                continue

    def most(self, queue: str | None = None) -> int:
        """The largest number of starts in any 60 s, of one queue or of the target."""
        starts = sorted(at for at, name in self.starts if queue in (None, name))
        first = most = 0
        for number, at in enumerate(starts):
            while starts[first] <= at - 60:
                first += 1
            most = max(most, number - first + 1)
        return most


@pytest.mark.parametrize("seed", range(2))
def test_target_sees_its_budget_at_most_in_any_60_seconds(seed):
    chance = random.Random(seed)
    room = chance.choice([60, 61, 120])
    queues = [webhook_queue(name, rpm=chance.randint(room // 4, room)) for name in "abc"]
    budget(room)
    first_id = 1
    for number in range(2):
        remaining = room
        for queue in chance.sample(queues, 3):
            count = min(queue.rpm, remaining, chance.choice([remaining, chance.randint(1, room)]))
            if count:
                place(
                    queue,
                    {MINUTE + number * clock.MINUTE: range(first_id, first_id + count)},
                    at=BEFORE,
                )
                first_id, remaining = first_id + count, remaining - count
    service = Service(chance if seed % 2 else None)
    service.serve(4)
    assert service.most() <= pacing.most_starts_in_60_seconds(room)
    for queue in queues:
        assert service.most(queue.name) <= pacing.most_starts_in_60_seconds(queue.rpm)
    if not seed % 2:
        assert counted() == {"succeeded": first_id - 1}
        assert models.Move.objects.count() == 0
    check_counters()


def test_minute_that_is_planned_past_the_budget_sends_no_more_and_the_rest_is_late():
    queues = [webhook_queue(name, rpm=60) for name in "ab"]
    for number, queue in enumerate(queues):
        place(queue, {MINUTE: range(number * 60 + 1, number * 60 + 61)}, at=BEFORE)
    budget(60)
    service = Service()
    service.serve(4)
    assert service.most() <= 61
    assert counted() == {"succeeded": 120}
    reasons = set(models.Move.objects.values_list("reason", flat=True))
    assert reasons == {models.MoveReason.LATE}


def test_queue_that_comes_to_the_target_in_a_running_minute_starts_there_in_the_next():
    a, b = (
        webhook_queue("a", rpm=60),
        make_queue("b", rpm=60, handler="webhook", webhook_url="https://other.example"),
    )
    budget(60)
    place(a, {MINUTE: range(1, 61)}, at=BEFORE)
    place(b, {MINUTE: range(61, 121)}, at=BEFORE)
    service = Service()
    worker = service.worker(MINUTE)
    while worker.clock.elapsed() < 20:
        service.time.sleep(max(0.01, worker.tick() - worker.clock.elapsed()))
    operations.update(b, {"webhook_url": URL}, by=BY, now=service.time.now)
    changed_at = service.time.seconds
    while (due := worker.tick()) is not None:
        service.time.sleep(max(0.01, due - worker.clock.elapsed()))
    # What was claimed before still goes to the former address.
    assert [at for at, name in service.starts if name == "b" and at > changed_at + 1.5] == []
    assert sum(name == "a" for _, name in service.starts) == 60
    while overdue.run(service.time.now):
        continue
    late = models.Bucket.objects.filter(window__queue=b, waiting_count__gt=0)
    assert sum(bucket.waiting_count for bucket in late) == 60 - sum(name == "b" for _, name in service.starts)


def test_budget_that_is_set_in_a_running_minute_lets_it_end_as_it_was_planned():
    a = webhook_queue("a", rpm=60)
    place(a, {MINUTE: range(1, 61)}, at=BEFORE)
    service = Service()
    worker = service.worker(MINUTE)
    while worker.clock.elapsed() < 20:
        service.time.sleep(max(0.01, worker.tick() - worker.clock.elapsed()))
    targets.create(origin=ORIGIN, fields={"rpm": 30}, by=BY, now=service.time.now)
    while (due := worker.tick()) is not None:
        service.time.sleep(max(0.01, due - worker.clock.elapsed()))
    assert counted() == {"succeeded": 60}


def test_brake_and_pause_of_one_queue_leave_the_others_their_slots():
    a, b = webhook_queue("a", rpm=60), webhook_queue("b", rpm=60)
    budget(60)
    place(a, {MINUTE: range(1, 31)}, at=BEFORE)
    place(b, {MINUTE: range(31, 61)}, at=BEFORE)
    operations.brake(a, 10, by=BY, at=BEFORE)
    service = Service()
    service.serve(1)
    assert sum(name == "a" for _, name in service.starts) == 10
    assert sum(name == "b" for _, name in service.starts) == 30
