"""A queue whose credentials can't be used sends nothing, uses up no attempt, and holds up no other queue."""

from datetime import timedelta

import pytest

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.dispatch import targets
from scheduling.handlers import factory
from scheduling.handlers.base import Outcome
from scheduling.reports import board
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

HOOK = "https://hook.test/in"


@pytest.fixture
def time():
    simulated = SimulatedTime(MINUTE - timedelta(seconds=3))
    yield simulated
    simulated.loop.close()


def test_queue_without_readable_secrets_waits_and_its_neighbours_send(time, settings):
    sealed = make_queue("sealed", rpm=60, handler="webhook", webhook_url=HOOK, webhook_secret="whsec_hush")
    other = make_queue("other", rpm=60, handler="webhook", webhook_url=HOOK)
    place(sealed, {MINUTE: range(1, 21)}, at=BEFORE)
    place(other, {MINUTE: range(101, 121)}, at=BEFORE)
    settings.SECRET_KEY = "the key of another installation"
    sent = SimulatedHandler()

    def make_handler(queue: models.Queue):
        return sent if queue.pk == other.pk else factory.make_handler(queue)

    time.tick_to_the_end(time.worker(MINUTE, make_handler=make_handler))

    assert sorted(request.user_id for request in sent.requests) == list(range(101, 121))
    assert counted() == {"succeeded": 20, "waiting": 20}
    assert set(models.Assignment.objects.values_list("attempts", flat=True)) == {0, 1}
    assert not models.Attempt.objects.exists()
    assert not models.Target.objects.exists()
    check_counters()
    sealed.refresh_from_db()
    assert sealed.block_reason == (
        "this host's keys don't decrypt webhook_secret: enter them again, or add the key"
    )
    # It was tried twice in that minute, and will be once more.
    assert MINUTE + timedelta(seconds=60) <= sealed.blocked_until <= MINUTE + timedelta(seconds=91)
    at = MINUTE + timedelta(seconds=58)
    [shown] = board.snapshot(at=at).board().targets
    assert (shown.origin, shown.queues, shown.reason) == ("queue sealed", ("sealed",), sealed.block_reason)
    assert targets.first_minute(sealed, at) > sealed.blocked_until


def test_blocked_queue_continues_once_its_credentials_can_be_used(time):
    queue = make_queue(rpm=60, handler="webhook", webhook_url=HOOK)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    failed = Outcome(Verdict.RETRY, error="no token", started=False, block_seconds=20.0)
    handler = SimulatedHandler(
        lambda request: failed if time.seconds < 20 else Outcome(Verdict.SUCCEEDED, status=200)
    )
    time.tick_to_the_end(time.worker(MINUTE, make_handler=lambda queue: handler))
    refused = [request for request in handler.requests if request.attempt == 1][:-30]
    assert len(refused) <= 3, "what was claimed when the queue was blocked"
    assert counted() == {"succeeded": 30}
    assert set(models.Assignment.objects.values_list("attempts", flat=True)) == {1}
    check_counters()
