"""The quarter-hour: arms what comes, totals every ended window once, whoever asks and however late."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django_q.models import OrmQ, Schedule

from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import overdue
from scheduling.jobqueue import minute_jobs, schedules
from scheduling.reports import receipts
from scheduling.upkeep import quarter_hour, reconciliation
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

ENDED = clock.quarter_start(MINUTE) + clock.QUARTER + timedelta(seconds=20)


def starts_until(window_id):
    return receipts.starts_before(window_id) + receipts.own_starts(window_id)


def run(at):
    return quarter_hour.run(lambda: at)


def test_quarter_hour_schedules_the_minutes_of_running_and_open_windows():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1]}, at=BEFORE)
    place(queue, {MINUTE + clock.QUARTER: [2]}, at=BEFORE)
    run(MINUTE + timedelta(seconds=10))
    # 14 minutes of the window that runs, its first one has begun, and 15 of the open one.
    assert models.Minute.objects.count() == 29
    jobs = OrmQ.objects.filter(key="minutes")
    assert jobs.count() == 29 * models.Minute.objects.first().seats
    assert min(jobs.values_list("lock", flat=True)) == MINUTE + clock.MINUTE - minute_jobs.WORKER_AHEAD
    run(MINUTE + timedelta(seconds=11))
    assert OrmQ.objects.filter(key="minutes").count() == jobs.count()


def test_ended_window_gets_its_receipt_once():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    assert run(ENDED - timedelta(minutes=1)) == 0
    assert run(ENDED) == 1
    assert run(ENDED) == 0
    receipt = models.Window.objects.get(totalled_at=ENDED).receipt
    assert (receipt["planned"], receipt["sent"], receipt["succeeded"], receipt["late"]) == (30, 30, 30, 0)
    assert receipt["most_in_60_seconds"] == 30
    assert receipt["allowed_in_60_seconds"] == 61
    assert len(receipt["minutes"]) == 15
    [kept_rows] = models.QuarterRun.objects.filter(totalled_count=1)
    assert kept_rows.quarter_at == clock.quarter_start(ENDED)


def test_receipt_includes_60_seconds_that_began_in_the_previous_window():
    queue, other = make_queue(rpm=60), make_queue("other", rpm=60)
    last = MINUTE - clock.MINUTE
    for where, first in ((queue, 1), (other, 1_001)):
        minutes = {last: range(first, first + 60), MINUTE: range(first + 60, first + 120)}
        place(where, minutes, at=BEFORE - clock.QUARTER)
    before, after = keys.bucket_at(queue.pk, last), keys.bucket_at(queue.pk, MINUTE)
    for bucket_id, start in ((before, 55_000), (after, 0)):
        lo, hi = keys.range_of_bucket(bucket_id)
        rows = models.Assignment.objects.filter(pk__gte=lo, pk__lte=hi)
        for n, key in enumerate(rows.order_by("pk").values_list("pk", flat=True)):
            row = models.Assignment.objects.filter(pk=key)
            row.update(status=models.Status.SUCCEEDED, started_after_ms=start + n * 80)
    assert receipts.most_in_60_seconds(starts_until(keys.window_of_bucket(after))) == 120
    assert receipts.most_in_60_seconds(starts_until(keys.window_of_bucket(before))) == 60
    of_other = keys.window_of_bucket(keys.bucket_at(other.pk, MINUTE))
    assert receipts.most_in_60_seconds(starts_until(of_other)) == 0


def test_receipt_under_a_brake_counts_all_planned_ids():
    queue = make_queue(rpm=60, brake_per_minute=10)
    place(queue, {MINUTE: range(1, 61)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 60)
    assert len(worker.sent) == 10
    assert run(ENDED) == 1
    receipt = models.Window.objects.get(pk=keys.window_of_bucket(worker.bucket_id)).receipt
    minute = receipt["minutes"][0]
    assert (minute["planned"], minute["sent"], minute["moved"]) == (60, 10, 50)
    assert (receipt["planned"], receipt["late"]) == (60, 50)


def test_missed_quarters_are_all_processed_after_placing_late_ids():
    queue = make_queue(rpm=60)
    for n in range(3):
        place(queue, {MINUTE + n * clock.QUARTER: range(100 * n + 1, 100 * n + 11)}, at=BEFORE)
    much_later = MINUTE + timedelta(hours=5)
    assert run(much_later) == 3
    assert models.Move.objects.count() == 30
    receipts_kept = models.Window.objects.filter(receipt__isnull=False)
    assert {window.receipt["late"] for window in receipts_kept} == {10}


def test_windows_of_a_paused_queue_are_totalled_after_it_resumes():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    models.Queue.objects.update(paused_at=BEFORE)
    assert run(ENDED) == 0
    models.Queue.objects.update(paused_at=None)
    assert run(ENDED) == 1


@pytest.mark.django_db(transaction=True)
def test_several_clusters_total_a_window_once():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    totals = []

    def run_once():
        try:
            totals.append(run(ENDED))
        finally:
            connection.close()

    threads = [threading.Thread(target=run_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(totals) == 1
    assert len(totals) == 4
    assert models.Move.objects.count() == 10


def test_unprocessed_quarter_is_requested():
    make_queue(rpm=60)
    at = clock.quarter_start(ENDED) + timedelta(seconds=39)
    assert not quarter_hour.wake(at=at)
    assert quarter_hour.wake(at=at + timedelta(seconds=2))
    # The hint waits; another one would not help.
    assert not quarter_hour.wake(at=at + timedelta(seconds=5))
    run(at + timedelta(seconds=6))
    OrmQ.objects.all().delete()
    assert not quarter_hour.wake(at=at + timedelta(seconds=60))


@pytest.mark.parametrize(
    "edit",
    [
        lambda rows: rows.all().delete(),
        lambda rows: rows.filter(name="quarter-hour").update(cron="0 0 1 1 *"),
        lambda rows: rows.filter(name="quarter-hour").update(repeats=0),
        lambda rows: rows.filter(name="sweep").update(next_run=MINUTE + timedelta(days=400)),
        lambda rows: rows.filter(name="nightly").update(func="scheduling.jobs.sweep"),
        lambda rows: rows.bulk_create([Schedule(name="quarter-hour", func="scheduling.jobs.sweep")]),
        lambda rows: rows.bulk_create([Schedule(name="mine", func="os.system")]),
    ],
)
def test_edited_or_deleted_schedule_is_restored(edit):
    schedules.ensure(at=BEFORE)
    edit(Schedule.objects)
    reconciliation.requeue_lost_work(at=BEFORE)
    assert not schedules.ensure(at=BEFORE)
    assert sorted(Schedule.objects.values_list("name", "func")) == sorted(
        (schedule.name, schedule.func) for schedule in schedules.WANTED
    )


def test_most_in_60_seconds_spans_minute_borders():
    assert receipts.most_in_60_seconds({0: 1, 59_999: 1, 60_000: 1}) == 2
    assert receipts.most_in_60_seconds({}) == 0
    assert receipts.most_in_60_seconds({slot * 500: 1 for slot in range(240)}) == 120


def test_lateness_is_reported_as_median_p99_and_maximum():
    assert receipts.lateness({}) is None
    assert receipts.lateness({0: 98, 5: 1, 300: 1}) == {"median": 0, "p99": 5, "largest": 300}


def test_late_work_is_queued_at_once():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    after = MINUTE + timedelta(seconds=70)
    assert overdue.wake(at=after)
    assert not overdue.wake(at=after)
    assert keys.bucket_at(queue.pk, MINUTE) in overdue.overdue_buckets(after)
