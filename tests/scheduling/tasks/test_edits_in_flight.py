"""An edit meets requests that are under way: what left isn't sent again, what comes back goes on counting."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import keys
from scheduling.dispatch import overdue, results
from scheduling.dispatch.messages import Claim, Result
from scheduling.models import Status
from scheduling.tasks import edits, resend
from scheduling.tasks.failures import FailureSelection
from tests.scheduling.lists_of_ids import NOON, check_counters, check_log, spool_of, submit, write_all
from tests.scheduling.store.test_claims import MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db(transaction=True)

BY = Actor.command_line()
IDS = range(1, 61)


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=60, created_at=NOON, max_attempts=3)


@pytest.fixture
def worker(queue, tmp_path) -> SimulatedWorker:
    """A worker whose minute has begun, with a list of 60: two or three are in flight."""
    submit(IDS, tmp_path, by=BY)
    write_all()
    worker = SimulatedWorker(queue)
    worker.tick(0.0)
    assert worker.claims
    return worker


def replace(ids, folder, at) -> edits.Replaced:
    with spool_of(ids, folder) as spool:
        return edits.replace(models.Task.objects.get(), spool, by=BY, now=lambda: at)


def fail(claimed: Claim, at) -> None:
    """Its request is answered by something that is to be tried again."""
    attempt = models.Attempt(
        task_id=claimed.task_id,
        user_id=claimed.user_id,
        number=claimed.attempts + 1,
        bucket_id=claimed.bucket_id,
        started_at=MINUTE,
        http_status=503,
    )
    due = at + timedelta(minutes=1)
    results.place_retries(
        keys.queue_of_bucket(claimed.bucket_id), [results.Retry(claimed, 0, attempt, due)], 1, lambda: at
    )


def row(user: int) -> models.Assignment:
    return models.Assignment.objects.get(user_id=user)


def check_all(at) -> None:
    check_counters()
    check_log()
    assert not [differences for differences in proof.check(lambda: at) if "claim" not in differences.check]


def test_removed_id_that_fails_in_flight_gets_no_other_minute(worker, tmp_path):
    claimed = worker.claims[0]
    at = MINUTE + timedelta(seconds=0.5)
    replaced = replace(range(30, 61), tmp_path, at)
    assert (replaced.in_flight, replaced.cancelled) == (len(worker.claims), 29 - len(worker.claims))
    fail(claimed, at)
    assert (row(claimed.user_id).status, row(claimed.user_id).attempts) == (Status.FAILED, 1)
    assert models.Attempt.objects.get().http_status == 503
    assert not models.Move.objects.exists()
    check_all(at)


def test_removed_id_retried_by_an_operator_gets_another_place_when_late(worker, tmp_path):
    claimed = worker.claims[0]
    at = MINUTE + timedelta(seconds=0.5)
    replace(range(30, 61), tmp_path, at)
    fail(claimed, at)
    assert resend.retry(
        FailureSelection(user_id=claimed.user_id), number=1, run="", by=BY, now=lambda: at
    ) == (1, False)
    assert row(claimed.user_id).status == Status.WAITING
    minute_passed = row(claimed.user_id).minute_at + timedelta(minutes=2)
    overdue.run(lambda: minute_passed)
    again = row(claimed.user_id)
    assert again.status == Status.WAITING
    assert again.minute_at > minute_passed
    reasons = models.Move.objects.filter(user_id=claimed.user_id).order_by("pk")
    assert list(reasons.values_list("reason", flat=True)) == ["operator", "late"]
    check_all(minute_passed)


def test_task_whose_last_removed_request_failed_is_done(worker, tmp_path):
    at = MINUTE + timedelta(seconds=0.5)
    replace([1_001], tmp_path, at)
    write_all(at)
    models.Assignment.objects.filter(user_id=1_001).update(status=Status.SUCCEEDED)
    for rows in (models.Task, models.TaskBucket, models.Bucket):
        rows.objects.filter(waiting_count=1).update(waiting_count=0, succeeded_count=1)
    for claimed in list(worker.claims):
        fail(claimed, at)
    assert models.Task.objects.get().finished_at == at


def test_removed_id_returned_unsent_is_cancelled_and_frees_its_place(worker, tmp_path):
    at = MINUTE + timedelta(seconds=0.5)
    replace(range(30, 61), tmp_path, at)
    claimed = worker.claims.copy()
    worker.tick(0.9, results=[Result(claim, Status.WAITING) for claim in claimed], claim=False)
    after = MINUTE + timedelta(minutes=2)
    overdue.run(lambda: after)
    assert {row(claim.user_id).status for claim in claimed} == {Status.CANCELLED}
    assert models.Move.objects.count() == 31, "those that stayed are late"
    check_all(after)


def test_id_removed_and_added_back_before_its_answer_is_retried(worker, tmp_path):
    claimed = worker.claims[0]
    at = MINUTE + timedelta(seconds=0.5)
    replace(range(30, 61), tmp_path, at)
    replaced = replace(IDS, tmp_path, at)
    assert replaced.kept == 31 + len(worker.claims)
    write_all(at)
    fail(claimed, at)
    assert (row(claimed.user_id).status, row(claimed.user_id).attempts) == (Status.WAITING, 1)
    assert models.Move.objects.get(user_id=claimed.user_id).reason == "retry"
    check_all(at)


def test_id_added_back_continues_its_attempt_count(worker, tmp_path):
    claimed = worker.claims[0]
    at = MINUTE + timedelta(seconds=0.5)
    fail(claimed, at)
    replace(range(30, 61), tmp_path, at)
    assert row(claimed.user_id).status == Status.CANCELLED
    replace(IDS, tmp_path, at)
    write_all(at)
    back = row(claimed.user_id)
    assert (back.status, back.attempts) == (Status.WAITING, 1)
    assert row(29).attempts == 0
    assert not models.EarlierAttempts.objects.exists()
    check_all(at)


def test_retry_after_the_expiry_of_its_list_expires(worker):
    claimed = worker.claims[0]
    models.Task.objects.update(expires_at=MINUTE + timedelta(minutes=2))
    fail(claimed, MINUTE + timedelta(seconds=0.5))
    assert row(claimed.user_id).status == Status.EXPIRED
    assert not models.Move.objects.exists()
    check_all(MINUTE + timedelta(seconds=0.5))
