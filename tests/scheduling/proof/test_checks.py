"""A check of the plan that somebody asked for: made by jobs, in pieces, and kept with what it found."""

from datetime import timedelta

import pytest
from django.db.models import F
from django_q.models import OrmQ

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import limits
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, Status
from scheduling.proof import checks
from scheduling.reports import metrics
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

BY = Actor.command_line()
AFTER = MINUTE - timedelta(minutes=1)


@pytest.fixture
def placed():
    task = place(make_queue(rpm=60), {MINUTE: range(1, 41)}, at=BEFORE)
    models.Assignment.objects.filter(task=task, user_id=7).delete()
    return task


def test_check_is_made_by_a_job_and_stores_its_findings(placed):
    check = checks.begin(by=BY, at=AFTER)
    assert OrmQ.objects.count() == 1
    assert (check.number, check.done_count, check.found) == (40, 0, None)
    checks.resume(check.pk, lambda: AFTER)
    check.refresh_from_db()
    assert (check.done_count, check.ended_at, check.found_count) == (40, AFTER, 2)
    assert [item["check"] for item in check.found] == ["a counter is its rows", "every ID has its row"]
    gauges = {gauge.name: gauge.value for gauge in metrics.gauges(AFTER)}
    assert (gauges["quarterdeck_plan_differences"], gauges["quarterdeck_plan_checked_seconds"]) == (2, 0)
    assert models.Activity.objects.get().verb == "checked_plan"


def test_second_request_joins_the_running_check(placed):
    check = checks.begin(by=BY, at=AFTER)
    assert checks.begin(by=Actor.system(), at=AFTER) == check
    checks.resume(check.pk, lambda: AFTER)
    assert checks.begin(by=Actor.system(), at=AFTER) != check


def test_check_continues_in_later_jobs_with_the_same_result(placed, monkeypatch):
    monkeypatch.setattr(proof.places, "IDS_AT_A_TIME", 7)
    check = checks.begin(by=BY, at=AFTER)
    for jobs in range(1, 20):
        checks.resume(check.pk, lambda: AFTER, seconds=-1)
        check.refresh_from_db()
        if check.ended_at:
            break
        assert OrmQ.objects.count() == jobs + 1
    assert jobs > 5
    assert (check.done_count, check.found_count) == (40, 2)


def test_check_that_lost_its_worker_is_resumed_and_counts_nothing_twice(placed, monkeypatch):
    monkeypatch.setattr(proof.places, "IDS_AT_A_TIME", 7)
    check = checks.begin(by=BY, at=AFTER)
    killed = bulk_operations.claim(check.pk, at=AFTER)
    steps = proof.steps(lambda: AFTER)
    for _ in range(4):
        checks._keep(killed, next(steps), at=AFTER)
    checks.resume(check.pk, lambda: AFTER)
    check.refresh_from_db()
    assert check.ended_at is None, "somebody lives who is at it"
    later = AFTER + limits.BULK_LEASE + timedelta(seconds=1)
    bulk_operations.wake(at=later)
    checks.resume(check.pk, lambda: later)
    check.refresh_from_db()
    assert (check.done_count, check.found_count, check.ended_at) == (40, 2, later)
    with pytest.raises(bulk_operations.Overtaken):
        checks._keep(killed, next(steps), at=later)


def test_check_stores_the_first_findings_and_counts_all(placed, monkeypatch):
    monkeypatch.setattr(checks, "KEPT", 3)
    models.Bucket.objects.update(started_count=F("started_count") + 1)
    check = checks.begin(by=BY, at=AFTER)
    checks.resume(check.pk, lambda: AFTER)
    check.refresh_from_db()
    assert check.found_count > 3 == len(check.found)
    assert not models.Assignment.objects.exclude(status=Status.WAITING).exists()
    assert BulkAct.objects.count() == 1
