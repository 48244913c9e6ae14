"""The handler `python` with callables that are slow, hang, or raise anything."""

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from scheduling.core import exact_json
from scheduling.core.retry import Verdict
from scheduling.handlers.base import Request
from scheduling.handlers.python import Python

calls: list[int] = []
released = threading.Event()
together = threading.Barrier(50)


def hang(requests):
    calls.extend(request.user_id for request in requests)
    released.wait(600)


def return_once_all_are_there(requests):
    calls.extend(request.user_id for request in requests)
    together.wait(120)
    return [None] * len(requests)


def exit_for_odd_ids(requests):
    if any(request.user_id % 2 for request in requests):
        raise SystemExit(3)
    return [None for _ in requests]


def cancel(requests):
    raise asyncio.CancelledError


def raise_stop_iteration(requests):
    return next(iter(()))


def check_numbers(requests):
    """Succeed if the data are as Python's parser of JSON returns them."""
    expected = {"amount": 12.5, "list": [1, {"x": 0.1}], "text": "1.0"}
    return [request.data == expected and type(request.data["list"][0]) is int for request in requests]


@pytest.fixture(autouse=True)
def fresh(settings):
    names = (
        "hang",
        "return_once_all_are_there",
        "exit_for_odd_ids",
        "cancel",
        "raise_stop_iteration",
        "check_numbers",
    )
    settings.PYTHON_HANDLERS = [f"{__name__}.{name}" for name in names]
    calls.clear()
    released.clear()
    yield
    released.set()


def minute(path: str, *users: int, queue: str, threads: int, seconds: float, apart: float = 0.01):
    """Outcomes of requests that begin `apart` seconds after each other."""

    async def run():
        handler = Python(f"{__name__}.{path}", seconds, threads, queue)
        handler.prepare()
        waiting = []
        for user in users:
            request = Request(user, 7, "a list", queue, datetime(2026, 11, 25, 12, 17, tzinfo=UTC), 1)
            waiting.append(asyncio.ensure_future(handler.handle([request])))
            await asyncio.sleep(apart)
        outcomes = [outcome for [outcome] in await asyncio.gather(*waiting)]
        await handler.close()
        return outcomes

    return asyncio.run(run())


def test_data_have_the_numbers_of_python():
    data = exact_json.read('{"amount":12.50,"list":[1,{"x":0.1}],"text":"1.0"}')

    async def run():
        handler = Python(f"{__name__}.check_numbers", 1, 1, "numbers")
        at = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)
        [outcome] = await handler.handle([Request(7, 7, "a list", "numbers", at, 1, data=data)])
        await handler.close()
        return outcome

    assert asyncio.run(run()).verdict is Verdict.SUCCEEDED


def test_attempts_are_only_calls_that_were_made():
    # Like 600 a minute that take 10 s each with a time limit of 5 s, but thirty times as fast.
    outcomes = minute("hang", *range(1, 101), queue="slow", threads=20, seconds=0.2, apart=0.003)
    attempts = [outcome for outcome in outcomes if outcome.started]
    assert len(attempts) == len(calls) == 20
    assert {outcome.error for outcome in attempts} == {"the callable did not return within 0.2 s"}
    assert {outcome.error for outcome in outcomes if not outcome.started} == {
        "all 20 threads of the queue are busy"
    }


def test_queue_has_max_connections_threads_whatever_the_machine():
    outcomes = minute("return_once_all_are_there", *range(50), queue="wide", threads=50, seconds=150, apart=0)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED] * 50
    assert sorted(calls) == list(range(50))


def test_exceptions_of_any_kind_are_outcomes():
    exited = minute("exit_for_odd_ids", 1, 2, queue="exits", threads=3, seconds=60)
    assert [(outcome.verdict, outcome.error) for outcome in exited] == [
        (Verdict.RETRY, "SystemExit: 3"),
        (Verdict.SUCCEEDED, ""),
    ]
    for path, error in (("cancel", "CancelledError"), ("raise_stop_iteration", "StopIteration")):
        [outcome] = minute(path, 1, queue=path, threads=3, seconds=60)
        assert (outcome.verdict, outcome.started) == (Verdict.RETRY, True)
        assert outcome.error.startswith(error)


def test_hanging_call_occupies_its_thread_in_later_minutes():
    assert [outcome.started for outcome in minute("hang", 1, 2, queue="stuck", threads=3, seconds=0.05)] == [
        True
    ] * 2
    later = minute("hang", 3, 4, queue="stuck", threads=3, seconds=0.05)
    assert [outcome.started for outcome in later] == [True, False]
    assert calls == [1, 2, 3]
    assert minute("hang", 5, queue="another", threads=3, seconds=0.05)[0].started
