"""Metrics: what they count, and that they exist when they are 0."""

from datetime import timedelta

import pytest

from scheduling import models
from scheduling.core import clock
from scheduling.dispatch import lateness
from scheduling.reports import metrics
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

AT = MINUTE + timedelta(minutes=5)


def numbers(at=AT, **labels: str) -> dict[str, float]:
    """Return the values of the metrics that have exactly these labels, by name."""
    result = metrics.gauges(at)
    names = [(gauge.name, gauge.labels) for gauge in result]
    assert len(set(names)) == len(names)
    return {gauge.name: gauge.value for gauge in result if dict(gauge.labels) == labels}


def test_queue_metrics_count_intake_waiting_and_late_ids():
    place(make_queue("q1", rpm=5), {MINUTE: range(1, 11)}, at=BEFORE)
    values = numbers(queue="q1")
    assert values["quarterdeck_ids_intake"] == values["quarterdeck_ids_waiting"] == 10
    assert values["quarterdeck_ids_late"] == 10
    assert values["quarterdeck_oldest_late_seconds"] == 300


def test_queue_without_lists_has_metrics():
    make_queue("empty", rpm=5)
    values = numbers(queue="empty")
    assert values["quarterdeck_ids_late"] == values["quarterdeck_ids_failed"] == 0
    assert values["quarterdeck_requests_started"] == values["quarterdeck_ids_carried_over"] == 0
    assert numbers(queue="empty", window="running")["quarterdeck_window_over_rpm"] == 0


def test_ids_past_rpm_are_counted_by_window_and_carried_over_by_queue():
    queue = make_queue("q1", rpm=5)
    # Its minutes run in the quarter after the one in which a window fills.
    later = clock.open_window_start(AT) + 2 * clock.QUARTER
    minutes = {MINUTE: range(1, 11), MINUTE + clock.MINUTE: range(11, 15), later: range(20, 23)}
    place(queue, minutes, at=BEFORE)
    running = numbers(queue="q1", window="running")
    assert running["quarterdeck_window_filled"] == 14
    assert running["quarterdeck_window_over_rpm"] == 5
    assert numbers(queue="q1", window="open")["quarterdeck_window_over_rpm"] == 0
    assert numbers(queue="q1")["quarterdeck_ids_carried_over"] == 3


def test_start_lateness_is_reported_as_quantiles():
    queue = make_queue("q1", rpm=60)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    lateness.add({SimulatedWorker(queue).bucket_id: {2: 98, 40: 1, 500: 1}})
    values = {
        quantile: numbers(queue="q1", quantile=quantile)["quarterdeck_start_lateness_seconds"]
        for quantile in ("0.5", "0.99", "1")
    }
    assert values == {"0.5": 0.002, "0.99": 0.04, "1": 0.5}


def test_dead_cluster_is_counted_beside_live_ones():
    for owner, seen_at in enumerate((AT, AT - timedelta(seconds=70))):
        models.Heartbeat.objects.create(
            owner=owner, cluster="minutes", host="h", pid=1, started_at=BEFORE, seen_at=seen_at
        )
    values = numbers(cluster="minutes")
    assert values["quarterdeck_clusters_alive"] == values["quarterdeck_clusters_silent"] == 1
    assert values["quarterdeck_cluster_silent_seconds"] == 70
    assert numbers(cluster="quarterdeck")["quarterdeck_clusters_alive"] == 0


def test_breaker_that_no_queue_uses_is_not_counted():
    models.Target.objects.create(origin="https://hook.test:443", opened_at=AT)
    assert numbers()["quarterdeck_breakers_open"] == 0
    make_queue("w", handler="webhook", webhook_url="https://hook.test/in")
    assert numbers()["quarterdeck_breakers_open"] == 1


def test_unprocessed_quarter_hour_and_unserved_minute_are_metrics():
    place(make_queue("q1", rpm=5), {MINUTE: range(1, 4)}, at=BEFORE)
    at = MINUTE + timedelta(seconds=20)
    values = numbers(at)
    assert values["quarterdeck_minute_unserved"] == 1
    due = clock.quarter_start(at)
    models.QuarterRun.objects.create(quarter_at=due - clock.QUARTER, ran_at=BEFORE)
    late, in_time = due + timedelta(seconds=91), due + timedelta(seconds=89)
    assert [numbers(time)["quarterdeck_quarter_late"] for time in (in_time, late)] == [0, 1]
    models.QuarterRun.objects.create(quarter_at=due, ran_at=due)
    models.Minute.objects.update(seen_at=at)
    assert numbers(late)["quarterdeck_quarter_late"] == 0
