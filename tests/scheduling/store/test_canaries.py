"""Canaries, in the database: which IDs are claimed, what is late meanwhile, and how a canary ends."""

from datetime import timedelta

import pytest
from django.conf import settings

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, keys, stopping
from scheduling.core.errors import NotOnHold
from scheduling.dispatch import overdue
from scheduling.dispatch.messages import Result
from scheduling.intake import acceptance, allocation
from scheduling.models import CanaryState, Status
from scheduling.placement import canaries
from scheduling.reports import stories
from scheduling.tasks import cancellation, edits, erasure, holds
from tests.scheduling.lists_of_ids import check_counters, spool_of
from tests.scheduling.placed import make_queue
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
AFTER = MINUTE + timedelta(seconds=63)
# Before the quarter-hour in which MINUTE is the first.
INTAKE = MINUTE - timedelta(minutes=14)


def in_order(ids):
    return spool_of(ids, settings.SPOOL_DIR)


def submit(queue, ids, canary=(3, 60), at=INTAKE, **fields):
    submission = acceptance.Submission(
        "a list", queue_name=queue.name, canary=stopping.Canary(*canary), **fields
    )
    accepted = acceptance.submit(
        submission, in_order(ids), by=BY, now=lambda: at, render=lambda accepted: None
    )
    allocation.write_segments(lambda: at)
    return accepted.task


def hook(**fields):
    return make_queue(handler="webhook", webhook_url="https://hook.test/", **fields)


def sent(task):
    return set(models.Assignment.objects.filter(task=task, attempts__gt=0).values_list("user_id", flat=True))


def log_of(task):
    return list(
        models.Activity.objects.filter(object_kind="task", object_id=task.pk)
        .order_by("pk")
        .values_list("verb", "actor_name", "after")
    )


@pytest.mark.parametrize("handler", ["record", "webhook"])
@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_tick_claims_only_the_canary_in_list_order(handler, overflow):
    queue = make_queue(rpm=2, overflow=overflow, handler=handler, webhook_url="https://hook.test/")
    other = submit(queue, [101], canary=(1, 100))
    task = submit(queue, [60, 50, 40, 30, 20, 10, *range(200, 240)], canary=(5, 100))
    worker = SimulatedWorker(queue, immediate=handler == "record")

    worker.serve(0, 60)

    first = set(
        models.Assignment.objects.filter(user_id__in=[60, 50, 40, 30, 20]).values_list("user_id", flat=True)
    )
    in_minute = {
        row.user_id for row in models.Assignment.objects.filter(task=task) if row.minute_at == MINUTE
    }
    assert sent(task) == first & in_minute
    assert sent(other) == {101}
    task.refresh_from_db()
    assert task.canary_state == CanaryState.RUNNING
    assert task.canary_progress == f"{len(sent(task))} of 5 succeeded, 5 needed"
    assert list(proof.check(lambda: MINUTE + timedelta(seconds=61))) == []
    check_counters()


@pytest.mark.parametrize("handler", ["record", "webhook"])
def test_list_continues_by_itself_once_enough_of_its_canary_have_succeeded(handler):
    queue = make_queue(rpm=10, handler=handler, webhook_url="https://hook.test/")
    task = submit(queue, range(1, 41))
    worker = SimulatedWorker(queue, immediate=handler == "record")

    worker.serve(0, 60)

    task.refresh_from_db()
    assert task.canary_state == CanaryState.PASSED
    assert log_of(task)[-1][:2] == ("continued", "system")
    assert log_of(task)[-1][2]["reason"].startswith("the canary: ")
    overdue.run(lambda: AFTER)
    minutes = {row.minute_at for row in models.Assignment.objects.filter(task=task, status=Status.WAITING)}
    assert min(minutes) > AFTER - clock.MINUTE
    fullest = max(models.Bucket.objects.values_list("filled_count", flat=True))
    assert fullest <= 10
    assert list(proof.check(lambda: AFTER)) == []
    check_counters()


