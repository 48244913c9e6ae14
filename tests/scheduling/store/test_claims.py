"""A minute in turns, by a clock that the test sets: what is claimed, kept, lost and taken up."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from scheduling import models, store
from scheduling.core import clock, keys, limits
from scheduling.dispatch import claims, overdue, recovery
from scheduling.dispatch.messages import Claim, ClaimRequest, Result, TickResult
from scheduling.models import Status
from scheduling.reports import receipts
from tests.patience import wait_until
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place

pytestmark = pytest.mark.django_db

# The first minute of its window: where the two rules put the first IDs.
MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)
BEFORE = MINUTE - timedelta(minutes=10)


class SimulatedWorker:
    """A worker whose clock is the test's. Its requests all succeed, a moment after their slot."""

    def __init__(self, queue: models.Queue, owner: int = 1, *, immediate: bool = False) -> None:
        self.queue, self.owner, self.immediate = queue, owner, immediate
        self.bucket_id = keys.bucket_at(queue.pk, MINUTE)
        self.batches: dict[int, int] = {}
        self.claims: list[Claim] = []
        self.sent: list[tuple[float, Claim]] = []
        self.may_start_until = 0.0

    def tick(self, elapsed: float, *, results=(), claim: bool = True, at_most=None) -> TickResult:
        requests = {}
        if claim:
            until = min(60.0, elapsed + (0.5 if self.immediate else 1.0))
            requests[self.bucket_id] = ClaimRequest(self.queue, until, self.immediate, at_most)
        tick = claims.commit_tick(
            owner=self.owner,
            elapsed=lambda: elapsed,
            requests=requests,
            results=results,
            open_batches=[batch_id for batch_id, count in self.batches.items() if count],
            finished_batches=[batch_id for batch_id, count in self.batches.items() if not count],
            now=lambda: MINUTE + timedelta(seconds=elapsed),
        )
        self.batches = {batch_id: count for batch_id, count in self.batches.items() if count}
        for item in results:
            if item.claim.batch_id in self.batches:
                self.batches[item.claim.batch_id] -= 1
        for lost in tick.lost_batches:
            self.batches.pop(lost, None)
            self.claims = [claim for claim in self.claims if claim.batch_id != lost]
        for claim in tick.claims:
            self.batches[claim.batch_id] = self.batches.get(claim.batch_id, 0) + 1
        self.claims += tick.claims
        self.may_start_until = tick.may_start_until
        return tick

    def serve(self, first: float, end: float, step: float = 0.15) -> None:
        """Turns from `first` until `end`, sending what is due between them."""
        elapsed, done = first, []
        while elapsed < end:
            self.tick(elapsed, results=done)
            following = elapsed + step
            done = []
            for claimed in list(self.claims):
                start = max(claimed.offset, elapsed)
                if start < min(following, end) and start <= self.may_start_until:
                    self.claims.remove(claimed)
                    if start <= claimed.offset + claimed.tolerance:
                        self.sent.append((start, claimed))
                        done.append(Result(claimed, Status.SUCCEEDED, round(start * 1000)))
                    else:
                        done.append(Result(claimed, Status.WAITING))
            elapsed = following
        self.tick(end, results=done, claim=False)


def starts(*workers: SimulatedWorker) -> Counter:
    return Counter(round(at * 1000) for worker in workers for at, _ in worker.sent)


def users(*workers: SimulatedWorker) -> Counter:
    return Counter(claimed.user_id for worker in workers for _, claimed in worker.sent)


def test_recorded_ids_succeed_once_at_their_slots():
    queue = make_queue(rpm=120)
    task = place(queue, {MINUTE: range(1, 121)}, at=BEFORE)
    worker = SimulatedWorker(queue, immediate=True)
    recorded = sum(worker.tick(tick * 0.15).recorded_count for tick in range(400))
    assert recorded == 120
    assert counted() == {"succeeded": 120}
    after = models.Assignment.objects.order_by("pk").values_list("started_after_ms", flat=True)
    assert list(after) == [slot * 500 for slot in range(120)]
    task.refresh_from_db()
    assert task.finished_at is not None
    check_counters()


def test_two_workers_share_a_minute_and_send_no_id_twice():
    queue = make_queue(rpm=600)
    place(queue, {MINUTE: range(1, 401)}, at=BEFORE)
    first, two = SimulatedWorker(queue, 1), SimulatedWorker(queue, 2)
    for step in range(61 * 4):
        for worker, lag in ((first, 0.0), (two, 0.13)):
            worker.serve(step * 0.25 + lag, step * 0.25 + lag + 0.12)
    assert users(first, two) == Counter(range(1, 401))
    assert first.sent
    assert two.sent
    assert counted() == {"succeeded": 400}
    check_counters()


