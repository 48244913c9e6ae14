"""Requests start at their slots, or not at all."""

import asyncio
import sys
import time
from datetime import UTC, datetime

import pytest

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.dispatch.messages import Claim, ScheduledRequest
from scheduling.dispatch.sender import MinuteClock, Sender
from scheduling.handlers.base import Outcome, Request

TOLERANCE = 0.1


class Counting:
    """A handler that remembers its batches and takes its time."""

    def __init__(
        self, *, seconds: float = 0.0, together: float = 0.0, breaks: BaseException | None = None
    ) -> None:
        self.batch_seconds, self.seconds, self.breaks = together, seconds, breaks
        self.batches: list[list[int]] = []
        self.closed = False

    def prepare(self):
        self.prepared = True

    async def handle(self, batch):
        self.batches.append([request.user_id for request in batch])
        if self.breaks:
            raise self.breaks
        await asyncio.sleep(self.seconds)
        return [Outcome(Verdict.SUCCEEDED) for _ in batch]

    async def close(self):
        self.closed = True


@pytest.fixture
def start():
    """Start a sender with a handler: start(Counting())."""
    senders = []

    def start(handler, *, may_start_until: float = 60.0) -> Sender:
        sender = Sender(MinuteClock.of(time.time()), lambda queue: handler)
        sender.may_start_until = may_start_until
        sender.start()
        senders.append(sender)
        return sender

    yield start
    for sender in senders:
        sender.end()
        assert not sender.is_alive()


def due(user: int, offset: float, *, batch: int = 1, version: int = 1) -> ScheduledRequest:
    queue = models.Queue(pk=1, name="q", version=version)
    request = Request(user, 7, "a list", "q", datetime(2031, 3, 5, tzinfo=UTC), 1)
    return ScheduledRequest(Claim(batch, user, user, 7, 0, 0, user, offset, TOLERANCE), request, queue)


def came(sender: Sender, count: int) -> dict[int, float | None]:
    """User to when its request started, once so many have come."""
    found = []
    until = time.monotonic() + 5
    while len(found) < count and time.monotonic() < until:
        found += sender.take()
        time.sleep(0.005)
    assert sender.pending == 0
    return {item.scheduled.request.user_id: item.started for item in found}


def test_each_starts_at_its_slot_and_not_before(start):
    sender = start(Counting())
    sender.send([due(user, 0.1 + user * 0.05) for user in range(8)])
    for user, started in came(sender, 8).items():
        assert -0.002 <= started - (0.1 + user * 0.05) <= TOLERANCE


def test_a_slot_that_has_passed_is_not_met_later(start):
    sender = start(Counting())
    time.sleep(0.3)
    sender.send([due(1, 0.1), due(2, 0.5)])
    started = came(sender, 2)
    assert started[1] is None
    assert started[2] is not None
    assert sender.not_started == {"slot_passed": 1}


def test_nothing_starts_after_the_last_committed_turn_allows_it(start):
    sender = start(Counting(), may_start_until=0.2)
    sender.send([due(1, 0.1), due(2, 0.4)])
    started = came(sender, 2)
    assert started[1] is not None
    assert started[2] is None
    assert sender.not_started == {"turn_not_committed": 1}


def test_a_turn_that_comes_within_the_slot_still_lets_it_start(start):
    sender = start(Counting(), may_start_until=0.2)
    sender.send([due(1, 0.3)])
    time.sleep(0.34)
    sender.may_start_until = 1.0
    assert came(sender, 1)[1] == pytest.approx(0.36, abs=0.05)


def test_what_is_held_or_lost_does_not_start(start):
    sender = start(Counting())
    sender.held, sender.lost, sender.probes = frozenset({1}), {2}, {3, 4}
    sender.send([due(1, 0.1), due(3, 0.1, batch=3), due(4, 0.1, batch=2)])
    started = came(sender, 3)
    assert started[1] is None
    assert started[3] is not None, "a probe goes out all the same"
    assert started[4] is None


def test_no_more_than_the_connections_of_the_queue_are_under_way(start):
    handler = Counting(seconds=0.5)
    sender = start(handler)
    sender.most_connections = {1: 2}
    sender.send([due(user, 0.1 + user * 0.01) for user in range(5)])
    started = came(sender, 5)
    assert sorted(user for user, at in started.items() if at is not None) == [0, 1]
    assert sender.not_started == {"no_connection_free": 3}


def test_what_goes_together_starts_at_its_last_slot(start):
    handler = Counting(together=0.03)
    sender = start(handler)
    sender.send([due(user, 0.2 + user * 0.01) for user in range(6)])
    started = came(sender, 6)
    assert handler.batches == [[0, 1, 2, 3], [4, 5]]
    assert all(started[user] >= 0.2 + user * 0.01 - 0.002 for user in started)


def test_a_handler_that_breaks_gives_attempts_that_come_to_an_end(start):
    for error in (LookupError("no such thing"), SystemExit("no such thing")):
        sender = start(Counting(breaks=error))
        sender.send([due(1, 0.1), due(2, 0.2)])
        time.sleep(0.3)
        for item in sender.take():
            assert item.outcome.verdict == Verdict.RETRY
            assert item.outcome.error == f"{type(error).__name__}: no such thing"
        assert sender.pending == 0


def test_an_exit_that_anything_in_the_loop_asks_for_ends_nobody(start):
    sender = start(Counting())
    sender._loop.call_soon_threadsafe(sys.exit, 3)
    sender.send([due(1, 0.1)])
    assert came(sender, 1)[1] is not None


def test_what_was_claimed_after_an_edit_of_its_queue_goes_where_that_says():
    made = {version: Counting() for version in (1, 2)}
    sender = Sender(MinuteClock.of(time.time()), lambda queue: made[queue.version])
    sender.may_start_until = 60.0
    sender.start()
    sender.send([due(1, 0.05)])
    sender.send([due(2, 0.06, batch=2, version=2)])
    sender.send([due(3, 0.07, batch=3, version=2)])
    came(sender, 3)
    sender.end()
    assert (made[1].batches, made[2].batches) == ([[1]], [[2], [3]])
    assert made[1].closed
    assert made[2].closed


def test_the_end_closes_what_is_open(start):
    handler = Counting()
    sender = start(handler)
    sender.send([due(1, 0.05)])
    came(sender, 1)
    sender.end()
    assert handler.prepared
    assert handler.closed
