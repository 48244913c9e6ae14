"""A task that is done is told to its callback_url, once; a test request goes out in a slot."""

import ipaddress
import json
from datetime import timedelta

import pytest
from django_q.models import OrmQ
from standardwebhooks import Webhook as Verifier

from operators.actor import Actor
from scheduling import callbacks, claims, models, trial
from scheduling.errors import NoFreeSlot
from scheduling.retry import Verdict

from .placed import make_queue, place
from .store.test_claims import BEFORE, MINUTE, SimulatedSeat
from .target import Target, status

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AFTER = MINUTE + timedelta(minutes=2)


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


def done_task(target: Target) -> models.Task:
    queue = make_queue(rpm=60, callback_url=target.url, webhook_secret=SECRET)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    seat = SimulatedSeat(queue, immediate=True)
    for second in (0, 20, 40):
        seat.turn(second)
    task.refresh_from_db()
    return task


def test_a_done_task_is_called_back_once_and_the_call_verifies():
    with Target() as target:
        task = done_task(target)
        [job] = OrmQ.objects.filter(key="quarterdeck")
        assert (job.task["func"], job.task["args"]) == ("scheduling.jobs.call_back", (task.pk,))
        assert callbacks.call_back(task.pk, 1, lambda: AFTER)
        assert not callbacks.call_back(task.pk, 1, lambda: AFTER)
    [seen] = target.seen
    said = Verifier(SECRET).verify(seen.body, seen.headers)
    assert said["task_id"] == task.pk
    assert said["state"] == "done"
    assert said["counts"]["succeeded"] == 3
    task.refresh_from_db()
    assert task.called_back_at == AFTER


def test_a_call_that_fails_is_queued_again_up_to_max_attempts():
    with Target(lambda seen: status(503)) as target:
        task = done_task(target)
        OrmQ.objects.all().delete()
        for attempt in range(1, 7):
            assert not callbacks.call_back(task.pk, attempt, lambda: AFTER)
    jobs = OrmQ.objects.order_by("pk")
    assert [job.task["args"] for job in jobs] == [(task.pk, attempt) for attempt in range(2, 7)]
    waits = [(job.lock - AFTER).total_seconds() // 60 for job in jobs]
    assert waits == [1, 2, 4, 8, 16]


def send_one(queue, at):
    clock = [at]

    def sleep(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)

    return trial.send_one(queue, by=Actor.command_line(), now=lambda: clock[0], sleep=sleep)


def test_a_test_request_takes_a_free_slot_and_shows_what_came():
    with Target(lambda seen: status(418, b"short and stout")) as target:
        queue = make_queue(rpm=60, handler="webhook", webhook_url=target.url)
        place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
        # Every second slot is planned; the first free one after second 10.2 is that of second 11.
        shown = send_one(queue, MINUTE + timedelta(seconds=10.2))
    assert shown.started_at == MINUTE + timedelta(seconds=11)
    assert (shown.outcome.verdict, shown.outcome.status) == (Verdict.FAILED, 418)
    assert json.loads(target.seen[0].body)["task_name"] == "a test request"
    bucket = models.Bucket.objects.get(pk=SimulatedSeat(queue).bucket_id)
    slot = claims.plan_of(bucket).free_slot(bucket.cursor - 1)
    assert slot == 11
    assert models.Activity.objects.get().verb == "tested"


def test_a_full_minute_makes_it_wait_for_the_next_one_and_two_refuse_it():
    with Target() as target:
        queue = make_queue(rpm=60, handler="webhook", webhook_url=target.url)
        place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
        shown = send_one(queue, MINUTE + timedelta(seconds=10.2))
        assert shown.started_at == MINUTE + timedelta(minutes=1)
        place(queue, {MINUTE + timedelta(minutes=n): range(100 * n, 100 * n + 60) for n in (5, 6)}, at=BEFORE)
        with pytest.raises(NoFreeSlot) as refused:
            send_one(queue, MINUTE + timedelta(minutes=5, seconds=10.2))
    assert "12:22:00Z" in str(refused.value)
    assert len(target.seen) == 1
