"""Few calls lie between a minute's job and its statements, and between a slot's timer and its request."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType

import pytest
from django.db import connection

from scheduling.core.retry import Verdict
from scheduling.dispatch.block_signals import SIZE, BlockSignals
from scheduling.dispatch.minute_clock import Clocks, MinuteClock, host_time
from scheduling.dispatch.sender import Sender
from scheduling.handlers.base import Outcome
from scheduling.handlers.webhook import Webhook
from settings.place import BASE_DIR
from tests.scheduling.dispatch.test_sender import due
from tests.scheduling.handlers.test_webhook import LOOPBACK, SECRET
from tests.scheduling.placed import make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE
from tests.scheduling.target import Target

# `jobs.minute` and `serve_minute`: a test calls `MinuteWorker.serve` in their place.
BEFORE_SERVE = 2
# What isn't done in every tick: minutes are sealed, tasks finished, retries placed and queues read again.
RARE = {"MinuteView.refresh", "_Tick.seal", "finish_locked", "place_retries"}
ANSWERS = (
    Outcome(Verdict.SUCCEEDED, status=200),
    Outcome(Verdict.FAILED, status=404),
    Outcome(Verdict.RETRY, status=503),
)


def functions(frame: FrameType | None) -> Iterator[str]:
    """Yield the product's functions of a stack, the innermost first; not what Python makes of a comprehension.

    `store` counts once: its functions are the statements.
    """
    is_in_store = False
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(f"{BASE_DIR}/scheduling/") and not code.co_name.startswith("<"):
            if not is_in_store or "/store/" not in code.co_filename:
                yield code.co_qualname
            is_in_store = "/store/" in code.co_filename
        frame = frame.f_back


@pytest.mark.django_db
def test_statement_of_a_tick_is_at_most_eight_calls_from_the_job():
    paths = set()

    def note(execute, sql, params, many, context):
        paths.add((*functions(sys._getframe()),))
        return execute(sql, params, many, context)

    place(make_queue(rpm=60), {MINUTE: range(1, 21)}, at=BEFORE)
    hook = make_queue("hook", handler="webhook", webhook_url="https://hook.test/", max_attempts=2)
    place(hook, {MINUTE: range(21, 41)}, at=BEFORE)
    handler = SimulatedHandler(lambda request: ANSWERS[request.user_id % 3])
    time = SimulatedTime(MINUTE - timedelta(seconds=4))
    with connection.execute_wrapper(note):
        time.worker(MINUTE, make_handler=lambda queue: handler).serve()

    # A path of n functions is n - 1 calls.
    lengths = {path: len(path) + BEFORE_SERVE - 1 for path in paths}
    assert any("_Tick.claim" in path for path in paths)
    assert any("_Tick.record_results" in path for path in paths)
    assert [path for path, calls in lengths.items() if calls > 8 and not RARE & set(path)] == []
    assert max(lengths.values()) <= 14


def test_request_is_at_most_twelve_calls_from_the_timer_of_its_slot():
    paths = []

    def note(frame, event, function):
        is_of_socket = isinstance(getattr(function, "__self__", None), socket.socket)
        if event == "c_call" and is_of_socket and function.__name__ == "send":
            paths.append([*functions(frame)])

    loop = asyncio.new_event_loop()
    with Target() as target:
        clock = MinuteClock(host_time(), Clocks(host_time))
        sender = Sender(
            clock,
            lambda queue: Webhook(target.url, secret=SECRET, allowed=LOOPBACK),
            loop,
            BlockSignals(bytearray(SIZE), clock.elapsed),
        )
        sender.may_start_until = 60.0
        sender.send([due(1, sender.clock.elapsed())])

        async def all_is_sent():
            while not sender._results:
                await asyncio.sleep(0.01)

        sys.setprofile(note)
        loop.run_until_complete(all_is_sent())
        sys.setprofile(None)
        sender.stop()
    loop.close()
    assert [result.outcome.status for result in sender.take()] == [200]
    assert paths
    assert all(len(path) - 1 <= 12 for path in paths)
