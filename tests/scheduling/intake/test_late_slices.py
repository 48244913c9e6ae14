"""What could only run too late ends, and takes no place that is of use to others."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.dispatch import overdue
from scheduling.models import Status
from scheduling.queues import operations
from scheduling.tasks import resend
from scheduling.tasks.failures import FailureSelection
from tests.scheduling.lists_of_ids import NOON, check_counters, check_log, submit, write_all
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

BY = Actor.command_line()


def minute(number: int):
    return MINUTE + number * clock.MINUTE


def check_all(at) -> None:
    check_counters()
    check_log()
    # These tests put lists where they want them, not where the rules would.
    by_rule = {"places follow the rules", "every place is explained"}
    assert [difference for difference in proof.check(lambda: at) if difference.check not in by_rule] == []


def test_late_policy_counts_until_the_minute_that_is_free():
    queue = make_queue(rpm=60, late_policy="expire", late_after_seconds=300)
    # At 12:16:30 the next minute is 12:17. Two are full, and 12:19 has ten places.
    full = {minute(n): range(100 * n, 100 * n + 60) for n in (2, 3)}
    place(queue, {minute(0): range(1, 31), **full, minute(4): range(400, 450)}, at=BEFORE)
    place(queue, {minute(5): range(1_000, 1_050), minute(6): range(2_000, 2_001)}, at=BEFORE)
    at = minute(1) + timedelta(seconds=30)
    assert overdue.run(lambda: at) == 30
    # 12:15 + 300 s is 12:20, which has ten places too; the other ten would be later.
    moved = models.Move.objects.values_list("to_bucket_id", flat=True)
    assert sorted(map(keys.minute_of_bucket, moved)) == [minute(4)] * 10 + [minute(5)] * 10
    assert counted()["expired"] == 10
    assert models.Bucket.objects.get(pk=keys.bucket_at(queue.pk, minute(6))).filled_count == 1
    check_all(at)


def test_late_ids_of_an_expired_list_leave_the_places_to_others():
    queue = make_queue(rpm=60)
    place(queue, {minute(0): range(1, 31)}, at=BEFORE, expires_at=minute(3))
    place(queue, {minute(0): range(101, 111)}, at=BEFORE)
    place(queue, {minute(2): range(1_000, 1_055)}, at=BEFORE)
    at = minute(1) + timedelta(seconds=30)
    overdue.run(lambda: at)
    where = {
        user: keys.minute_of_bucket(bucket)
        for user, bucket in models.Move.objects.values_list("user_id", "to_bucket_id")
    }
    assert where == dict.fromkeys(range(1, 6), minute(2)) | dict.fromkeys(range(101, 111), minute(3))
    assert counted() == {"waiting": 70, "expired": 25}
    check_all(at)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["policy", "expires_at"])
def test_rows_written_late_expire_if_no_usable_minute_is_free(tmp_path, how):
    queue = make_queue("default", rpm=60)
    submit(range(1, 901), tmp_path, by=BY)
    last = minute(30)
    if how == "policy":
        models.Queue.objects.update(late_policy="expire", late_after_seconds=16 * 60)
    else:
        models.Task.objects.update(expires_at=last)
    at = minute(20) + timedelta(seconds=10)
    write_all(at)
    going = models.Assignment.objects.filter(status=Status.WAITING)
    if how == "policy":
        # From 12:36 on, and at most 16 minutes after their own: those of 12:20 and later, ten minutes of them.
        assert going.count() == 600
        assert {row.minute_at for row in going} == {minute(21 + n) for n in range(10)}
    else:
        # 12:36 to 12:44.
        assert going.count() == 9 * 60
    assert set(models.Bucket.objects.values_list("capacity", flat=True)) == {queue.rpm}
    check_all(at)


def test_retry_past_the_expiry_leaves_ids_failed():
    queue = make_queue(rpm=60)
    place(queue, {minute(0): range(1, 31)}, at=BEFORE, expires_at=minute(4))
    models.Assignment.objects.update(status=Status.FAILED)
    for rows in (models.Bucket, models.Task, models.TaskBucket):
        rows.objects.filter(waiting_count__gt=0).update(waiting_count=0, failed_count=30)
    place(queue, {minute(2): range(1_000, 1_050), minute(3): range(2_000, 2_060)}, at=BEFORE)
    at = minute(1) + timedelta(seconds=30)
    assert resend.retry(FailureSelection(), number=30, run="r", by=BY, now=lambda: at) == (10, False)
    assert counted() == {"waiting": 120, "failed": 20}
    check_all(at)


def test_brake_of_zero_keeps_late_ids_until_it_is_released():
    queue = make_queue(rpm=60)
    place(queue, {minute(0): range(1, 31)}, at=BEFORE)
    operations.brake(queue, 0, by=BY, at=BEFORE)
    at = minute(1) + timedelta(seconds=30)
    assert overdue.run(lambda: at) == 0
    assert not overdue.wake(at=at)
    assert proof.check(lambda: at + timedelta(hours=1)) == []
    operations.brake(queue, None, by=BY, at=at)
    assert overdue.run(lambda: at) == 30
    check_all(at)


def test_retry_finds_a_place_under_a_brake_of_zero():
    queue = make_queue(rpm=60)
    place(queue, {minute(0): range(1, 31)}, at=BEFORE)
    models.Assignment.objects.update(status=Status.FAILED)
    for rows in (models.Bucket, models.Task, models.TaskBucket):
        rows.objects.filter(waiting_count__gt=0).update(waiting_count=0, failed_count=30)
    operations.brake(queue, 0, by=BY, at=BEFORE)
    assert (
        resend.retry(
            FailureSelection(), number=30, run="r", by=BY, now=lambda: NOON + clock.QUARTER
        ).ids_count
        == 30
    )
