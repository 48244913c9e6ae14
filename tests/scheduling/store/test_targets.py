"""Targets are blocked by a Retry-After or an open breaker; retries take places of their own."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from scheduling import models
from scheduling.core import clock, keys
from scheduling.core.retry import Verdict
from scheduling.dispatch import overdue, recovery, results, targets
from scheduling.dispatch.messages import RequestResult, ScheduledRequest
from scheduling.handlers import ssrf
from scheduling.handlers.base import Outcome, Request
from scheduling.models import Status
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place

from .test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

BUSY = Outcome(Verdict.RETRY, status=503, error="answered 503", answer="busy", duration_ms=12)
GONE = Outcome(Verdict.FAILED, status=410, error="answered 410")
MOVED = Outcome(Verdict.RETRY, status=308, error="answers 308 to x: put this address into the queue")
DONE = Outcome(Verdict.SUCCEEDED, status=200)


@pytest.fixture
def queue():
    return make_queue(rpm=60, handler="webhook", webhook_url="https://hook.test/in", max_attempts=3)


def answered(queue, claimed, outcome: Outcome | None, started: float | None = None) -> RequestResult:
    request = Request(claimed.user_id, claimed.task_id, "a list", queue.name, MINUTE, claimed.attempts + 1)
    started = claimed.offset if started is None and outcome is not None else started
    return RequestResult(ScheduledRequest(claimed, request, queue), outcome, started)


def keep(worker: SimulatedWorker, queue, arrivals: list[RequestResult], elapsed: float) -> None:
    """What a worker does with answers: as dispatch does, by the test's clock."""
    at = MINUTE + timedelta(seconds=elapsed)
    sorted_out = results.classify(arrivals, {queue.pk: queue}, minute=MINUTE, at=at)
    worker.tick(elapsed, results=sorted_out.results, claim=False)
    results.place_retries(queue.pk, sorted_out.retries, worker.owner, lambda: at)


def test_failed_id_takes_a_free_place_a_minute_later(queue):
    place(queue, {MINUTE: [1, 2]}, at=BEFORE)
    worker = SimulatedWorker(queue)
    claimed = worker.tick(0).claims
    keep(worker, queue, [answered(queue, claimed[0], BUSY)], 0.5)
    [move] = models.Move.objects.all()
    assert move.reason == "retry"
    row = models.Assignment.objects.get(user_id=claimed[0].user_id)
    assert (row.status, row.attempts, row.started_after_ms) == (Status.WAITING, 1, None)
    # Due 60 to 70 s after it failed: the first minute that begins after that.
    assert row.minute_at == MINUTE + 2 * clock.MINUTE
    [attempt] = models.Attempt.objects.all()
    assert (attempt.number, attempt.http_status, attempt.answer, attempt.duration_ms) == (1, 503, "busy", 12)
    assert models.Bucket.objects.get(pk=worker.bucket_id).started_count == 1
    check_counters()


def test_id_fails_after_max_attempts_with_its_last_answer(queue):
    place(queue, {MINUTE: [1]}, at=BEFORE)
    models.Assignment.objects.update(attempts=2)
    worker = SimulatedWorker(queue)
    keep(worker, queue, [answered(queue, worker.tick(0).claims[0], BUSY)], 0.5)
    assert counted() == {"failed": 1}
    assert models.Assignment.objects.get().attempts == 3
    assert models.Attempt.objects.get().answer == "busy"
    assert models.Task.objects.get().finished_at is not None
    check_counters()


def test_unstarted_request_uses_no_attempt(queue):
    place(queue, {MINUTE: [1]}, at=BEFORE)
    worker = SimulatedWorker(queue)
    keep(worker, queue, [answered(queue, worker.tick(0).claims[0], None)], 0.5)
    assert counted() == {"waiting": 1}
    assert models.Assignment.objects.get().attempts == 0
    assert not models.Attempt.objects.exists()
    check_counters()


def test_failed_id_of_a_cancelled_task_is_not_retried(queue):
    task = place(queue, {MINUTE: [1]}, at=BEFORE)
    worker = SimulatedWorker(queue)
    [claimed] = worker.tick(0).claims
    models.Task.objects.filter(pk=task.pk).update(cancelled_at=BEFORE)
    keep(worker, queue, [answered(queue, claimed, BUSY)], 0.5)
    assert counted() == {"failed": 1}


