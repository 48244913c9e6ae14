"""The rows that say which clusters live, and what is left of those that ended."""

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core import signing
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import PickleSerializer, SignedPackage

from runner import broker as runner_broker
from runner.broker import WatchedBroker
from scheduling import models, store
from scheduling.jobqueue.cluster import queued
from scheduling.reports import health

from .conftest import wait_for

pytestmark = pytest.mark.django_db


def broker(*, owner: int) -> WatchedBroker:
    made = WatchedBroker(list_key="minutes")
    made.owner = owner
    made._write_row()
    return made


def owners() -> set[int]:
    return set(models.Heartbeat.objects.values_list("owner", flat=True))


def say(cluster: WatchedBroker, status: str) -> None:
    cluster.set_stat("key", SignedPackage.dumps(SimpleNamespace(status=status)), 3)


def test_heartbeat_is_deleted_once_a_cluster_has_stopped():
    first, second = broker(owner=1), broker(owner=2)
    for status in (Conf.STARTING, Conf.IDLE, Conf.WORKING, Conf.STOPPING):
        say(first, status)
    assert owners() == {1, 2}
    say(first, Conf.STOPPED)
    assert owners() == {2}
    assert second.owner == 2


def test_heartbeat_of_a_killed_cluster_is_deleted_only_by_its_replacement():
    broker(owner=1)
    models.Heartbeat.objects.update(seen_at=store.now() - timedelta(seconds=31))
    broker(owner=2)
    assert owners() == {2}
    for host, cluster, number in (("elsewhere", "minutes", 3), (None, "quarterdeck", 4)):
        row = models.Heartbeat.objects.get(owner=2)
        row.pk, row.owner, row.cluster, row.host = None, number, cluster, host or row.host
        row.started_at -= timedelta(minutes=5)
        row.seen_at -= timedelta(minutes=5)
        row.save()
    broker(owner=5)
    assert owners() == {2, 3, 4, 5}


def test_heartbeat_of_a_dead_cluster_beside_a_live_one_stays_visible():
    broker(owner=1)
    beside = broker(owner=2)
    # The first was alive after the second had begun.
    beside.started_at = store.now() - timedelta(minutes=5)
    models.Heartbeat.objects.filter(owner=1).update(seen_at=store.now() - timedelta(seconds=61))
    beside._write_row()
    assert owners() == {1, 2}
    assert health.cluster_health(beside.list_key, store.now()).silent_count == 1


@pytest.mark.faults
def test_running_clusters_delete_their_heartbeats_when_stopped(start):
    one = start()
    one.wait_until_up()

    def rows() -> set[str]:
        with closing(sqlite3.connect(one.data_dir / "quarterdeck.sqlite3")) as database:
            return {cluster for (cluster,) in database.execute("SELECT cluster FROM scheduling_heartbeat")}

    wait_for(lambda: rows() == {"quarterdeck", "minutes"}, 15, lambda: one.said)
    one.stop(one.process.terminate)
    assert rows() == set()


def queue_row(payload: str) -> int:
    return OrmQ.objects.create(key="minutes", payload=payload, lock=timezone.now() - timedelta(seconds=1)).pk


def taken(cluster: WatchedBroker) -> list[int]:
    """The rows that a cluster takes in a few rounds, heartbeats left out."""
    rounds = [cluster.dequeue() or [] for _ in range(12)]
    return [row for found in rounds for row, _ in found if row != "sign-of-life"]


JOB = {"id": "1", "name": "it", "func": "scheduling.jobs.look_around", "args": (), "kwargs": {}}
MALFORMED = [
    "",
    "garbage",
    SignedPackage.dumps("text"),
    SignedPackage.dumps(7),
    SignedPackage.dumps({"id": 1}),
]


@pytest.mark.parametrize("payload", MALFORMED)
def test_malformed_job_is_dropped_and_the_others_run(payload, monkeypatch):
    monkeypatch.setattr(runner_broker, "FOREIGN_PAUSE_SECONDS", 0)
    bad, good = queue_row(payload), queue_row(SignedPackage.dumps(JOB))
    assert queued(JOB["func"], at=timezone.now(), cluster="minutes") == [()]
    assert taken(broker(owner=1)) == [good]
    assert not OrmQ.objects.filter(pk=bad).exists()


def test_job_of_another_key_is_left_to_a_cluster_that_has_the_key():
    foreign = queue_row(signing.dumps(JOB, key="another key", salt=Conf.PREFIX, serializer=PickleSerializer))
    assert taken(broker(owner=1)) == []
    # Available at once, and this cluster keeps away for a moment.
    assert OrmQ.objects.filter(pk=foreign, lock__lte=timezone.now()).exists()


def test_job_of_another_key_is_never_dropped_while_another_cluster_lives(monkeypatch):
    monkeypatch.setattr("runner.broker.FOREIGN_PAUSE_SECONDS", 0)
    foreign = queue_row(signing.dumps(JOB, key="another key", salt=Conf.PREFIX, serializer=PickleSerializer))
    ours, other = broker(owner=1), broker(owner=2)
    for cluster in (ours, other):
        cluster._write_row()
    for _ in range(5):
        assert taken(ours) == []
    assert OrmQ.objects.filter(pk=foreign).exists()
    assert list(models.Heartbeat.objects.filter(foreign_job_at__isnull=False).values_list("owner")) == [(1,)]
    models.Heartbeat.objects.filter(owner=2).delete()
    assert taken(ours) == []
    assert not OrmQ.objects.filter(pk=foreign).exists()


def test_idle_cluster_polls_twice_a_second_and_starts_the_next_job_on_time(django_assert_max_num_queries):
    cluster = broker(owner=1)
    cluster._next_sign = time.monotonic() + 60
    started = time.monotonic()
    with django_assert_max_num_queries(6):
        while time.monotonic() < started + 2:
            assert cluster.dequeue() is None
    due = timezone.now() + timedelta(seconds=1.2)
    row = OrmQ.objects.create(key="minutes", payload=SignedPackage.dumps(JOB), lock=due).pk
    while not (found := cluster.dequeue()):
        assert timezone.now() < due + timedelta(seconds=0.5)
    assert [key for key, _ in found] == [row]
    # The stock broker is up to one poll late: 100 ms.
    assert due <= timezone.now() < due + timedelta(seconds=0.06)
