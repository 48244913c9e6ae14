"""A seat in a real minute of its own, as short as its work lets it be."""

import time
from collections import Counter
from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.db import OperationalError
from django_q.models import OrmQ

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.dispatch import bucket_slots, claims, minute_worker, results
from scheduling.jobqueue import minute_jobs
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db


def running_minute():
    """The minute that runs, with some seconds left at least: near its end the next one."""
    left = 60 - (store.now() - clock.minute_start(store.now())).total_seconds()
    if left < 12:
        time.sleep(left)
    return clock.minute_start(store.now())


def test_a_seat_that_comes_late_serves_what_can_still_be_met_and_ends_with_it():
    minute = running_minute()
    # 6,000 slots: those that passed are left, and the free ones of the next second are enough for three.
    queue = make_queue(rpm=6_000)
    place(queue, {minute: [1, 2, 3]}, at=minute)
    minute_worker.serve_minute(minute_jobs.minute_number(minute), 0, store.now)
    assert counted() == {"succeeded": 3}
    served = models.Minute.objects.filter(pk=minute_jobs.minute_number(minute))
    assert not served.exists(), "nobody had armed it"


def test_what_a_target_read_and_did_not_answer_takes_another_slot_of_its_minute_and_counts(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    minute = running_minute()
    with Target(lambda seen: None if seen.n == 1 else status(200)) as target:
        queue = make_queue(rpm=6_000, handler="webhook", webhook_url=target.url, max_connections=1)
        place(queue, {minute: range(1, 6)}, at=minute)
        # Left over by a seat that died, all of them: they take the free slots of the next second.
        models.Bucket.objects.filter(waiting_count=5).update(
            sealed_at=minute, sealed_count=5, slot_count=6_000, planned_cursor=5, leftover_count=5
        )
        minute_worker.serve_minute(minute_jobs.minute_number(minute), 0, store.now)
    assert counted() == {"succeeded": 5}
    tries = Counter(seen.user_id for seen in target.seen)
    [again] = [user_id for user_id, times in tries.items() if times == 2]
    assert len({seen.key for seen in target.seen if seen.user_id == again}) == 1
    rows = dict(models.Assignment.objects.values_list("user_id", "attempts"))
    assert rows == tries
    assert models.Attempt.objects.get().user_id == again
    assert models.Bucket.objects.get(started_count__gt=0).started_count == 6


def test_a_target_that_answers_no_utf_8_and_one_that_can_not_be_called_stop_nobody_else(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]

    async def latin(writer):
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9/\r\nContent-Length: 0\r\n\r\n")

    minute = running_minute()
    with Target(lambda seen: latin) as bad, Target() as good:
        addresses = {"latin": bad.url, "unreadable": "http://foo\u00adbar.test/", "good": good.url}
        for name, url in addresses.items():
            queue = make_queue(name, rpm=6_000, handler="webhook", webhook_url=url)
            place(queue, {minute: range(1, 6)}, at=minute)
        # Left over, all of them, so that they are due at once.
        models.Bucket.objects.filter(waiting_count=5).update(
            sealed_at=minute, sealed_count=5, slot_count=6_000, planned_cursor=5, leftover_count=5
        )
        minute_worker.serve_minute(minute_jobs.minute_number(minute), 0, store.now)
    found = dict(models.Queue.objects.values_list("name", "pk"))
    rows = models.Assignment.objects.values_list("task__queue_id", "status").distinct()
    assert dict(rows) == {
        found["latin"]: models.Status.FAILED,
        found["unreadable"]: models.Status.FAILED,
        found["good"]: models.Status.SUCCEEDED,
    }
    assert [len(bad.seen), len(good.seen)] == [5, 5]


def test_a_minute_that_is_over_is_left_to_what_is_late():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1]}, at=BEFORE)
    minute_worker.serve_minute(minute_jobs.minute_number(MINUTE), 0, lambda: MINUTE + timedelta(seconds=70))
    assert counted() == {"waiting": 1}
    assert [job.task["func"] for job in OrmQ.objects.all()] == ["scheduling.jobs.place_late"]


def test_a_paused_queue_is_not_sealed_and_starts_nothing():
    minute = running_minute()
    queue = make_queue(rpm=6_000)
    place(queue, {minute: [1, 2, 3]}, at=minute)
    models.Queue.objects.update(paused_at=minute)
    seat = minute_worker.MinuteWorker(minute_jobs.minute_number(minute), 0, store.now)
    for _ in range(3):
        seat._turn()
    assert counted() == {"waiting": 3}
    assert models.Bucket.objects.filter(sealed_at__isnull=False).count() == 0


def test_clocks_that_are_two_seconds_apart_send_nothing():
    minute = running_minute()
    place(make_queue(rpm=6_000), {minute: [1, 2, 3]}, at=minute)
    seat = minute_worker.MinuteWorker(
        minute_jobs.minute_number(minute), 0, lambda: store.now() + timedelta(seconds=2.5)
    )
    for _ in range(3):
        seat._turn()
    assert seat.clocks_apart
    assert counted() == {"waiting": 3}


