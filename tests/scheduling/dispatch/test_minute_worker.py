"""A minute worker on simulated time: whole minutes in milliseconds."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django_q.models import OrmQ

from scheduling import models
from scheduling.core import clock, keys, retry
from scheduling.core.retry import Verdict
from scheduling.dispatch import bucket_slots, claims, minute_worker
from scheduling.dispatch.messages import Retry
from scheduling.handlers.base import Outcome
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

NUMBER = clock.minute_number(MINUTE)
HOOK = "https://hook.test/"


@pytest.fixture
def time():
    """Simulated time that begins four seconds before the minute."""
    return SimulatedTime(MINUTE - timedelta(seconds=4))


def started_after(queue: models.Queue) -> list[int]:
    rows = models.Assignment.objects.filter(task__queue=queue, started_after_ms__isnull=False)
    return sorted(rows.values_list("started_after_ms", flat=True))


def test_webhook_minute_starts_at_its_slots_and_is_recorded(time):
    queue, handler = make_queue(rpm=60, handler="webhook", webhook_url=HOOK), SimulatedHandler()
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    time.worker(MINUTE, make_handler=lambda queue: handler).serve()
    assert counted() == {"succeeded": 20}
    assert Counter(request.user_id for request in handler.requests) == Counter(range(1, 21))
    assert all(abs(ms - slot * 3000) <= 20 for slot, ms in enumerate(started_after(queue)))
    assert handler.is_prepared
    check_counters()


def test_record_minute_is_recorded_at_its_slots(time):
    queue = make_queue(rpm=120)
    place(queue, {MINUTE: range(1, 121)}, at=BEFORE)
    time.worker(MINUTE).serve()
    first, *others = started_after(queue)
    assert first == minute_worker.FIRST_TICK_SECONDS * 1000, "not before the minute begins"
    assert others == [slot * 500 for slot in range(1, 120)]
    assert models.Task.objects.get().finished_at is not None


def test_two_workers_share_a_minute_and_send_each_id_once(time):
    queue, handler = make_queue(rpm=600, handler="webhook", webhook_url=HOOK), SimulatedHandler()
    place(queue, {MINUTE: range(1, 51)}, at=BEFORE)
    time.sleep(40)
    # Left over by a worker that died, all of them.
    models.Bucket.objects.filter(waiting_count=50).update(
        sealed_at=MINUTE, sealed_count=50, slot_count=600, planned_cursor=50, leftover_count=50
    )
    workers = [time.worker(MINUTE, owner=n, make_handler=lambda queue: handler) for n in (1, 2)]
    due = {worker: worker.tick() for worker in workers}
    while due:
        worker = min(due, key=lambda worker: due[worker])
        time.sleep(max(0.0, due[worker] - worker.clock.elapsed()))
        following = worker.tick()
        due = {item: at for item, at in due.items() if item is not worker}
        due |= {} if following is None else {worker: following}
    assert Counter(request.user_id for request in handler.requests) == Counter(range(1, 51))
    assert counted() == {"succeeded": 50}
    assert not models.Batch.objects.exists()


def test_late_worker_uses_the_free_slots_that_remain(time):
    queue = make_queue(rpm=6_000)
    place(queue, {MINUTE: [1, 2, 3]}, at=MINUTE)
    time.sleep(34)
    # The slots that passed are not used; the free ones of the next second are enough for three.
    time.worker(MINUTE).serve()
    assert counted() == {"succeeded": 3}
    assert time.seconds < 46, "it ends once nothing waits"


def test_reset_connection_takes_another_slot_and_counts_as_an_attempt(time):
    reset = Outcome(Verdict.RETRY, error="the connection was closed", retry_in_this_minute=True)
    handler = SimulatedHandler(
        lambda request: (
            reset if request.attempt == 1 and request.user_id == 3 else Outcome(Verdict.SUCCEEDED, 200)
        )
    )
    queue = make_queue(rpm=60, handler="webhook", webhook_url=HOOK)
    place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    time.worker(MINUTE, make_handler=lambda queue: handler).serve()
    assert counted() == {"succeeded": 5}
    tries = Counter(request.user_id for request in handler.requests)
    assert tries == {1: 1, 2: 1, 3: 2, 4: 1, 5: 1}
    assert len({request.idempotency_key for request in handler.requests if request.user_id == 3}) == 1
    assert dict(models.Assignment.objects.values_list("user_id", "attempts")) == tries
    assert models.Attempt.objects.get().user_id == 3
    assert models.Bucket.objects.get(started_count__gt=0).started_count == 6


def test_reset_connection_does_not_exceed_a_quota(time):
    reset = Outcome(Verdict.RETRY, error="the connection was closed", retry_in_this_minute=True)
    handler = SimulatedHandler(
        lambda request: (
            reset if request.attempt == 1 and request.user_id == 3 else Outcome(Verdict.SUCCEEDED, 200)
        )
    )
    quotas = [{"limit": 5, "per": "hour"}]
    queue = make_queue(rpm=60, handler="webhook", webhook_url=HOOK, quotas=quotas)
    place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    time.worker(MINUTE, make_handler=lambda queue: handler).serve()
    assert counted() == {"succeeded": 4, "waiting": 1}
    assert len(handler.requests) == 5
    waiting = models.Assignment.objects.with_status(models.Status.WAITING).get()
    assert (waiting.user_id, waiting.attempts) == (3, 1)
    assert waiting.minute_at == MINUTE.replace(hour=13, minute=0)
    check_counters()


def test_broken_handler_stops_no_other_queue(time):
    good = SimulatedHandler()

    def make_handler(queue):
        if queue.name == "bad":
            raise ValueError("no such host")
        return good

    for name in ("bad", "good"):
        queue = make_queue(name, rpm=60, handler="webhook", webhook_url=HOOK)
        place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    time.worker(MINUTE, make_handler=make_handler).serve()
    rows = models.Assignment.objects.values_list("task__queue__name", "status").distinct()
    assert dict(rows) == {"bad": models.Status.FAILED, "good": models.Status.SUCCEEDED}


@pytest.mark.parametrize("status", [302, 401, 403, 407])
def test_authentication_error_opens_the_breaker_and_fails_no_id(time, status):
    refused = Outcome(retry.verdict(status, None), status=status, error=f"answered {status}")
    handler = SimulatedHandler(lambda request: refused)
    queue = make_queue(rpm=60, handler="webhook", webhook_url=HOOK, breaker_threshold=3)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    time.sleep(10)
    time.worker(MINUTE, make_handler=lambda queue: handler).serve()
    assert models.Target.objects.get().opened_at is not None
    # Three open it; after half a minute there is a probe.
    assert 3 <= len(handler.requests) <= 5
    assert counted() == {"waiting": 30}
    check_counters()


def test_past_minute_is_left_to_the_overdue_job(time):
    place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    time.sleep(74)
    minute_worker.serve_minute(NUMBER, 0, time.clocks())
    assert counted() == {"waiting": 1}
    assert [job.task["func"] for job in OrmQ.objects.all()] == ["scheduling.jobs.place_late"]


def test_paused_queue_is_not_sealed_and_starts_nothing(time):
    place(make_queue(rpm=6_000), {MINUTE: [1, 2, 3]}, at=BEFORE)
    models.Queue.objects.update(paused_at=BEFORE)
    time.worker(MINUTE).serve()
    assert counted() == {"waiting": 3}
    assert models.Bucket.objects.filter(sealed_at__isnull=False).count() == 0


@pytest.mark.parametrize("seconds", [2.5, -2.5, 3_600])
def test_host_with_a_wrong_clock_leaves_the_minute_to_another(time, seconds):
    place(make_queue(rpm=6_000), {MINUTE: [1, 2, 3]}, at=BEFORE)
    minute_worker.serve_minute(NUMBER, 0, time.clocks(timedelta(seconds=seconds)))
    assert counted() == {"waiting": 3}
    assert [job.task["func"] for job in OrmQ.objects.all()] == ["scheduling.jobs.seat"]
    # To `wake` and to health it is a minute that nobody serves.
    assert not models.Minute.objects.filter(seen_at__isnull=False).exists()


@pytest.mark.parametrize(("round_trip", "takes"), [(0.05, True), (0.07, False)])
def test_host_far_from_the_database_leaves_the_minute_to_another(time, round_trip, takes):
    place(make_queue(rpm=6_000), {MINUTE: [1, 2, 3]}, at=BEFORE)

    def now():
        time.sleep(round_trip / 2)
        at = time.now()
        time.sleep(round_trip / 2)
        return at

    minute_worker.serve_minute(NUMBER, 0, replace(time.clocks(), now=now))
    assert counted() == ({"succeeded": 3} if takes else {"waiting": 3})
    assert [job.task["func"] for job in OrmQ.objects.all()].count("scheduling.jobs.seat") == (not takes)


@pytest.mark.parametrize("seconds", [1.9, -1.9])
def test_host_clock_off_by_less_than_two_seconds_keeps_the_slots(time, seconds):
    queue, handler = make_queue(rpm=60, handler="webhook", webhook_url=HOOK), SimulatedHandler()
    place(queue, {MINUTE: range(1, 4)}, at=BEFORE)
    time.worker(MINUTE, make_handler=lambda queue: handler, host_offset=timedelta(seconds=seconds)).serve()
    assert started_after(queue) == pytest.approx([0, 20_000, 40_000], abs=20)


def test_minute_is_served_to_its_end_despite_a_clock_jump(time):
    queue, handler = make_queue(rpm=60, handler="webhook", webhook_url=HOOK), SimulatedHandler()
    place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
    worker = time.worker(MINUTE, make_handler=lambda queue: handler)
    while (due := worker.tick()) is not None:
        time.sleep(max(0.0, due - worker.clock.elapsed()))
        time.database_offset = timedelta(hours=1) if 20 <= worker.clock.elapsed() < 30 else timedelta()
    assert started_after(queue) == pytest.approx([slot * 1000 for slot in range(60)], abs=20)
    assert Counter(request.user_id for request in handler.requests) == Counter(range(1, 61))


def test_bad_bucket_stops_no_other(time, monkeypatch):
    bad, good = make_queue("bad", rpm=6_000), make_queue("good", rpm=6_000)
    for queue in (bad, good):
        place(queue, {MINUTE: [1, 2]}, at=BEFORE)
    real = bucket_slots.plan_of

    def plan_of(bucket):
        if keys.queue_of_bucket(bucket.pk) == bad.pk:
            raise RuntimeError("a bad row")
        return real(bucket)

    monkeypatch.setattr(bucket_slots, "plan_of", plan_of)
    worker = time.worker(MINUTE)
    worker.serve()
    assert [keys.queue_of_bucket(bucket_id) for bucket_id in worker.view.excluded_until] == [bad.pk]
    rows = models.Assignment.objects.filter(task__queue=good)
    assert set(rows.values_list("status", flat=True)) == {models.Status.SUCCEEDED}


def test_error_after_the_commit_does_not_repeat_the_tick(time, monkeypatch):
    place(make_queue(rpm=6_000, handler="webhook", webhook_url=HOOK), {MINUTE: [1, 2, 3]}, at=BEFORE)

    def broken(*_):
        raise RuntimeError("the loop is closed")

    monkeypatch.setattr(minute_worker.MinuteWorker, "_send", broken)
    worker = time.worker(MINUTE)
    for _ in range(5):
        worker.tick()
        if connection.vendor == "postgresql":
            # There what is done once a second has a tick of its own.
            worker.tick()
        time.sleep(1)
    # Nobody renews what it claimed: it is recovered once its lease has ended.
    assert not worker.view.excluded_until
    assert counted() == {"in_flight": 1, "waiting": 2}
    assert not worker.work.batches


def test_slow_retries_delay_neither_claims_nor_other_queues(time, monkeypatch):
    monkeypatch.setattr(minute_worker, "RETRIES_SECONDS", 0)
    worker = time.worker(MINUTE)
    for n in range(3):
        queue = make_queue(f"q{n}", handler="webhook", webhook_url=HOOK, rpm=60)
        place(queue, {MINUTE: [1]}, at=BEFORE)
        [claim] = SimulatedWorker(queue, worker.owner).tick(0).claims
        attempt = models.Attempt(
            task_id=claim.task_id, user_id=1, number=1, bucket_id=claim.bucket_id, started_at=MINUTE
        )
        worker.work.retries.append(Retry(claim, 0, attempt, MINUTE + clock.MINUTE))
        worker.work.batches[claim.batch_id] = 1
    bad = worker.work.retries[0].claim
    models.Assignment.objects.filter(pk=bad.key).update(status=models.Status.WAITING)
    for remaining in (2, 1, 0):
        worker._place_retries()
        assert len(worker.work.retries) == remaining
    assert list(models.Move.objects.values_list("reason", flat=True)) == ["retry"] * 2
    # Of the bad one's batch the other IDs may still get their results; in the end it is recovered.
    assert worker.work.open_batches == [bad.batch_id]


def test_locked_database_is_waited_for_by_the_worker(time, monkeypatch):
    place(make_queue(rpm=6_000), {MINUTE: [1, 2, 3]}, at=BEFORE)
    real, calls = claims.commit_tick, []

    def commit_tick(**arguments):
        calls.append(1)
        if len(calls) < 3:
            raise OperationalError("database is locked")
        return real(**arguments)

    monkeypatch.setattr(claims, "commit_tick", commit_tick)
    # The test's own transaction lives on the connection that a worker would open anew.
    monkeypatch.setattr(minute_worker.connection, "close", lambda: None)
    time.worker(MINUTE).serve()
    assert counted() == {"succeeded": 3}


# On PostgreSQL each second one would always be the one that claims.
@pytest.mark.parametrize("lost", range(2 if connection.vendor == "sqlite" else 3, 9))
def test_tick_with_a_lost_commit_response_is_recognized(time, monkeypatch, lost):
    handler = SimulatedHandler(seconds=0.2)
    queue = make_queue(rpm=600, handler="webhook", webhook_url=HOOK)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    models.Bucket.objects.filter(waiting_count=40).update(
        sealed_at=MINUTE, sealed_count=40, slot_count=600, planned_cursor=40, leftover_count=40
    )
    real, calls = claims.commit_tick, []

    def commit_tick(**arguments):
        committed = real(**arguments)
        calls.append(1)
        if len(calls) % lost == 0:
            raise OperationalError("the connection was reset")
        return committed

    monkeypatch.setattr(claims, "commit_tick", commit_tick)
    monkeypatch.setattr(minute_worker.connection, "close", lambda: None)
    time.worker(MINUTE, make_handler=lambda queue: handler).serve()
    assert counted() == {"succeeded": 40}
    assert Counter(request.user_id for request in handler.requests) == Counter(range(1, 41))
    assert not models.Attempt.objects.filter(unknown=True).exists()
    # Within its minute, and soon: nothing waits for a lease to end.
    assert max(started_after(queue)) < 15_000
    check_counters()


def test_retry_after_blocks_the_target_in_every_worker_at_once(time):
    """At rpm 600 there is a slot each 100 ms; the response to the third request asks to wait."""
    outcome_429 = Outcome(Verdict.RETRY, status=429, retry_after="7", error="answered 429")
    starts: list[float] = []

    class Handler(SimulatedHandler):
        async def handle(self, batch):
            starts.append(time.seconds - 4)
            return await super().handle(batch)

    done = Outcome(Verdict.SUCCEEDED, status=200)
    handler = Handler(lambda request: outcome_429 if len(starts) >= 3 else done, seconds=0.005)
    queue = make_queue(rpm=600, handler="webhook", webhook_url=HOOK)
    place(queue, {MINUTE: range(1, 601)}, at=BEFORE)
    workers = [time.worker(MINUTE, owner=n, make_handler=lambda queue: handler) for n in (1, 2)]
    due = {worker: worker.tick() for worker in workers}
    while time.seconds < 4 + 7:
        worker = min(due, key=lambda worker: due[worker])
        time.sleep(max(0.0, due[worker] - worker.clock.elapsed()))
        due[worker] = worker.tick()
    assert starts[:3] == pytest.approx([0.0, 0.1, 0.2], abs=0.05)
    assert len(starts) <= 4, "one may have been on the wire"
    assert all(at < starts[2] + 0.005 or at > starts[2] + 7 for at in starts)
    for worker in workers:
        worker.sender.stop()


def test_stopping_worker_hands_over_its_ids_at_once(time):
    queue, handler = make_queue(rpm=60, handler="webhook", webhook_url=HOOK), SimulatedHandler()
    place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
    stops = []
    worker = time.worker(MINUTE, make_handler=lambda queue: handler, is_stopping=lambda: bool(stops))
    while (due := worker.tick()) is not None:
        time.sleep(max(0.0, due - worker.clock.elapsed()))
        if worker.clock.elapsed() > 10:
            stops.append(worker.clock.elapsed())
    assert worker.clock.elapsed() < stops[0] + 1
    assert counted() == {"succeeded": len(handler.requests), "waiting": 60 - len(handler.requests)}
    assert [job.task["args"] for job in OrmQ.objects.all()] == [(NUMBER, 0)]
    worker.finish()
    time.worker(MINUTE, owner=2, make_handler=lambda queue: handler).serve()
    missing = 60 - counted()["succeeded"]
    assert missing <= 1


def test_wake_queues_one_worker_for_a_minute_without_one():
    place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    at = MINUTE + timedelta(seconds=10)
    assert minute_worker.wake(at=at)
    assert not minute_worker.wake(at=at + timedelta(seconds=1)), "its workers are on their way"
    models.Minute.objects.update(seen_at=at + timedelta(seconds=9))
    assert not minute_worker.wake(at=at + timedelta(seconds=10))
    assert minute_worker.wake(at=at + timedelta(seconds=10.3)), "it was missed after 1.2 s"
    assert not minute_worker.wake(at=at + timedelta(seconds=14)), "another one is on its way"
    assert minute_worker.wake(at=at + timedelta(seconds=15))
