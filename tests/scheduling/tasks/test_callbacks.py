"""The callback of a done task is called once; a test request is sent in a free slot."""

import ipaddress
import json
from datetime import timedelta

import pytest
from django_q.models import OrmQ
from standardwebhooks import Webhook as Verifier

from operators.actor import Actor
from scheduling import models
from scheduling.core.errors import NoFreeSlot
from scheduling.core.retry import Verdict
from scheduling.dispatch import bucket_slots, test_request
from scheduling.handlers import shown_request
from scheduling.tasks import callbacks, resend
from scheduling.upkeep import reconciliation
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AFTER = MINUTE + timedelta(minutes=2)


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


def done_task(target: Target) -> models.Task:
    queue = make_queue(rpm=60, callback_url=target.url, webhook_secret=SECRET)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    worker = SimulatedWorker(queue, immediate=True)
    for second in (0, 20, 40):
        worker.tick(second)
    task.refresh_from_db()
    return task


def call(task: models.Task, at=AFTER) -> bool:
    return callbacks.call_back(task.pk, lambda: at)


def lose_all_jobs() -> None:
    OrmQ.objects.all().delete()


def queued() -> list[tuple]:
    jobs = [job.task for job in OrmQ.objects.filter(key="quarterdeck").order_by("pk")]
    return [job["args"] for job in jobs if job["func"] == "scheduling.jobs.call_back"]


def test_callback_of_a_done_task_is_sent_once_and_verifies():
    with Target() as target:
        task = done_task(target)
        assert queued() == [(task.pk,)]
        assert call(task)
        assert not call(task)
    [request] = target.requests
    text = Verifier(SECRET).verify(request.body, request.headers)
    assert text["task_id"] == task.pk
    assert text["state"] == "done"
    assert text["counts"]["succeeded"] == 3
    task.refresh_from_db()
    assert task.called_back_at == AFTER


