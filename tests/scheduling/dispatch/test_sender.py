"""Requests start at their slots, or not at all."""

import asyncio
import sys
import threading
from datetime import UTC, datetime

import pytest

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.dispatch.messages import Claim, ScheduledRequest
from scheduling.dispatch.minute_clock import Clocks, MinuteClock, host_time
from scheduling.dispatch.sender import Sender, SenderThread
from scheduling.handlers.base import Request
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime

MINUTE = datetime(2031, 3, 5, tzinfo=UTC)
TOLERANCE = 0.1


@pytest.fixture
def time():
    return SimulatedTime(MINUTE)


def sender_of(time: SimulatedTime, handler, *, may_start_until: float = 60.0) -> Sender:
    sender = time.sender(lambda queue: handler)(MinuteClock(MINUTE, time.clocks()))
    sender.may_start_until = may_start_until
    return sender


def due(user: int, offset: float, *, batch: int = 1, version: int = 1) -> ScheduledRequest:
    queue = models.Queue(pk=1, name="q", version=version)
    request = Request(user, 7, "a list", "q", MINUTE, 1)
    return ScheduledRequest(Claim(batch, user, user, 7, 0, 0, user, offset, TOLERANCE), request, queue)


def started(sender: Sender) -> dict[int, float | None]:
    """Return when the request of each user started."""
    result = {item.scheduled.request.user_id: item.started for item in sender.take()}
    assert sender.pending_count == 0
    return result


def test_request_starts_at_its_slot(time):
    sender = sender_of(time, SimulatedHandler())
    sender.send([due(user, 0.1 + user * 0.05) for user in range(8)])
    time.sleep(1)
    assert started(sender) == pytest.approx({user: 0.1 + user * 0.05 for user in range(8)})


def test_past_slot_is_not_used(time):
    sender = sender_of(time, SimulatedHandler())
    time.sleep(0.3)
    sender.send([due(1, 0.1), due(2, 0.5)])
    time.sleep(0.5)
    assert started(sender) == {1: None, 2: pytest.approx(0.5)}
    assert sender.not_started == {"slot_passed": 1}


def test_request_does_not_start_later_than_the_last_committed_tick_allows(time):
    sender = sender_of(time, SimulatedHandler(), may_start_until=0.2)
    sender.send([due(1, 0.1), due(2, 0.4)])
    time.sleep(1)
    assert started(sender) == {1: pytest.approx(0.1), 2: None}
    assert sender.not_started == {"tick_not_committed": 1}


def test_tick_committed_within_the_slot_still_starts_the_request(time):
    sender = sender_of(time, SimulatedHandler(), may_start_until=0.2)
    sender.send([due(1, 0.3)])
    time.sleep(0.34)
    sender.may_start_until = 1.0
    time.sleep(0.2)
    assert started(sender)[1] == pytest.approx(0.345, abs=0.006)


def test_blocked_and_lost_requests_do_not_start(time):
    sender = sender_of(time, SimulatedHandler())
    sender.blocked_queues, sender.lost_batches, sender.probes = frozenset({1}), {2}, {3, 4}
    sender.send([due(1, 0.1), due(3, 0.1, batch=3), due(4, 0.1, batch=2)])
    time.sleep(0.5)
    assert started(sender) == {1: None, 3: pytest.approx(0.1), 4: None}, "a probe is sent all the same"


def test_max_connections_limits_open_requests(time):
    sender = sender_of(time, SimulatedHandler(seconds=0.5))
    sender.most_connections = {1: 2}
    sender.send([due(user, 0.1 + user * 0.01) for user in range(5)])
    time.sleep(1)
    assert sorted(user for user, at in started(sender).items() if at is not None) == [0, 1]
    assert sender.not_started == {"no_connection_free": 3}


def test_group_starts_at_its_last_slot(time):
    handler = SimulatedHandler(batch_seconds=0.03)
    sender = sender_of(time, handler)
    sender.send([due(user, 0.2 + user * 0.01) for user in range(6)])
    time.sleep(1)
    assert handler.batches == [[0, 1, 2, 3], [4, 5]]
    assert list(started(sender).values()) == pytest.approx([0.23] * 4 + [0.25] * 2)


@pytest.mark.parametrize("error", [LookupError("no such thing"), SystemExit("no such thing")])
def test_handler_that_raises_results_in_retries(time, error):
    def broken(request):
        raise error

    sender = sender_of(time, SimulatedHandler(broken))
    sender.send([due(1, 0.1), due(2, 0.2)])
    time.sleep(0.5)
    for item in sender.take():
        assert item.outcome.verdict == Verdict.RETRY
        assert item.outcome.error == f"{type(error).__name__}: no such thing"
    assert sender.pending_count == 0


def test_handler_that_cannot_be_made_fails_its_ids_and_is_logged_once(time, caplog):
    def make(queue):
        raise ValueError("no handler is named warp")

    sender = time.sender(make)(MinuteClock(MINUTE, time.clocks()))
    sender.may_start_until = 60.0
    for user in range(5):
        sender.send([due(user, 0.1 + user * 0.05, batch=user)])
        time.sleep(0.1)
    results = sender.take()
    assert len(results) == 5
    assert {result.outcome.verdict for result in results} == {Verdict.FAILED}
    assert all("no handler is named warp" in result.outcome.error for result in results)
    assert sum("handler_not_made" in record.getMessage() for record in caplog.records) == 1


def test_ids_claimed_after_a_queue_edit_use_the_new_settings(time):
    made = {version: SimulatedHandler() for version in (1, 2)}
    sender = time.sender(lambda queue: made[queue.version])(MinuteClock(MINUTE, time.clocks()))
    sender.may_start_until = 60.0
    sender.send([due(1, 0.05)])
    sender.send([due(2, 0.06, batch=2, version=2)])
    sender.send([due(3, 0.07, batch=3, version=2)])
    time.sleep(1)
    sender.stop()
    assert (made[1].batches, made[2].batches) == ([[1]], [[2], [3]])
    assert made[1].is_closed
    assert made[2].is_closed


def test_stopping_the_sender_cancels_requests_and_closes_handlers(time):
    handler = SimulatedHandler(seconds=30)
    sender = sender_of(time, handler)
    sender.send([due(1, 0.05)])
    time.sleep(0.1)
    sender.stop()
    assert handler.is_closed
    assert sender.take() == []


def test_sender_thread_survives_an_exit_inside_its_loop():
    handler, answered = SimulatedHandler(seconds=0), threading.Event()

    async def handle(batch):
        asyncio.get_running_loop().call_soon(answered.set)
        return await SimulatedHandler.handle(handler, batch)

    handler.handle = handle
    sender = SenderThread(MinuteClock(host_time(), Clocks(host_time)), lambda queue: handler)
    sender.may_start_until = 60.0
    sender.start()
    sender.loop.call_soon_threadsafe(sys.exit, 3)
    sender.send([due(1, sender.clock.elapsed())])
    assert answered.wait(120)
    sender.stop()
    assert not sender.thread.is_alive()
    assert handler.is_closed
