"""All three handlers meet the same contract."""

import asyncio
import ipaddress
from datetime import UTC, datetime

import pytest
from django.test import override_settings

from scheduling import models
from scheduling.core.errors import UnknownHandler
from scheduling.core.retry import Verdict
from scheduling.handlers import factory
from scheduling.handlers.base import Fail, Outcome, Request
from tests.scheduling.target import Target, status

KINDS = ("record", "webhook", "python")


def request(user_id: int, attempt: int = 1) -> Request:
    return Request(user_id, 7, "a list", "q", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), attempt)


# Of IDs 1, 2 and 3 the first succeeds, the second is retried and the third fails, in each handler.
def one_of_each(requests):
    def handle_one(item):
        if item.user_id % 3 == 2:
            return "busy"
        return Fail("gone") if item.user_id % 3 == 0 else None

    return [handle_one(item) for item in requests]


def raise_an_error(requests):
    raise RuntimeError("the library is out")


def return_nothing(requests):
    return []


@pytest.fixture
def handle():
    """Give IDs to a handler: handle("webhook", 1, 2, 3) returns its outcomes."""

    def answer(received):
        code, body = {1: (200, b""), 2: (503, b"busy"), 0: (410, b"gone")}[received.user_id % 3]
        return status(code, body)

    with Target(answer) as target:

        def handle(kind: str, *users: int, path: str = "one_of_each") -> list[Outcome]:
            queue = models.Queue(
                name="q", handler=kind, webhook_url=target.url, python_callable=f"{__name__}.{path}"
            )

            async def run():
                handler = factory.make_handler(queue)
                try:
                    return await handler.handle([request(user) for user in users])
                finally:
                    await handler.close()

            networks = [ipaddress.ip_network("127.0.0.0/8")]
            with override_settings(WEBHOOK_ALLOWED_NETWORKS=networks, PYTHON_HANDLERS=[f"{__name__}.{path}"]):
                return asyncio.run(run())

        yield handle


@pytest.mark.parametrize("kind", KINDS)
def test_handler_reports_success(handle, kind):
    [outcome] = handle(kind, 1)
    assert (outcome.verdict, outcome.started, outcome.error) == (Verdict.SUCCEEDED, True, "")


@pytest.mark.parametrize("kind", KINDS)
def test_handler_returns_an_outcome_for_each_id_in_order(handle, kind):
    outcomes = handle(kind, 1, 4, 7)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED] * 3
    assert handle(kind) == []


# `record` can't fail: its work is the row itself.
@pytest.mark.parametrize("kind", ["webhook", "python"])
def test_handler_tells_retries_from_failures_in_one_batch(handle, kind):
    succeeded, retried, failed = handle(kind, 1, 2, 3)
    assert (succeeded.verdict, retried.verdict, failed.verdict) == (
        Verdict.SUCCEEDED,
        Verdict.RETRY,
        Verdict.FAILED,
    )
    assert "busy" in retried.answer + retried.error
    assert "gone" in failed.answer + failed.error


@pytest.mark.parametrize("kind", KINDS)
def test_handler_takes_the_largest_id(handle, kind):
    largest = models.MAX_ID - models.MAX_ID % 3 + 1
    largest -= 3 if largest > models.MAX_ID else 0
    assert handle(kind, largest)[0].verdict == Verdict.SUCCEEDED


def test_callable_that_raises_has_its_whole_batch_retried(handle):
    outcomes = handle("python", 1, 2, path="raise_an_error")
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RETRY}
    assert outcomes[0].error == "RuntimeError: the library is out"


def test_callable_that_returns_too_few_results_fails_its_batch(handle):
    outcomes = handle("python", 1, 2, path="return_nothing")
    assert {outcome.verdict for outcome in outcomes} == {Verdict.FAILED}


def test_callable_outside_the_allow_list_is_not_called():
    queue = models.Queue(name="q", handler="python", python_callable="os.system")
    [outcome] = asyncio.run(factory.make_handler(queue).handle([request(1)]))
    assert outcome.verdict == Verdict.FAILED
    assert "PYTHON_HANDLERS" in outcome.error


def test_unknown_handler_is_an_error_and_never_counts_as_record():
    queue = models.Queue(name="q", handler="carrier_pigeon")
    with pytest.raises(UnknownHandler, match="'carrier_pigeon' of queue q is unknown"):
        factory.make_handler(queue)
