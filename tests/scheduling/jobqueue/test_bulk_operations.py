"""Acts on many rows go on by themselves: whatever dies, and whichever job is lost, each row is done once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils.module_loading import import_string
from django_q.models import OrmQ

from operators.actor import Actor
from scheduling import jobs, models, store
from scheduling.core import clock, limits
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, Status
from scheduling.tasks import bulk_cancel, resend
from scheduling.tasks.failures import FailureSelection
from scheduling.upkeep import reconciliation, retention
from tests.scheduling.lists_of_ids import check_counters, check_log
from tests.scheduling.placed import counted, make_queue, place

pytestmark = pytest.mark.django_db

MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)
BEFORE = MINUTE - timedelta(minutes=10)
AFTER = MINUTE + timedelta(hours=1)
BY = Actor.command_line()


@pytest.fixture(autouse=True)
def short_slices(monkeypatch):
    monkeypatch.setattr(resend, "SLICE_IDS", 10)


@pytest.fixture
def clicks_end_at_once(monkeypatch):
    for module in (resend, bulk_cancel):
        monkeypatch.setattr(module, "CLICK_SECONDS", -1.0)


def ended_as(status: Status, count: int = 50) -> models.Task:
    """A task whose IDs were all sent, and became so."""
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: range(1, count + 1)}, at=BEFORE)
    word = status.counter
    models.Assignment.objects.update(status=status, attempts=1)
    for rows in (models.Bucket, models.Task, models.TaskBucket):
        rows.objects.filter(waiting_count__gt=0).update(**{"waiting_count": 0, word: count})
    models.Task.objects.update(finished_at=MINUTE + clock.MINUTE)
    return task


def run_jobs(at: datetime) -> int:
    """Run what is queued of acts, as a worker does; return how many there were."""
    jobs = [row.task for row in OrmQ.objects.all()]
    OrmQ.objects.all().delete()
    acts = [job for job in jobs if job["func"] in bulk_operations.JOBS.values()]
    for job in acts:
        import_string(job["func"])(*job["args"])
    return len(acts)


@pytest.fixture
def at_their_time(monkeypatch):
    """Set the clock of jobs: at_their_time(AFTER). Hours pass between two of them, and no clock has jumped."""
    monkeypatch.setattr(jobs, "_clock_has_jumped", lambda: False)
    return lambda at: monkeypatch.setattr(store, "now", lambda: at)


def retry(**fields):
    return resend.retry(FailureSelection(), number=50, run="r", by=BY, now=lambda: AFTER, **fields)


@pytest.mark.usefixtures("clicks_end_at_once")
def test_retry_with_a_lost_job_is_resumed_by_the_sweep(at_their_time):
    ended_as(Status.FAILED)
    assert retry(left_out=[models.Assignment.objects.first().pk]) == (0, True)
    OrmQ.objects.all().delete()
    reconciliation.requeue_lost_work(at=AFTER + timedelta(seconds=1))
    assert run_jobs(AFTER) == 0, "its job may still come"
    later = AFTER + limits.BULK_LEASE + timedelta(seconds=1)
    at_their_time(later)
    reconciliation.requeue_lost_work(at=later)
    reconciliation.requeue_lost_work(at=later)
    assert run_jobs(later) == 1, "of two who look one queues the job"
    assert counted() == {"waiting": 49, "failed": 1}
    act = BulkAct.objects.get()
    assert (act.done_count, act.ended_at) == (49, later)
    reconciliation.requeue_lost_work(at=later + timedelta(days=1))
    assert run_jobs(later) == 0
    check_counters()
    check_log()


def test_dead_process_leaves_whole_slices_and_the_rest_is_done_once(at_their_time, monkeypatch):
    ended_as(Status.FAILED)
    whole, slices = resend.moves.move, []

    def die(*args, **kwargs):
        slices.append(1)
        if len(slices) == 3:
            raise SystemExit
        return whole(*args, **kwargs)

    with monkeypatch.context() as dying:
        dying.setattr(resend.moves, "move", die)
        with pytest.raises(SystemExit):
            retry()
    assert counted() == {"waiting": 20, "failed": 30}
    OrmQ.objects.all().delete()
    assert BulkAct.objects.get().done_count == 20
    later = AFTER + 2 * limits.BULK_LEASE
    at_their_time(later)
    reconciliation.requeue_lost_work(at=later)
    run_jobs(later)
    assert counted() == {"waiting": 50}
    assert BulkAct.objects.get().done_count == 50
    assert models.Move.objects.count() == 50
    check_counters()


def test_frozen_retry_that_wakes_does_nothing_more():
    ended_as(Status.FAILED)
    act = bulk_operations.begin(models.BulkActKind.RETRY_FAILED, request={}, number=50, by=BY, at=AFTER)
    assert bulk_operations.claim(act.pk, at=AFTER) is None, "somebody is at it"
    assert bulk_operations.claim(act.pk, at=AFTER + 2 * limits.BULK_LEASE) is not None
    done = resend._retry(act, FailureSelection(), (), now=lambda: AFTER, seconds=5)
    assert done == (0, True)
    assert counted() == {"failed": 50}


@pytest.mark.usefixtures("clicks_end_at_once")
def test_stopped_retry_stays_stopped(at_their_time):
    ended_as(Status.FAILED)
    retry()
    assert bulk_operations.stop(models.BulkAct.objects.get(name="r"), by=BY, at=AFTER)
    later = AFTER + 2 * limits.BULK_LEASE
    at_their_time(later)
    reconciliation.requeue_lost_work(at=later)
    run_jobs(later)
    assert bulk_operations.is_stopped("r")
    assert counted() == {"failed": 50}


@pytest.mark.usefixtures("clicks_end_at_once")
def test_resend_with_a_lost_job_is_resumed_by_the_sweep(at_their_time):
    task = ended_as(Status.SUCCEEDED)
    resend.resend(task, looked_at=AFTER, number=50, run="r", by=BY, now=lambda: AFTER)
    OrmQ.objects.all().delete()
    later = AFTER + 2 * limits.BULK_LEASE
    at_their_time(later)
    reconciliation.requeue_lost_work(at=later)
    assert run_jobs(later) == 1
    assert counted() == {"waiting": 50}
    check_counters()


@pytest.mark.usefixtures("clicks_end_at_once")
def test_bulk_cancel_with_a_lost_job_is_resumed_by_the_sweep(at_their_time):
    queue = make_queue(rpm=60)
    tasks = [place(queue, {MINUTE: range(n, n + 3)}, at=BEFORE, name=f"list {n}") for n in (1, 11, 21)]
    matching = bulk_cancel.Matching(at=BEFORE, up_to_id=tasks[1].pk, ids=tuple(task.pk for task in tasks))
    assert bulk_cancel.cancel(matching, by=BY, now=lambda: BEFORE) == (0, 2)
    OrmQ.objects.all().delete()
    later = BEFORE + 2 * limits.BULK_LEASE
    at_their_time(later)
    reconciliation.requeue_lost_work(at=later)
    assert run_jobs(later) == 1
    cancelled = models.Task.objects.filter(cancelled_at__isnull=False)
    assert list(cancelled.order_by("pk")) == tasks[:2]
    lines = models.Activity.objects.filter(verb="cancelled")
    assert {line.actor_kind for line in lines} == {BY.kind}, "it stays the act of who asked"
    assert BulkAct.objects.get().done_count == 2


def test_ids_of_an_expired_list_are_not_retried():
    task = ended_as(Status.FAILED)
    models.Task.objects.update(expires_at=AFTER)
    assert retry() == (0, False)
    task.refresh_from_db()
    assert task.failed_count == 50


def test_pruning_with_a_lost_job_is_resumed_by_the_sweep(at_their_time, monkeypatch, settings):
    settings.RETENTION_DAYS = 30
    monkeypatch.setattr(retention, "JOB_SECONDS", -1.0)
    models.QuarterRun.objects.create(quarter_at=MINUTE, ran_at=MINUTE)
    models.Activity.objects.create(
        at=MINUTE, actor_kind="system", actor_name="system", verb="x", face="system"
    )
    at = MINUTE + timedelta(days=40)
    retention.run(lambda: at)
    assert (models.Activity.objects.count(), models.QuarterRun.objects.count()) == (0, 1)
    for _ in range(3):
        OrmQ.objects.all().delete()
        at += 2 * limits.BULK_LEASE
        at_their_time(at)
        reconciliation.requeue_lost_work(at=at)
        run_jobs(at)
    assert not models.QuarterRun.objects.filter(ran_at=MINUTE).exists()
    # The plan's check, which the night begins too, went the same way.
    kinds = BulkAct.objects.filter(ended_at__isnull=False).values_list("kind", flat=True)
    assert sorted(kinds) == [models.BulkActKind.CHECK_PLAN, models.BulkActKind.PRUNE]