def test_a_poisoned_bucket_stops_nobody_else(monkeypatch):
    minute = running_minute()
    bad, good = make_queue("bad", rpm=6_000), make_queue("good", rpm=6_000)
    # One each: its slot is the first, so it is due whenever in the minute this runs.
    place(bad, {minute: [1]}, at=minute)
    place(good, {minute: [3]}, at=minute)
    real = bucket_slots.plan_of

    def plan_of(bucket):
        if keys.queue_of_bucket(bucket.pk) == bad.pk:
            raise RuntimeError("a poisoned row")
        return real(bucket)

    monkeypatch.setattr(bucket_slots, "plan_of", plan_of)
    minute_worker.MinuteWorker(minute_jobs.minute_number(minute), 0, store.now)._turn()
    seat = minute_worker.MinuteWorker(minute_jobs.minute_number(minute), 0, store.now)
    for _ in range(2):
        seat._turn()
    assert seat.poisoned
    rows = models.Assignment.objects.filter(task__queue=good)
    assert set(rows.values_list("status", flat=True)) == {models.Status.SUCCEEDED}


def test_what_goes_wrong_once_a_turn_is_committed_does_not_do_it_again(monkeypatch):
    minute = running_minute()
    queue = make_queue(rpm=6_000, handler="webhook", webhook_url="http://127.0.0.1:9/")
    place(queue, {minute: [1, 2, 3]}, at=minute)
    models.Bucket.objects.filter(waiting_count=3).update(
        sealed_at=minute, sealed_count=3, slot_count=6_000, planned_cursor=3, leftover_count=3
    )

    def broken(*_):
        raise RuntimeError("the loop is closed")

    monkeypatch.setattr(minute_worker.MinuteWorker, "_send", broken)
    seat = minute_worker.MinuteWorker(minute_jobs.minute_number(minute), 0, store.now)
    for _ in range(3):
        seat._turn()
        time.sleep(0.02)
    assert not seat.poisoned
    # Nobody renews what it claimed: it is taken up once its lease is over.
    assert counted() == {"in_flight": 3}
    assert not seat.batches


def test_what_is_tried_again_keeps_no_seat_from_what_is_due_and_one_queue_no_other(monkeypatch):
    monkeypatch.setattr(minute_worker, "RETRIES_SECONDS", 0)
    seat, due = (
        minute_worker.MinuteWorker(minute_jobs.minute_number(MINUTE), 0, lambda: MINUTE),
        MINUTE + clock.MINUTE,
    )
    for n in range(3):
        queue = make_queue(f"q{n}", handler="webhook", webhook_url="https://hook.test/", rpm=60)
        place(queue, {MINUTE: [1]}, at=BEFORE)
        [claimed] = SimulatedWorker(queue, seat.owner).tick(0).claims
        attempt = models.Attempt(
            task_id=claimed.task_id, user_id=1, number=1, bucket_id=claimed.bucket_id, started_at=MINUTE
        )
        seat.retries.append(results.Retry(claimed, 0, attempt, due))
        seat.batches[claimed.batch_id] = 1
    poisoned = seat.retries[0].claim
    models.Assignment.objects.filter(pk=poisoned.key).update(status=models.Status.WAITING)
    for left in (2, 1, 0):
        seat._place_retries()
        assert len(seat.retries) == left
    assert list(models.Move.objects.values_list("reason", flat=True)) == ["retry"] * 2
    # Of the poisoned one's batch the rest may still come; in the end it is taken up.
    assert [batch_id for batch_id, count in seat.batches.items() if count] == [poisoned.batch_id]


def test_a_database_that_is_locked_is_waited_for(monkeypatch):
    minute = running_minute()
    place(make_queue(rpm=6_000), {minute: [1, 2, 3]}, at=minute)
    real, calls = claims.commit_tick, []

    def turn(**arguments):
        calls.append(1)
        if len(calls) < 3:
            raise OperationalError("database is locked")
        return real(**arguments)

    monkeypatch.setattr(claims, "commit_tick", turn)
    # The test's own transaction lives on the connection that a seat would open anew.
    monkeypatch.setattr(minute_worker.connection, "close", lambda: None)
    minute_worker.serve_minute(minute_jobs.minute_number(minute), 0, store.now)
    assert counted() == {"succeeded": 3}


def test_a_minute_without_a_seat_is_found_and_called_once():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1]}, at=BEFORE)
    at = MINUTE + timedelta(seconds=10)
    assert minute_worker.wake(at=at)
    assert not minute_worker.wake(at=at + timedelta(seconds=1)), "its seats are on the way"
    models.Minute.objects.update(seen_at=at + timedelta(seconds=9))
    assert not minute_worker.wake(at=at + timedelta(seconds=10))
    assert minute_worker.wake(at=at + timedelta(seconds=20))
