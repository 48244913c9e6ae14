"""Each event by its real cause: in its transaction, and nothing of it where that fails."""

from datetime import timedelta

import pytest
from django.db import transaction

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.handlers.base import Outcome
from scheduling.models import Event, EventType
from scheduling.tasks import cancellation, holds
from tests.scheduling.alerts.watched import BY, make_channel
from tests.scheduling.placed import make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker
from tests.scheduling.store.test_holds import fail

pytestmark = pytest.mark.django_db

EVENTS = [item for item in EventType.values if not item.startswith("alert.")]


@pytest.fixture(autouse=True)
def channel(db):
    return make_channel("webhook", "https://hook.test/", types=EVENTS)


def event_types() -> list[str]:
    return list(Event.objects.order_by("pk").values_list("type", flat=True))


def serve(queue) -> None:
    worker = SimulatedWorker(queue, immediate=True)
    for second in (0, 20, 40):
        worker.tick(second)


def test_done_task_is_an_event_once_with_its_counts():
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    serve(queue)
    [event] = Event.objects.all()
    assert event.type == EventType.TASK_DONE
    assert (event.data["task_id"], event.data["queue"], event.data["state"]) == (task.pk, "q", "done")
    assert event.data["counts"]["succeeded"] == 3
    task.refresh_from_db()
    assert event.data["finished_at"] == task.finished_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_done_task_by_a_minute_worker_is_an_event():
    queue = make_queue(rpm=60, handler="webhook", webhook_url="https://hook.test/")
    place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    time = SimulatedTime(MINUTE - timedelta(seconds=4))
    time.worker(MINUTE, make_handler=lambda queue: SimulatedHandler()).serve()
    assert event_types() == [EventType.TASK_DONE]


def test_done_task_that_no_channel_gets_leaves_no_event(channel):
    channel.delete()
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    serve(queue)
    assert models.Task.objects.get().finished_at is not None
    assert event_types() == []


def test_hold_by_a_person_is_an_event_with_the_reason():
    task = place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    holds.hold(task, "wrong prices", by=BY, now=lambda: MINUTE)
    [event] = Event.objects.all()
    assert (event.type, event.data["reason"]) == (EventType.TASK_ON_HOLD, "wrong prices")
    assert event.path == f"/dashboard/tasks/{task.pk}/"


def test_hold_by_an_error_budget_is_an_event():
    queue = make_queue(rpm=600, handler="webhook", webhook_url="https://hook.test/")
    task = place(queue, {MINUTE: range(1, 301)}, at=BEFORE, max_failed_percent=2, min_finished=10)
    fail(task, 5, succeed=10)
    [event] = Event.objects.all()
    assert event.type == EventType.TASK_ON_HOLD
    assert "have failed" in event.data["reason"]


def test_cancelled_task_is_an_event_once():
    task = place(make_queue(rpm=60), {MINUTE: [1, 2]}, at=BEFORE)
    for _ in range(2):
        cancellation.cancel(task, by=BY, now=lambda: BEFORE)
    [event] = Event.objects.all()
    assert event.type == EventType.TASK_CANCELLED
    assert (event.data["cancelled"], event.data["already_sent"], event.data["in_flight"]) == (2, 0, 0)


@pytest.mark.parametrize("asks", [False, True])
def test_blocked_target_is_an_event_once(asks):
    outcome = Outcome(Verdict.RETRY, status=503, error="answered 503", retry_after="600" if asks else None)
    queue = make_queue(rpm=60, handler="webhook", webhook_url="https://hook.test/", breaker_threshold=3)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    time = SimulatedTime(MINUTE - timedelta(seconds=4))
    time.worker(MINUTE, make_handler=lambda queue: SimulatedHandler(lambda request: outcome)).serve()
    [event] = Event.objects.all()
    assert event.type == EventType.TARGET_BLOCKED
    assert event.data["origin"] == "https://hook.test:443"
    assert ("asked for 600 s" if asks else "circuit breaker") in event.data["reason"]


def test_event_is_gone_with_the_transaction_that_caused_it():
    task = place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    with transaction.atomic():
        holds.hold(task, by=BY, now=lambda: MINUTE)
        transaction.set_rollback(True)
    assert event_types() == []
