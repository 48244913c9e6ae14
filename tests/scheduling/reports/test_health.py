"""What is said of a service that runs, and of one that doesn't."""

from datetime import UTC, datetime, timedelta

import pytest

from scheduling import models
from scheduling.core import clock, disk
from scheduling.dispatch import overdue
from scheduling.reports import health
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

AT = MINUTE + timedelta(minutes=5)


@pytest.fixture
def healthy():
    """Both clusters have given a sign a moment ago, and the quarter was processed."""
    for number, name in enumerate(("quarterdeck", "minutes"), 1):
        models.Heartbeat.objects.create(
            owner=number, cluster=name, host="h", pid=1, workers=2, started_at=BEFORE, seen_at=AT
        )
    models.QuarterRun.objects.create(quarter_at=clock.quarter_start(AT), ran_at=clock.quarter_start(AT))


def problems(at=AT) -> tuple[str, ...]:
    return health.assess(at).problems


def test_running_service_is_healthy(healthy):
    assert health.assess(AT).is_healthy
    assert problems() == ()


def test_silent_cluster_is_reported_within_ninety_seconds(healthy):
    assert problems(AT + timedelta(seconds=60)) == ()
    later = AT + timedelta(seconds=90)
    models.Heartbeat.objects.filter(cluster="quarterdeck").update(seen_at=later)
    assert problems(later) == ("The cluster minutes has been silent for 90 s.",)


def test_dead_cluster_is_reported_beside_a_live_one(healthy):
    models.Heartbeat.objects.create(
        owner=3, cluster="minutes", host="other", pid=1, workers=2, started_at=BEFORE, seen_at=AT
    )
    assert problems() == ()
    later = AT + timedelta(seconds=61)
    models.Heartbeat.objects.exclude(owner=3).update(seen_at=later)
    assert problems(later) == ("Silent for up to 61 s: 1 of 2 clusters minutes.",)


def test_missing_cluster_is_reported(healthy):
    models.Heartbeat.objects.filter(cluster="minutes").delete()
    assert problems() == ("No cluster of the kind “minutes” has sent a heartbeat.",)


def test_unprocessed_quarter_is_reported(healthy):
    models.QuarterRun.objects.all().delete()
    assert problems() == ("The quarter-hour of 12:15 has not been processed.",)


def test_running_minute_without_a_worker_is_reported(healthy):
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    models.Heartbeat.objects.update(seen_at=MINUTE + timedelta(seconds=10))
    at = MINUTE + timedelta(seconds=10)
    assert problems(at) == ("The minute 12:15 runs and nobody serves it.",)
    models.Minute.objects.create(
        pk=clock.minute_number(MINUTE), armed_at=BEFORE, seats=2, started_at=MINUTE, seen_at=at
    )
    assert problems(at) == ()
    assert health.assess(at).minute_at == MINUTE


def test_late_ids_are_reported_by_queue_with_their_new_minutes(healthy):
    queue = make_queue("slow", rpm=5)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    [queue_report] = health.late_queues(AT)
    assert (
        queue_report.queue,
        queue_report.overdue_count,
        queue_report.oldest_at,
        queue_report.runs_until,
    ) == ("slow", 10, MINUTE, None)
    overdue.run(lambda: AT)
    [queue_report] = health.late_queues(AT)
    assert (queue_report.overdue_count, queue_report.placed_again_today) == (0, 10)
    assert queue_report.runs_until == clock.minute_start(AT) + 2 * clock.MINUTE


def test_nearly_full_disk_is_a_problem():
    full = disk.Volume("DATA_DIR", free_bytes=5_000_000, total_bytes=60_000_000)
    roomy = disk.Volume("SPOOL_DIR", free_bytes=50_000_000, total_bytes=60_000_000)
    report = health.Health(at=AT, disks=(roomy, full))
    assert report.low_disks == (full,)
    assert "The disk with DATA_DIR is nearly full: 5 MB are free." in report.problems
    assert not any("SPOOL_DIR" in problem for problem in report.problems)
    assert {volume.name for volume in health.assess().disks} == {"DATA_DIR", "SPOOL_DIR"}


@pytest.mark.parametrize(("ahead", "apart"), [(-3, 3), (-0.5, 0), (0, 0), (0.5, 0), (3, 3)])
def test_clock_difference_excludes_the_time_of_asking(monkeypatch, ahead, apart):
    host = datetime.now(UTC)

    def answer() -> datetime:
        # A busy machine: between the two looks at its clock a second passes.
        return host + timedelta(seconds=0.5 + ahead)

    class Clock(datetime):
        ticks = iter((host, host + timedelta(seconds=1)))

        @classmethod
        def now(cls, tz=None) -> datetime:
            return next(cls.ticks)

    monkeypatch.setattr(health, "datetime", Clock)
    monkeypatch.setattr(health.store, "now", answer)
    assert health.clocks_apart() == pytest.approx(max(0, apart - 0.5 * (apart > 0)))
