"""Health checks and metrics."""

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scheduling import models, store
from scheduling.core import clock
from scheduling.jobqueue import cluster

pytestmark = pytest.mark.django_db


@pytest.fixture
def all_well(queue) -> None:
    at = store.now()
    for number, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        models.Heartbeat.objects.create(
            owner=number, cluster=name, host="a", pid=7, workers=2, started_at=at, seen_at=at
        )
    models.QuarterRun.objects.create(quarter_at=clock.quarter_start(at), ran_at=at)


def test_live_check_of_a_running_process(anonymous):
    assert anonymous.get("/healthz/live").json() == {"status": "live"}
    assert anonymous.get("/healthz/live/").status_code == 200
    answer = anonymous.send("POST", "/healthz/live")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_ready_check_with_clusters_and_quarter_hours(anonymous, all_well):
    answer = anonymous.get("/healthz/ready")
    assert answer.status_code == 200, answer.content
    checks = answer.json()["checks"]
    assert {item["name"] for item in checks["clusters"]} == {cluster.DEFAULT, cluster.MINUTES}
    assert 0 <= checks["last_quarter_age_seconds"] < 60


def test_ready_check_names_a_silent_cluster(anonymous, all_well):
    models.Heartbeat.objects.filter(cluster=cluster.MINUTES).update(
        seen_at=store.now() - timedelta(seconds=90)
    )
    answer = anonymous.get("/healthz/ready")
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert f"cluster {cluster.MINUTES} has been silent" in answer.json()["detail"]


def test_metrics_are_in_prometheus_format(api, write_lists):
    api.list([1, 2, 3])
    write_lists()
    answer = api.get("/metrics")
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.content.decode())}
    (sample,) = families["quarterdeck_ids_waiting"].samples
    assert (sample.labels, sample.value) == ({"queue": "default"}, 3)
    # What falls when an ID is sent again, or at night, is no counter.
    assert {family.type for family in families.values()} == {"gauge"}
    assert not [name for name in families if name.endswith("_total")]
