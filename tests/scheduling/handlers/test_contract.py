"""The same questions to all three handlers."""

import asyncio
import ipaddress
from datetime import UTC, datetime

import pytest
from django.test import override_settings

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.handlers import make
from scheduling.handlers.base import Fail, Outcome, Request
from tests.scheduling.target import Target, status

KINDS = ("record", "webhook", "python")


def request(user_id: int, attempt: int = 1) -> Request:
    return Request(user_id, 7, "a list", "q", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), attempt)


# What users 1, 2 and 3 mean to the receiver, however it is reached.
def answer_like_a_receiver(requests):
    def one(item):
        if item.user_id % 3 == 2:
            return "busy"
        return Fail("gone") if item.user_id % 3 == 0 else None

    return [one(item) for item in requests]


def break_down(requests):
    raise RuntimeError("the library is out")


def answer_too_few(requests):
    return []


@pytest.fixture
def ask():
    """Ask a handler of a kind about requests: ask("webhook", 1, 2, 3) gives its outcomes."""

    def answer(seen):
        code, body = {1: (200, b""), 2: (503, b"busy"), 0: (410, b"gone")}[seen.user_id % 3]
        return status(code, body)

    with Target(answer) as target:

        def ask(kind: str, *users: int, path: str = "answer_like_a_receiver") -> list[Outcome]:
            queue = models.Queue(
                name="q", handler=kind, webhook_url=target.url, python_callable=f"{__name__}.{path}"
            )

            async def run():
                handler = make.handler(queue)
                try:
                    return await handler.handle([request(user) for user in users])
                finally:
                    await handler.close()

            networks = [ipaddress.ip_network("127.0.0.0/8")]
            with override_settings(WEBHOOK_ALLOWED_NETWORKS=networks, PYTHON_HANDLERS=[f"{__name__}.{path}"]):
                return asyncio.run(run())

        yield ask


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_id_succeeds(ask, kind):
    [outcome] = ask(kind, 1)
    assert (outcome.verdict, outcome.started, outcome.error) == (Verdict.SUCCEEDED, True, "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gets_an_outcome_for_each_id_in_its_order(ask, kind):
    outcomes = ask(kind, 1, 4, 7)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED] * 3
    assert ask(kind) == []


# `record` can't fail: its request is a row.
@pytest.mark.parametrize("kind", ["webhook", "python"])
def test_a_mixed_batch_names_what_is_tried_again_and_what_failed_for_good(ask, kind):
    done, again, failed = ask(kind, 1, 2, 3)
    assert (done.verdict, again.verdict, failed.verdict) == (
        Verdict.SUCCEEDED,
        Verdict.RETRY,
        Verdict.FAILED,
    )
    assert "busy" in again.answer + again.error
    assert "gone" in failed.answer + failed.error


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_id_survives(ask, kind):
    largest = models.MAX_ID - models.MAX_ID % 3 + 1
    largest -= 3 if largest > models.MAX_ID else 0
    assert ask(kind, largest)[0].verdict == Verdict.SUCCEEDED


def test_a_callable_that_raises_has_its_whole_batch_tried_again(ask):
    outcomes = ask("python", 1, 2, path="break_down")
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RETRY}
    assert outcomes[0].error == "RuntimeError: the library is out"


def test_a_callable_that_answers_too_few_fails_its_batch(ask):
    outcomes = ask("python", 1, 2, path="answer_too_few")
    assert {outcome.verdict for outcome in outcomes} == {Verdict.FAILED}


def test_a_callable_that_the_settings_do_not_name_is_not_called():
    queue = models.Queue(name="q", handler="python", python_callable="os.system")
    [outcome] = asyncio.run(make.handler(queue).handle([request(1)]))
    assert outcome.verdict == Verdict.FAILED
    assert "PYTHON_HANDLERS" in outcome.error
