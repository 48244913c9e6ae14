"""A malformed row affects only itself: the rows beside it go on, and it is logged once."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.intake import allocation
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkActKind
from scheduling.queues import rates
from scheduling.tasks import bulk_cancel, resend
from scheduling.upkeep import reconciliation
from tests.scheduling.lists_of_ids import NOON, places, submit

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


@pytest.fixture
def logged(monkeypatch):
    """The events of the modules' logs."""
    events: list[str] = []
    for module in (allocation, rates, bulk_operations, reconciliation):
        monkeypatch.setattr(module.log, "exception", lambda event, **facts: events.append(event))
    return events


@pytest.mark.parametrize("ids_count", [50, 30_000], ids=["short", "long"])
def test_list_with_a_broken_chunk_delays_no_other_list(queue, logged, tmp_path, ids_count):
    broken = submit(range(1, ids_count + 1), tmp_path, by=BY).task
    others = [submit(range(n, n + 10), tmp_path, by=BY).task for n in (100_000, 200_000)]
    long = submit(range(300_000, 325_000), tmp_path, by=BY).task
    models.Reservation.objects.filter(task_id=broken.pk).update(fill_before=[0] * 3)
    allocation.write_segments(lambda: NOON, seconds=60)
    for task in (*others, long):
        assert len(places(task)) == task.ids_count
    assert not places(broken)
    assert logged == ["segment_not_written"]
    # Looked at again only after a while; once it can be written, it is.
    allocation.write_segments(lambda: NOON + timedelta(minutes=9), seconds=60)
    assert logged == ["segment_not_written"]
    models.Reservation.objects.filter(task_id=broken.pk).update(fill_before=[0] * 15)
    later = NOON + timedelta(minutes=11)
    assert allocation.wake(at=later)
    models.Queue.objects.update(paused_at=NOON)
    allocation.write_segments(lambda: later, seconds=60)
    assert len(places(broken)) == ids_count


@pytest.mark.parametrize(
    ("kind", "resume"),
    [
        (BulkActKind.CANCEL_MATCHING, bulk_cancel.resume),
        (BulkActKind.RETRY_FAILED, resend.resume_retry),
        (BulkActKind.SEND_AGAIN, resend.resume_resend),
    ],
)
@pytest.mark.parametrize(
    "unreadable", [{}, {"ids": 7, "at": "no time"}, {"matching": 1, "task": "x"}, {"matching": {"x": 1}}]
)
def test_operation_that_cannot_be_read_ends(logged, kind, resume, unreadable):
    operation = bulk_operations.begin(kind, request=unreadable, number=1, by=BY, at=NOON)
    bulk_operations.hand_over(operation, at=NOON)
    resume(operation.pk, lambda: NOON)
    operation.refresh_from_db()
    assert operation.ended_at == NOON
    resume(operation.pk, lambda: NOON)
    assert logged == ["operation_malformed"]


def test_queue_that_cannot_be_refitted_delays_no_other(logged, monkeypatch):
    for name in ("bad", "good"):
        models.Queue.objects.create(name=name, rpm=1, overflow="carry_over", created_at=NOON)
    bad, good = models.Queue.objects.order_by("pk")
    shown_keys = []

    def refit_slice(queue_id, behind, now):
        if queue_id == bad.pk:
            raise ValueError("a malformed row")
        shown_keys.append(queue_id)
        return 3, None

    monkeypatch.setattr(rates, "_refit_slice", refit_slice)
    assert rates.refit(lambda: NOON) == 3
    assert shown_keys == [good.pk]
    assert logged == ["queue_not_refitted"]


def test_failed_check_stops_no_other_check_and_is_logged_once(queue, logged, monkeypatch, tmp_path):
    def fail(*, at):
        raise KeyError("a malformed row")

    monkeypatch.setattr(reconciliation, "_logged", {})
    monkeypatch.setattr(reconciliation.minute_worker, "wake", fail)
    submit([1], tmp_path, by=BY)
    later = NOON + timedelta(minutes=1)
    for _ in range(3):
        reconciliation.requeue_lost_work(at=later)
    assert models.Segment.objects.get().lease_until > later, "somebody was told of the list"
    assert logged == ["look_failed"]