def test_failed_callback_is_retried_up_to_max_attempts():
    with Target(lambda request: status(503)) as target:
        task = done_task(target)
        at, waits = AFTER, []
        for attempt in range(1, 7):
            lose_all_jobs()
            assert not call(task, at)
            assert not call(task, at), "a job that comes twice calls once"
            assert len(target.requests) == attempt
            if attempt < 6:
                [job] = OrmQ.objects.all()
                waits.append((job.lock - at).total_seconds() // 60)
                at = job.lock
        assert not call(task, at + timedelta(days=8))
    assert waits == [1, 2, 4, 8, 16]
    assert len(target.requests) == 6
    assert len({request.headers["webhook-id"] for request in target.requests}) == 1


def test_abandoned_callback_is_logged():
    with Target(lambda request: status(410)) as target:
        task = done_task(target)
        assert not call(task)
        lose_all_jobs()
        reconciliation.requeue_lost_work(at=AFTER + timedelta(days=1))
    line = models.Activity.objects.get(verb="gave_up_calling_back")
    assert (line.object_id, line.count, line.after["status"]) == (task.pk, 1, 410)
    assert queued() == []


def test_callback_with_a_lost_job_is_resumed_by_the_sweep():
    with Target(lambda request: status(503)) as target:
        task = done_task(target)
        lose_all_jobs()
        reconciliation.requeue_lost_work(at=task.finished_at + timedelta(seconds=1))
        assert queued() == [], "its job may still come"
        reconciliation.requeue_lost_work(at=AFTER)
        reconciliation.requeue_lost_work(at=AFTER)
        assert queued() == [(task.pk,)]
        call(task)
        lose_all_jobs()
        reconciliation.requeue_lost_work(at=AFTER + timedelta(seconds=50))
        assert queued() == [], "it isn't due yet"
        reconciliation.requeue_lost_work(at=AFTER + timedelta(seconds=80))
        assert queued() == [(task.pk,)]


def test_callback_of_a_dead_worker_counts_as_an_attempt(monkeypatch):
    with Target() as target:
        task = done_task(target)
        models.Queue.objects.update(max_attempts=2)

        def die(*_):
            raise SystemExit

        with monkeypatch.context() as dying:
            dying.setattr(callbacks, "_call", die)
            for at in (AFTER, AFTER + callbacks.LEASE):
                with pytest.raises(SystemExit):
                    call(task, at)
        lose_all_jobs()
        assert not call(task, AFTER + callbacks.LEASE), "it is being called"
        later = AFTER + 3 * callbacks.LEASE
        reconciliation.requeue_lost_work(at=later)
        assert queued() == [(task.pk,)]
        call(task, later)
    assert target.requests == []
    assert models.Activity.objects.get(verb="gave_up_calling_back").count == 2


def test_task_without_a_callback_url_is_ignored_by_the_sweep():
    with Target() as target:
        task = done_task(target)
        models.Queue.objects.update(callback_url="")
        lose_all_jobs()
        reconciliation.requeue_lost_work(at=AFTER)
    task.refresh_from_db()
    assert task.no_callback
    assert queued() == []


def test_resent_task_is_called_back_again_with_another_key():
    with Target() as target:
        task = done_task(target)
        assert call(task)
        resend.resend(task, looked_at=AFTER, number=3, run="r", by=Actor.command_line(), now=lambda: AFTER)
        task.refresh_from_db()
        assert (task.finished_at, task.called_back_at) == (None, None)
        models.Task.objects.filter(pk=task.pk).update(finished_at=AFTER + timedelta(minutes=5))
        assert call(task, AFTER + timedelta(minutes=6))
    assert len({request.headers["webhook-id"] for request in target.requests}) == 2


def send_one(queue, at, *stalls: float):
    """Send a test request. stalls: how many seconds too long each of the first sleeps takes."""
    clock, longer = [at], list(stalls)

    def sleep(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds + (longer.pop(0) if longer else 0))

    return test_request.send_one(queue, by=Actor.command_line(), now=lambda: clock[0], sleep=sleep)


def test_test_request_takes_a_free_slot_and_shows_its_response():
    with Target(lambda request: status(418, b"short and stout")) as target:
        queue = make_queue(rpm=60, handler="webhook", webhook_url=target.url)
        place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
        # Every second slot is planned; the first free one after second 10.2 is that of second 11.
        shown = send_one(queue, MINUTE + timedelta(seconds=10.2))
        again = send_one(queue, MINUTE + timedelta(seconds=12.2), 2.5)
    assert shown.started_at == MINUTE + timedelta(seconds=11)
    # Its slot, 13, was missed by more than one slot, so it takes the next free slot.
    assert again.started_at == MINUTE + timedelta(seconds=17)
    assert (shown.outcome.verdict, shown.outcome.status) == (Verdict.FAILED, 418)
    assert json.loads(target.requests[0].body)["task_name"] == "a test request"
    bucket = models.Bucket.objects.get(pk=SimulatedWorker(queue).bucket_id)
    slot = bucket_slots.plan_of(bucket).free_slot(bucket.cursor - 1)
    assert slot == 17
    assert {line.verb for line in models.Activity.objects.all()} == {"tested"}


def test_test_request_is_shown_as_sent_with_header_values_masked():
    with Target() as target:
        queue = make_queue(
            rpm=60,
            handler="webhook",
            webhook_url=target.url,
            webhook_secret=SECRET,
            webhook_headers={"Authorization": "Bearer s3cret"},
        )
        first = send_one(queue, MINUTE + timedelta(seconds=10.2))
        second = send_one(queue, MINUTE + timedelta(seconds=20.2))
    request = target.requests[0]
    assert (first.sent.method, first.sent.url) == ("POST", target.url)
    assert first.sent.body.encode() == request.body
    assert request.headers["authorization"] == "Bearer s3cret"
    assert first.sent.headers["Authorization"] == shown_request.MASK
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature", "Content-Type", "User-Agent"):
        assert first.sent.headers[name] == request.headers[name.lower()]
    assert Verifier(SECRET).verify(first.sent.body, dict(first.sent.headers))["task_id"] == 0
    assert first.sent.headers["webhook-id"] != second.sent.headers["webhook-id"]


def test_test_request_waits_for_the_next_minute_or_is_refused():
    with Target() as target:
        queue = make_queue(rpm=60, handler="webhook", webhook_url=target.url)
        place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
        shown = send_one(queue, MINUTE + timedelta(seconds=10.2))
        assert shown.started_at == MINUTE + timedelta(minutes=1)
        place(queue, {MINUTE + timedelta(minutes=n): range(100 * n, 100 * n + 60) for n in (5, 6)}, at=BEFORE)
        with pytest.raises(NoFreeSlot) as refused:
            send_one(queue, MINUTE + timedelta(minutes=5, seconds=10.2))
    assert "12:22:00Z" in str(refused.value)
    assert len(target.requests) == 1