def test_answer_of_a_lost_batch_moves_nothing(queue):
    place(queue, {MINUTE: [1]}, at=BEFORE)
    worker = SimulatedWorker(queue)
    [claimed] = worker.tick(0).claims
    recovery.recover(lambda: MINUTE + timedelta(seconds=16))
    at = MINUTE + timedelta(seconds=17)
    sorted_out = results.classify([answered(queue, claimed, BUSY)], {queue.pk: queue}, minute=MINUTE, at=at)
    results.place_retries(queue.pk, sorted_out.retries, worker.owner, lambda: at)
    assert counted() == {"waiting": 1}
    assert not models.Move.objects.exists()
    check_counters()


# --- Holds and breakers ---


def look(view: targets.Targets, queues: list[models.Queue], *, at: datetime) -> None:
    view.look(queues, targets.in_trouble(at), at=at)


class BlockedTarget:
    """Targets as a worker sees them, and claims to answer for."""

    def __init__(self, queue, ids: int = 40) -> None:
        self.queue, self.targets = queue, targets.Targets()
        place(queue, {MINUTE: range(1, ids + 1)}, at=BEFORE)
        self.claimed = SimulatedWorker(queue).tick(0, at_most=ids).claims

    def answer(self, *answers: Outcome, started: float = 1.0, at: float = 2.0) -> None:
        arrivals = [answered(self.queue, self.claimed[0], item, started) for item in answers]
        now = MINUTE + timedelta(seconds=at)
        self.targets.record(arrivals, {self.queue.pk: self.queue}, minute=MINUTE, now=lambda: now)
        self.look(at)

    def look(self, at: float) -> bool:
        look(self.targets, [self.queue], at=MINUTE + timedelta(seconds=at))
        return self.queue.pk in self.targets.blocked

    def probe(self, at: float) -> bool:
        self.look(at)
        return self.targets.probe(self.queue, now=lambda: MINUTE + timedelta(seconds=at))


def test_retry_after_blocks_the_whole_target(queue):
    blocked = BlockedTarget(queue)
    twin = make_queue("twin", handler="webhook", webhook_url="https://hook.test:443/other")
    blocked.answer(Outcome(Verdict.RETRY, status=429, retry_after="20", error="answered 429"))
    for seconds, expected in ((2.0, True), (21.9, True), (22.1, False)):
        look(blocked.targets, [queue, twin], at=MINUTE + timedelta(seconds=seconds))
        assert blocked.targets.blocked == (frozenset({queue.pk, twin.pk}) if expected else frozenset())
    assert "20 s" in models.Target.objects.get().block_reason


def test_breaker_opens_after_consecutive_failures_only(queue):
    queue.breaker_threshold = 3
    blocked = BlockedTarget(queue)
    blocked.answer(BUSY, BUSY, DONE, BUSY, BUSY)
    assert not blocked.look(3)
    blocked.answer(BUSY)
    assert blocked.look(3)
    assert models.Target.objects.get().last_error == "answered 503"


@pytest.mark.parametrize(
    ("url", "outcome", "error"),
    [
        ("https://hook.test/", MOVED, MOVED.error),
        ("https://hook.test/{{id}}", MOVED, "answered 308"),
        ("https://hook.test/", BUSY._replace(error="/who of the response is ann@x"), "answered 503"),
        ("https://hook.test/", Outcome(Verdict.RETRY, error="no connection"), "no connection"),
        (
            "https://hook.test/",
            Outcome(Verdict.RETRY, status=200, error="/who of the response is ann@x, not null"),
            "answered 200, but not what success_when requires",
        ),
    ],
)
def test_error_of_a_target_contains_nothing_of_the_id(queue, url, outcome, error):
    queue.breaker_threshold, queue.webhook_url = 1, url
    blocked = BlockedTarget(queue)
    blocked.answer(outcome)
    assert models.Target.objects.get().last_error == error


def test_breaker_counts_redirects_but_not_failures_of_single_ids(queue):
    queue.breaker_threshold = 3
    blocked = BlockedTarget(queue)
    blocked.answer(GONE, GONE, GONE, GONE)
    assert not blocked.look(3)
    blocked.answer(MOVED, MOVED, MOVED)
    assert blocked.look(3)