def test_list_is_on_hold_once_its_canary_can_not_pass_any_more():
    queue = hook(rpm=120)
    task = submit(queue, range(1, 41), canary=(4, 75))
    worker = SimulatedWorker(queue)
    worker.tick(0)
    worker.tick(1.5)
    first, second = worker.claims

    worker.tick(1.7, results=[Result(first, Status.FAILED, 10)], claim=False)
    task.refresh_from_db()
    assert task.canary_state == CanaryState.RUNNING
    worker.tick(2, results=[Result(second, Status.FAILED, 900)], claim=False)

    task.refresh_from_db()
    assert task.is_on_hold
    assert task.canary_state == CanaryState.FAILED
    assert task.hold_reason == "the canary: 0 of 4 succeeded, 3 needed"
    assert log_of(task)[-1][:2] == ("put_on_hold", "system")
    # Somebody looks at it, and lets it go on all the same.
    holds.resume(task, by=BY, now=lambda: AFTER)
    task.refresh_from_db()
    assert (task.canary_state, task.is_on_hold) == (CanaryState.SKIPPED, False)
    assert overdue.overdue_buckets(AFTER)


def test_ids_that_wait_for_a_canary_are_late_in_place_and_do_not_hide_others():
    queue = hook(rpm=10)
    task = submit(queue, range(1, 21), canary=(2, 100))
    other = submit(queue, [101, 102], canary=(1, 100))
    later = MINUTE + timedelta(minutes=4, seconds=3)

    # The canary's IDs are late, as are those of the other list, and take free places; the others stay.
    moved = overdue.run(lambda: later)

    assert moved == 3
    assert overdue.overdue_buckets(later) == []
    assert not overdue.wake(at=later)
    waits = stories.stories(9, at=later)[0]
    assert waits.waits_for == "The canary of its task: 0 of 2 succeeded, 2 needed."
    assert "canary" not in stories.stories(1, at=later)[0].waits_for
    assert other.pk != task.pk
    assert list(proof.check(lambda: later)) == []


def test_rows_that_are_written_late_wait_in_place_for_the_canary():
    queue = hook(rpm=10)
    submission = acceptance.Submission("a list", queue_name=queue.name, canary=stopping.Canary(2, 100))
    accepted = acceptance.submit(
        submission, in_order(range(1, 2_001)), by=BY, now=lambda: INTAKE, render=lambda accepted: None
    )
    allocation.write_segments(lambda: AFTER)
    rows = models.Assignment.objects.filter(task=accepted.task)
    assert {row.minute_at for row in rows.filter(user_id__in=range(1, 5))} == {MINUTE}
    assert not models.Move.objects.exists()


def test_continue_ends_the_wait_for_a_canary_by_hand():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(2, 100))
    holds.resume(task, by=BY, now=lambda: BEFORE)
    task.refresh_from_db()
    assert task.canary_state == CanaryState.SKIPPED
    with pytest.raises(NotOnHold):
        holds.resume(task, by=BY, now=lambda: BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    assert len(sent(task)) == 40


def test_canary_goes_on_after_a_hold_by_hand_and_is_decided_by_what_ended_meanwhile():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(2, 100))
    worker = SimulatedWorker(queue)
    worker.tick(0)
    (claimed,) = worker.claims
    holds.hold(task, by=BY, now=lambda: MINUTE)
    worker.tick(1, results=[Result(claimed, Status.FAILED, 10)], claim=False)
    task.refresh_from_db()
    assert task.canary_state == CanaryState.RUNNING

    holds.resume(task, by=BY, now=lambda: AFTER)

    task.refresh_from_db()
    assert (task.canary_state, task.is_on_hold) == (CanaryState.FAILED, True)


def test_short_list_is_its_own_canary_and_ends():
    queue = hook(rpm=60)
    passed = submit(queue, [1, 2], canary=(100, 98))
    SimulatedWorker(queue).serve(0, 60)
    passed.refresh_from_db()
    assert (passed.canary_count, passed.canary_state) == (2, CanaryState.PASSED)
    assert passed.finished_at is not None


