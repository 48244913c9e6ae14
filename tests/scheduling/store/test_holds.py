"""Lists on hold, in the database: what is claimed of them, what is late, and who did it."""

from datetime import timedelta
from functools import partial

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, errors, keys
from scheduling.dispatch import claims, messages, overdue
from scheduling.intake import allocation
from scheduling.tasks import cancellation, holds
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
AFTER = MINUTE + timedelta(seconds=63)


def hold(task, at=BEFORE, reason=""):
    return holds.hold(task, reason, by=BY, now=lambda: at)


def resume(task, at=AFTER):
    return holds.resume(task, by=BY, now=lambda: at)


@pytest.mark.parametrize("handler", ["record", "webhook"])
def test_tick_claims_nothing_of_a_list_on_hold(handler):
    queue = make_queue(rpm=60, handler=handler, webhook_url="https://hook.test/")
    held = place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    other = place(queue, {MINUTE: range(11, 21)}, at=BEFORE)
    hold(held)

    SimulatedWorker(queue).serve(0, 60)

    rows = models.Assignment.objects.values_list("task_id", "status").distinct()
    assert dict(rows) == {held.pk: models.Status.WAITING, other.pk: models.Status.SUCCEEDED}
    check_counters()


def test_ids_on_hold_are_late_and_move_once_the_list_continues():
    queue = make_queue(rpm=60)
    held = place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    place(queue, {MINUTE: range(11, 16)}, at=BEFORE)
    hold(held)

    assert overdue.run(lambda: AFTER) == 5, "those of the other list"
    assert overdue.overdue_buckets(AFTER) == []
    assert not overdue.wake(at=AFTER)
    assert list(proof.check(lambda: AFTER)) == []

    effect = holds.effect_of_resume(held, at=AFTER)
    resume(held)
    assert overdue.run(lambda: AFTER) == 10
    minutes = {row.minute_at for row in models.Assignment.objects.filter(task=held)}
    assert minutes == {MINUTE + 2 * clock.MINUTE}
    assert (effect.waiting_count, effect.late_count, effect.ends_at) == (10, 10, max(minutes) + clock.MINUTE)
    check_counters()


def test_rows_that_are_written_late_wait_for_a_list_on_hold():
    queue = make_queue(rpm=60)
    held = place(queue, {MINUTE: range(1, 11)}, at=BEFORE, written=False)
    models.Segment.objects.create(task=held, list=held.list, number=0, first_position=0, ids_count=10)
    hold(held)

    allocation.write_segments(lambda: AFTER)

    bucket = keys.bucket_at(queue.pk, MINUTE)
    assert {row.bucket_id for row in models.Assignment.objects.all()} == {bucket}
    assert counted() == {"waiting": 10}


def test_rest_of_a_list_on_hold_can_be_cancelled():
    held = place(make_queue(rpm=60), {MINUTE: range(1, 11)}, at=BEFORE)
    hold(held)

    assert cancellation.cancel(held, by=BY, now=lambda: AFTER)["cancelled"] == 10

    held.refresh_from_db()
    assert not held.is_on_hold
    assert overdue.overdue_buckets(AFTER) == []
    assert list(proof.check(lambda: AFTER)) == []


def test_hold_and_continue_are_refused_with_the_reason_and_logged():
    task = place(make_queue(rpm=60), {MINUTE: range(1, 11)}, at=BEFORE)
    with pytest.raises(errors.NotOnHold):
        resume(task)
    hold(task, reason="wrong text")
    with pytest.raises(errors.AlreadyOnHold):
        hold(task)
    resume(task)
    hold(task)
    cancellation.cancel(task, by=BY, now=lambda: AFTER)
    for operation in (hold, resume):
        with pytest.raises(errors.TaskCancelled):
            operation(task)
    verbs = models.Activity.objects.order_by("pk").values_list("verb", "actor_name", "after")
    assert next(iter(verbs)) == ("put_on_hold", BY.name, {"reason": "wrong text"})
    assert [verb for verb, *_ in verbs] == ["put_on_hold", "continued", "put_on_hold", "cancelled"]


def fail(task, count: int, *, succeed: int = 0, at=MINUTE) -> None:
    """Let the next waiting IDs of the first minute fail for good, in one tick, and the next ones succeed."""
    bucket = keys.bucket_at(task.queue_id, MINUTE)
    want = messages.ClaimRequest(task.queue, until=60.0, immediate=False, at_most=count + succeed)
    tick = partial(claims.commit_tick, owner=1, elapsed=lambda: 0.0, now=lambda: at)
    claimed = tick(requests={bucket: want}).claims
    statuses = [models.Status.FAILED] * count + [models.Status.SUCCEEDED] * succeed
    results = [
        messages.Result(claim, status, 0, _attempt(claim) if status == models.Status.FAILED else None)
        for claim, status in zip(claimed, statuses, strict=True)
    ]
    tick(requests={}, results=results, open_batches={claim.batch_id for claim in claimed})
    task.refresh_from_db()


def _attempt(claim) -> models.Attempt:
    return models.Attempt(
        task_id=claim.task_id, user_id=claim.user_id, number=1, bucket_id=claim.bucket_id, started_at=MINUTE
    )


def test_list_over_its_error_budget_is_on_hold_in_the_tick_that_records_it():
    queue = make_queue(rpm=600, **{"handler": "webhook", "webhook_url": "https://hook.test/"})
    task = place(queue, {MINUTE: range(1, 301)}, at=BEFORE, max_failed_percent=2, min_finished=200)
    fail(task, 3, succeed=97)
    fail(task, 1, succeed=99)
    assert not task.is_on_hold

    fail(task, 1, succeed=3)

    assert task.is_on_hold
    assert task.hold_reason == "5 of 204 finished IDs have failed, more than 2 %"
    line = models.Activity.objects.get(verb="put_on_hold")
    assert (line.actor_kind, line.after) == ("system", {"reason": task.hold_reason})
    resume(task, at=MINUTE)
    fail(task, 1, succeed=1)
    assert not task.is_on_hold, "counting begins anew"
    check_counters()


def test_success_that_completes_the_number_of_ids_for_which_a_budget_waits_stops_the_list():
    queue = make_queue(rpm=600, **{"handler": "webhook", "webhook_url": "https://hook.test/"})
    task = place(queue, {MINUTE: range(1, 301)}, at=BEFORE, max_failed_percent=2, min_finished=200)
    fail(task, 8, succeed=182)
    assert not task.is_on_hold

    fail(task, 0, succeed=10)

    assert task.hold_reason == "8 of 200 finished IDs have failed, more than 2 %"


def test_list_without_a_budget_continues_whatever_fails():
    queue = make_queue(rpm=600, **{"handler": "webhook", "webhook_url": "https://hook.test/"})
    task = place(queue, {MINUTE: range(1, 301)}, at=BEFORE)
    fail(task, 250)
    assert not task.is_on_hold