def test_answer_counts_for_its_target_after_the_queue_is_edited(queue):
    queue.breaker_threshold = 2
    blocked = BlockedTarget(queue)
    arrivals = [answered(queue, blocked.claimed[0], MOVED, 1.0) for _ in range(3)]
    edited = models.Queue.objects.get(pk=queue.pk)
    edited.webhook_url, edited.breaker_threshold = "https://new.test/", 2
    look(blocked.targets, [edited], at=MINUTE)
    blocked.targets.record(
        arrivals, {queue.pk: edited}, minute=MINUTE, now=lambda: MINUTE + timedelta(seconds=2)
    )
    assert [target.origin for target in models.Target.objects.filter(opened_at__isnull=False)] == [
        "https://hook.test:443"
    ]
    look(blocked.targets, [edited], at=MINUTE + timedelta(seconds=3))
    assert not blocked.targets.blocked


def test_probe_is_sent_every_half_minute_and_its_success_closes_the_breaker(queue):
    queue.breaker_threshold = 1
    blocked = BlockedTarget(queue)
    blocked.answer(BUSY, at=2)
    assert not blocked.probe(31.9)
    others = targets.Targets()
    look(others, [queue], at=MINUTE + timedelta(seconds=32.1))
    assert blocked.probe(32.1)
    assert not others.probe(queue, now=lambda: MINUTE + timedelta(seconds=32.2))
    assert not blocked.probe(61)
    # An answer to a request from before the opening says how the target was.
    blocked.answer(DONE, started=1.5, at=40)
    assert blocked.look(40)
    blocked.answer(DONE, started=33, at=41)
    assert not blocked.look(41)


def test_targets_differ_by_scheme_host_and_port():
    same = {ssrf.origin_of(url) for url in ("https://Hook.test/a", "https://hook.test:443/b?x=1")}
    assert same == {"https://hook.test:443"}
    assert ssrf.origin_of("http://[2001:db8::1]:8080/") == "http://[2001:db8::1]:8080"
    assert Counter([ssrf.origin_of("http://a.test")]) == Counter(["http://a.test:80"])


# --- What is late while its target is blocked ---


def blocked_target(**fields) -> models.Target:
    return models.Target.objects.create(origin="https://hook.test:443", **fields)


def test_late_ids_of_a_blocked_target_move_once_to_minutes_after_the_block(queue):
    place(queue, {MINUTE: range(1, 41), MINUTE + clock.MINUTE: range(41, 61)}, at=BEFORE)
    until = MINUTE + timedelta(hours=1)
    blocked_target(blocked_until=until)
    for minutes in range(1, 6):
        overdue.run(lambda minutes=minutes: MINUTE + timedelta(minutes=minutes, seconds=5))
    assert Counter(models.Move.objects.values_list("user_id", flat=True)) == Counter(range(1, 61))
    assert min(row.minute_at for row in models.Assignment.objects.all()) == until + clock.MINUTE
    # "Late since" is the minute that an ID left.
    remaining = {
        keys.minute_of_bucket(b) for b in models.Move.objects.values_list("from_bucket_id", flat=True)
    }
    assert remaining == {MINUTE, MINUTE + clock.MINUTE}
    check_counters()


def test_retry_is_placed_after_the_retry_after_of_its_target(queue):
    place(queue, {MINUTE: [1]}, at=BEFORE)
    until = MINUTE + timedelta(minutes=30)
    blocked_target(blocked_until=until)
    worker = SimulatedWorker(queue)
    keep(worker, queue, [answered(queue, worker.tick(0).claims[0], BUSY)], 0.5)
    assert models.Assignment.objects.get().minute_at == until + clock.MINUTE


def test_open_breaker_lets_one_late_id_move_as_a_probe(queue):
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    target = blocked_target(opened_at=MINUTE)
    for minutes in (1, 2, 3):
        at = MINUTE + timedelta(minutes=minutes, seconds=5)
        assert overdue.wake(at=at) == (minutes == 1)
        overdue.run(lambda at=at: at)
        waiting = models.Bucket.objects.filter(waiting_count__gt=0).values_list("waiting_count", flat=True)
        assert sorted(waiting) == [1, 39]
        assert overdue.run(lambda at=at: at) == 0
    assert set(models.Move.objects.values_list("user_id", flat=True)) == {1}
    models.Target.objects.filter(pk=target.pk).update(opened_at=None)
    overdue.run(lambda: MINUTE + timedelta(minutes=10))
    assert not models.Bucket.objects.filter(pk=keys.bucket_at(queue.pk, MINUTE), waiting_count__gt=0).exists()
    check_counters()
