"""One list on hold: nothing more of it starts, the others go on, and it continues by free places."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.tasks import holds
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
HOOK = {"handler": "webhook", "webhook_url": "https://hook.test/"}


def hold(task, at=BEFORE, reason=""):
    return holds.hold(task, reason, by=BY, now=lambda: at)


def sent_by(handler) -> dict[int, int]:
    sent: dict[int, int] = {}
    for request in handler.requests:
        sent[request.task_id] = sent.get(request.task_id, 0) + 1
    return sent


@pytest.mark.parametrize("fields", [{}, HOOK])
def test_hold_stops_one_list_only(fields):
    time, handler = SimulatedTime(MINUTE - timedelta(seconds=4)), SimulatedHandler()
    queue = make_queue(rpm=60, **fields)
    held = place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    other = place(queue, {MINUTE: range(11, 21)}, at=BEFORE)
    hold(held)

    time.worker(MINUTE, make_handler=lambda queue: handler).serve()

    rows = models.Assignment.objects.values_list("task_id", "status").distinct()
    assert dict(rows) == {held.pk: models.Status.WAITING, other.pk: models.Status.SUCCEEDED}
    assert not fields or sent_by(handler) == {other.pk: 10}
    check_counters()


def test_hold_in_the_middle_of_a_minute_keeps_back_what_was_claimed():
    time, handler = SimulatedTime(MINUTE - timedelta(seconds=4)), SimulatedHandler()
    task = place(make_queue(rpm=600, **HOOK), {MINUTE: range(1, 601)}, at=BEFORE)
    worker = time.worker(MINUTE, make_handler=lambda queue: handler)
    sent_at_hold, due = None, worker.tick()
    while due is not None:
        time.sleep(max(0.0, due - worker.clock.elapsed()))
        if sent_at_hold is None and time.seconds >= 20:
            hold(task, at=time.now())
            sent_at_hold = len(handler.requests)
        due = worker.tick()
    assert sent_at_hold == pytest.approx(161, abs=2)
    # Half a second's requests at most: the worker looks each 0.3 s.
    assert len(handler.requests) <= sent_at_hold + 5
    assert counted() == {"succeeded": len(handler.requests), "waiting": 600 - len(handler.requests)}
    assert list(proof.check(time.now)) == []
    check_counters()
