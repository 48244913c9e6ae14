"""A host whose clock, distance or key is wrong is named: in health, on the board, in the metrics."""

from datetime import timedelta

import pytest

from scheduling import models
from scheduling.reports import health, metrics
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

AT = MINUTE + timedelta(minutes=1)


def report(host: str, **text) -> None:
    owner, times = models.Heartbeat.objects.count(), {"started_at": BEFORE, "seen_at": AT}
    models.Heartbeat.objects.create(owner=owner, cluster="minutes", host=host, pid=1, **times, **text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"clock_offset_ms": 250, "round_trip_ms": 29}, None),
        ({}, None),
        ({"clock_offset_ms": -400}, "The clock of c is 400 ms behind the database's."),
        (
            {"clock_offset_ms": 3_000},
            "The clock of c is 3.0 s ahead of the database's: it serves no minutes.",
        ),
        ({"round_trip_ms": 30}, "The database is 30 ms away from c: requests may start late."),
        ({"round_trip_ms": 61}, "The database is 61 ms away from c: it serves no minutes."),
        (
            {"foreign_job_at": AT - timedelta(minutes=4)},
            "c can't read the jobs of other hosts, and leaves them to those hosts: give all hosts the same SECRET_KEY.",
        ),
        ({"foreign_job_at": AT - timedelta(minutes=6)}, None),
    ],
)
def test_host_is_reported_with_its_problem(text, sentence):
    report("a", clock_offset_ms=3, round_trip_ms=1)
    report("c", **text)
    result = health.assess(AT)
    assert result.host_problems == ((sentence,) if sentence else ())
    assert set(result.host_problems) <= set(result.problems)


def test_silent_host_is_not_reported():
    report("c", clock_offset_ms=3_000)
    models.Heartbeat.objects.update(seen_at=AT - timedelta(seconds=61))
    assert health.assess(AT).host_problems == ()


def test_metrics_have_each_host():
    report("a", clock_offset_ms=-3, round_trip_ms=1)
    report("a", clock_offset_ms=-3, round_trip_ms=1)
    report("c", clock_offset_ms=3_000, round_trip_ms=80)
    of_hosts = [gauge for gauge in metrics.gauges(AT) if dict(gauge.labels).get("host")]
    result = {(gauge.name, dict(gauge.labels)["host"]): gauge.value for gauge in of_hosts}
    assert result == {
        ("quarterdeck_clock_offset_seconds", "a"): -0.003,
        ("quarterdeck_round_trip_seconds", "a"): 0.001,
        ("quarterdeck_clock_offset_seconds", "c"): 3.0,
        ("quarterdeck_round_trip_seconds", "c"): 0.08,
    }