def test_ids_missed_in_a_stall_take_free_slots_once():
    queue = make_queue(rpm=120)
    place(queue, {MINUTE: range(1, 91)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 10)
    worker.serve(22, 60)
    slots = [claimed.slot for _, claimed in worker.sent]
    assert len(set(slots)) == len(slots)
    # Some 18 slots were missed; 30 are free, and those after the stall were enough.
    assert users(worker) == Counter(range(1, 91))
    assert receipts.most_in_60_seconds(starts(worker)) <= 121
    check_counters()


def test_ids_without_a_free_slot_are_late_and_take_the_next_free_places():
    queue = make_queue(rpm=60)
    full = MINUTE + clock.MINUTE
    place(queue, {MINUTE: range(1, 61), full: range(61, 116)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(20, 60)
    remaining = 60 - len(worker.sent)
    assert remaining >= 18
    at = MINUTE + timedelta(seconds=63)
    assert overdue.run(lambda: at) == remaining
    moved = Counter(models.Move.objects.values_list("to_bucket_id", flat=True))
    # The minute that runs is sealed; from the next one on, five first: that one holds 55.
    third, fourth = (keys.bucket_at(queue.pk, MINUTE + n * clock.MINUTE) for n in (2, 3))
    assert set(moved) == {third} or set(moved) == {third, fourth}
    assert max(moved.values()) <= 60
    assert set(models.Move.objects.values_list("reason", flat=True)) == {"late"}
    assert counted() == {"succeeded": len(worker.sent), "waiting": 60 - len(worker.sent) + 55}
    check_counters()


def test_late_ids_do_not_move_while_the_queue_is_paused():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    models.Queue.objects.update(paused_at=BEFORE)
    after = MINUTE + timedelta(hours=3)
    assert overdue.run(lambda: after) == 0
    models.Queue.objects.update(paused_at=None)
    assert overdue.run(lambda: after) == 10
    check_counters()


def test_ids_of_a_long_outage_are_placed_within_capacity():
    queue = make_queue(rpm=60)
    minutes = {MINUTE + n * clock.MINUTE: range(100 * n + 1, 100 * n + 61) for n in range(20)}
    place(queue, minutes, at=BEFORE)
    after = MINUTE + timedelta(hours=3)
    assert overdue.run(lambda: after) == 1_200
    assert max(models.Bucket.objects.values_list("filled_count", flat=True)) == 60
    first = min(models.Bucket.objects.filter(waiting_count__gt=0).values_list("pk", flat=True))
    assert keys.minute_of_bucket(first) == after + clock.MINUTE
    check_counters()


def test_late_ids_expire_if_the_queue_says_so():
    queue = make_queue(rpm=60, late_policy="expire", late_after_seconds=600)
    place(queue, {MINUTE: range(1, 11), MINUTE + 9 * clock.MINUTE: range(11, 21)}, at=BEFORE)
    overdue.run(lambda: MINUTE + timedelta(minutes=11))
    assert counted() == {"expired": 10, "waiting": 10}
    check_counters()


def test_dead_workers_ids_are_recovered_and_possible_repeats_named():
    queue = make_queue(rpm=600)
    place(queue, {MINUTE: range(1, 301)}, at=BEFORE)
    dead, alive = SimulatedWorker(queue, 1), SimulatedWorker(queue, 2)
    dead.serve(0, 5)
    tick = dead.tick(5.1)
    in_flight = counted()["in_flight"]
    assert in_flight
    may = [c.user_id for c in dead.claims if c.offset <= tick.may_start_until]
    assert recovery.recover(lambda: MINUTE + timedelta(seconds=20)) == 0
    assert recovery.recover(lambda: MINUTE + timedelta(seconds=20.2)) == in_flight
    unknown = models.Attempt.objects.filter(unknown=True)
    assert sorted(unknown.values_list("user_id", flat=True)) == sorted(may)
    assert len(may) <= 600 / 60 * limits.UNCOMMITTED_MS / 1000 + 1
    assert not models.Batch.objects.filter(owner=1).exists()
    alive.serve(20.3, 60)
    assert users(dead, alive) == Counter(range(1, 301))
    assert counted() == {"succeeded": 300}
    assert models.Bucket.objects.get(pk=dead.bucket_id).repeats_count == len(may)
    check_counters()


def test_worker_recovers_one_dead_bucket_and_a_job_the_rest():
    queues = [make_queue(f"q{n}", handler="webhook", webhook_url="https://hook.test/") for n in range(3)]
    for queue in queues:
        place(queue, {MINUTE: range(1, 4)}, at=BEFORE)
        for elapsed in (0.0, 19.5):
            SimulatedWorker(queue).tick(elapsed, at_most=1)
    at = MINUTE + timedelta(seconds=80)
    assert models.Batch.objects.count() == 6
    # A bucket's batches together, and no second bucket once the time is up.
    assert recovery.recover(lambda: at, seconds=0) == 2
    assert models.Batch.objects.values("bucket_id").distinct().count() == 2
    overdue.run(lambda: at)
    assert not models.Batch.objects.exists()
    assert {row.minute_at for row in models.Assignment.objects.all()} == {MINUTE + 2 * clock.MINUTE}
    check_counters()


def test_bad_bucket_keeps_no_other_batch_from_recovery():
    queues = [make_queue(f"q{n}", handler="webhook", webhook_url="https://hook.test/") for n in range(2)]
    for queue in queues:
        place(queue, {MINUTE: [1]}, at=BEFORE)
        SimulatedWorker(queue).tick(0, at_most=1)
    # Sealed, and nobody knows its slots.
    models.Bucket.objects.filter(pk=keys.bucket_at(queues[0].pk, MINUTE)).update(slot_count=None)
    assert recovery.recover(lambda: MINUTE + timedelta(seconds=20)) == 1
    assert [keys.queue_of_bucket(b) for b in models.Batch.objects.values_list("bucket_id", flat=True)] == [
        queues[0].pk
    ]


def test_in_flight_ids_without_a_batch_are_recovered():
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.tick(0, at_most=1)
    worker.tick(12, at_most=1)
    [_, kept_rows] = models.Batch.objects.order_by("pk")
    models.Batch.objects.exclude(pk=kept_rows.pk).delete()
    assert recovery.recover_unclaimed(lambda: MINUTE + timedelta(minutes=4)) == 0
    assert recovery.recover_unclaimed(lambda: MINUTE + timedelta(minutes=4, seconds=1)) == 1
    assert counted() == {"waiting": 4, "in_flight": 1}
    [unknown] = models.Attempt.objects.filter(unknown=True)
    assert (unknown.task_id, models.Bucket.objects.get(pk=worker.bucket_id).repeats_count) == (task.pk, 1)
    check_counters()


def test_frozen_worker_that_wakes_has_lost_its_claims():
    queue = make_queue(rpm=600)
    place(queue, {MINUTE: range(1, 301)}, at=BEFORE)
    frozen = SimulatedWorker(queue, 1)
    frozen.serve(0, 5)
    frozen.tick(5.1)
    claimed = list(frozen.claims)
    recovery.recover(lambda: MINUTE + timedelta(seconds=21))
    answers = [Result(claim, Status.SUCCEEDED, 5_200) for claim in claimed]
    tick = frozen.tick(22, results=answers, claim=False)
    assert tick.lost_batches == {claim.batch_id for claim in claimed}
    assert counted()["waiting"] == 300 - len(frozen.sent)
    check_counters()


def test_cancelled_ids_are_skipped_and_their_slots_stay_unused():
    queue = make_queue(rpm=60)
    cancelled = place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    kept_rows = place(queue, {MINUTE: range(31, 61)}, at=BEFORE)
    models.Task.objects.filter(pk=cancelled.pk).update(cancelled_at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 60)
    assert users(worker) == Counter(range(31, 61))
    kept_rows.refresh_from_db()
    assert kept_rows.finished_at is not None


def test_unsent_ids_return_to_waiting_without_locking_the_queue():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    tick = worker.tick(0, at_most=2)
    with CaptureQueriesContext(connection) as made:
        worker.tick(1, results=[Result(claimed, Status.WAITING) for claimed in tick.claims], claim=False)
    assert not [query["sql"] for query in made if 'FROM "scheduling_queue"' in query["sql"]]
    assert counted() == {"waiting": 5}


@pytest.mark.parametrize("status", [Status.WAITING, Status.SUCCEEDED])
def test_result_of_an_id_claimed_by_another_worker_changes_nothing(status):
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
    frozen, other = SimulatedWorker(queue, 1), SimulatedWorker(queue, 2)
    [claimed] = frozen.tick(0, at_most=1).claims
    recovery.recover(lambda: MINUTE + timedelta(seconds=16))
    assert frozen.tick(16, claim=False).lost_batches == {claimed.batch_id}
    again = [first for first in other.tick(16.1).claims if first.key == claimed.key]
    assert len(again) == 1
    # Its answer comes turns after the batch was lost.
    in_flight = counted()["in_flight"]
    frozen.tick(18, results=[Result(claimed, status, None if status == Status.WAITING else 10)], claim=False)
    assert counted()["in_flight"] == in_flight
    other.tick(18.1, results=[Result(again[0], Status.SUCCEEDED, 16_500)], claim=False)
    assert counted()["succeeded"] == 1
    check_counters()


def test_returned_id_cannot_be_returned_twice():
    queue = make_queue(rpm=600)
    place(queue, {MINUTE: range(1, 601)}, at=BEFORE)
    worker, other = SimulatedWorker(queue, 1), SimulatedWorker(queue, 2)
    returned = [Result(worker.tick(0).claims[0], Status.WAITING)]
    worker.tick(0.1, results=returned, claim=False)
    in_flight = counted()["in_flight"] + len(other.tick(0.2).claims)
    with pytest.raises(RuntimeError):
        worker.tick(0.3, results=returned, claim=False)
    assert counted()["in_flight"] == in_flight


@pytest.mark.parametrize("in_time", [True, False], ids=["seen in time", "between the look and the lock"])
def test_id_returned_unsent_after_a_cancel_is_cancelled(monkeypatch, in_time):
    if not in_time:
        monkeypatch.setattr(claims, "queues_with_freed_places", lambda returned: set())
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    tick = worker.tick(0)
    models.Task.objects.filter(pk=task.pk).update(
        cancelled_at=BEFORE, waiting_count=0, cancelled_count=5 - len(tick.claims)
    )
    worker.tick(1, results=[Result(claimed, Status.WAITING) for claimed in tick.claims], claim=False)
    task.refresh_from_db()
    assert (task.in_flight_count, task.waiting_count, task.cancelled_count) == (0, 0, 5)
    bucket = models.Bucket.objects.get(pk=worker.bucket_id)
    assert (bucket.in_flight_count, bucket.cancelled_count) == (0, len(tick.claims))
    assert bucket.filled_count == 5 - len(tick.claims)


def test_expired_list_is_not_sent():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE, expires_at=MINUTE + timedelta(seconds=30))
    worker = SimulatedWorker(queue)
    worker.serve(0, 60)
    assert len(worker.sent) <= 16
    assert counted() == {"succeeded": len(worker.sent), "expired": 30 - len(worker.sent)}
    check_counters()


def test_brake_limits_a_minute_and_the_rest_is_late():
    queue = make_queue(rpm=60, brake_per_minute=20)
    place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 60)
    assert len(worker.sent) == 20
    assert overdue.run(lambda: MINUTE + timedelta(seconds=63)) == 40
    assert set(models.Move.objects.values_list("reason", flat=True)) == {"brake"}
    waiting = models.Bucket.objects.filter(waiting_count__gt=0).values_list("waiting_count", flat=True)
    assert max(waiting) == 20
    check_counters()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="rows are locked on PostgreSQL alone")
@pytest.mark.django_db(transaction=True)
def test_host_that_vanishes_in_a_tick_does_not_keep_others_waiting(transactional_db):
    """Two of its workers: one has locked the bucket, the other one waits for it. Neither says a word any more."""
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 6)}, at=BEFORE)
    bucket_id = keys.bucket_at(queue.pk, MINUTE)
    connected, closed = threading.Barrier(3), threading.Event()

    def vanish():
        store.keep_waits_short()
        connected.wait(120)
        try:
            with transaction.atomic():
                models.Bucket.objects.select_for_update().get(pk=bucket_id)
                closed.wait(120)
        except DatabaseError:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=vanish, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    connected.wait(120)

    def claims_something() -> bool:
        store.keep_waits_short()
        try:
            return bool(SimulatedWorker(queue).tick(0).claims)
        except OperationalError:
            connection.close()
            return False

    # Those who vanished don't let go by themselves before that.
    wait_until(claims_something, "the row is free")
    closed.set()
    for thread in threads:
        thread.join()
    store.end_short_waits()
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