def test_list_that_ends_with_its_failed_canary_is_not_on_hold():
    queue = hook(rpm=60)
    failed = submit(queue, [3], canary=(100, 98))
    worker = SimulatedWorker(queue)
    worker.tick(0)
    worker.tick(1, results=[Result(worker.claims[0], Status.FAILED, 10)], claim=False)
    failed.refresh_from_db()
    assert (failed.canary_state, failed.held_at) == (CanaryState.FAILED, None)
    assert failed.finished_at is not None


def test_edit_gives_the_canary_the_first_ids_of_the_new_list():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(3, 100))
    edits.replace(task, in_order([50, 2, 51, 3, 52]), by=BY, now=lambda: INTAKE)
    allocation.write_segments(lambda: INTAKE)

    SimulatedWorker(queue).serve(0, 60)

    members = set(models.CanaryId.objects.filter(task=task).values_list("user_id", flat=True))
    assert members == {2, 3, 50}
    task.refresh_from_db()
    assert task.canary_state == CanaryState.PASSED


def test_erased_ids_leave_the_canary_and_decide_it():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(2, 100))
    worker = SimulatedWorker(queue)
    worker.tick(0)
    worker.tick(1, results=[Result(worker.claims[0], Status.SUCCEEDED, 10)], claim=False)
    task.refresh_from_db()
    assert task.canary_state == CanaryState.RUNNING

    erasure.erase(2, by=BY, now=lambda: AFTER)

    task.refresh_from_db()
    assert (task.canary_state, task.canary_count) == (CanaryState.PASSED, 1)


def test_canary_without_ids_has_not_passed():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(1, 100))
    erasure.erase(1, by=BY, now=lambda: INTAKE)
    task.refresh_from_db()
    assert task.is_on_hold
    assert task.hold_reason == "the canary: 0 of 0 succeeded, 0 needed"


def test_wake_decides_what_nobody_looked_at():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(2, 50))
    assert not canaries.wake(at=AFTER)
    # As a release that knows no canary would have left it.
    row = models.Assignment.objects.get(task=task, user_id=1)
    worker = SimulatedWorker(queue)
    worker.tick(0)
    claimed = worker.claims[0]
    models.Task.objects.filter(pk=task.pk).update(canary_state="")
    worker.tick(1, results=[Result(claimed, Status.SUCCEEDED, 10)], claim=False)
    models.Task.objects.filter(pk=task.pk).update(canary_state=CanaryState.RUNNING)

    assert row.pk == claimed.key
    assert canaries.wake(at=AFTER)
    task.refresh_from_db()
    assert task.canary_state == CanaryState.PASSED


def test_rest_can_be_cancelled_while_the_canary_runs():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(2, 100))
    assert cancellation.cancel(task, by=BY, now=lambda: BEFORE)["cancelled"] == 40
    task.refresh_from_db()
    assert not task.waits_for_canary
    assert list(proof.check(lambda: BEFORE)) == []


def test_plan_check_finds_what_started_before_its_canary_had_passed():
    queue = hook(rpm=60)
    task = submit(queue, range(1, 41), canary=(2, 100))
    SimulatedWorker(queue).serve(0, 60)
    assert list(proof.check(lambda: AFTER)) == []
    models.Task.objects.filter(pk=task.pk).update(canary_decided_at=MINUTE + timedelta(seconds=30))
    differences = [str(difference) for difference in proof.check(lambda: AFTER)]
    assert any(
        difference.startswith("the rest of a list waits for its canary") for difference in differences
    ), differences


def test_first_minutes_of_a_plan_say_when_its_canary_is_sent():
    queue = make_queue(rpm=10, overflow="carry_over")
    plan = acceptance.preview(acceptance.Submission("a list", queue_name="q"), 100, at=INTAKE)
    assert canaries.ends_at(queue, plan, 25) == MINUTE + 3 * clock.MINUTE
    assert keys.bucket_at(queue.pk, MINUTE) == next(iter(plan.windows)).window_id << 4
