"""The rows that say which clusters live, and what is left of those that ended."""

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core import signing
from django.db import connection
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import PickleSerializer, SignedPackage

from runner.broker import WatchedBroker
from scheduling import models, store
from scheduling.core import clock
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
    runner = start()
    runner.wait_until_up()

    def rows() -> set[str]:
        with closing(sqlite3.connect(runner.data_dir / "quarterdeck.sqlite3")) as database:
            return {cluster for (cluster,) in database.execute("SELECT cluster FROM scheduling_heartbeat")}

    wait_for(lambda: rows() == {"quarterdeck", "minutes"}, lambda: runner.printed)
    runner.stop(runner.process.terminate)
    assert rows() == set()


def queue_row(payload: str) -> int:
    return OrmQ.objects.create(key="minutes", payload=payload, lock=timezone.now() - timedelta(seconds=1)).pk


def taken(cluster: WatchedBroker) -> list[int]:
    """The rows that a cluster takes in a few rounds, heartbeats left out."""
    rounds = [cluster.dequeue() or [] for _ in range(12)]
    return [row for result in rounds for row, _ in result if row != "sign-of-life"]


JOB = {"id": "1", "name": "it", "func": "scheduling.jobs.look_around", "args": (), "kwargs": {}}
MALFORMED = [
    "",
    "garbage",
    SignedPackage.dumps("text"),
    SignedPackage.dumps(7),
    SignedPackage.dumps({"id": 1}),
]


@pytest.mark.parametrize("payload", MALFORMED)
def test_malformed_job_is_dropped_and_the_others_run(payload):
    bad, good = queue_row(payload), queue_row(SignedPackage.dumps(JOB))
    assert queued(JOB["func"], at=timezone.now(), cluster="minutes") == [()]
    assert taken(broker(owner=1)) == [good]
    assert not OrmQ.objects.filter(pk=bad).exists()


def foreign_row() -> int:
    return queue_row(signing.dumps(JOB, key="another key", salt=Conf.PREFIX, serializer=PickleSerializer))


def test_job_of_another_key_is_left_to_a_cluster_that_has_the_key():
    foreign, own = foreign_row(), broker(owner=1)
    assert taken(own) == []
    # Available at once, and this cluster doesn't take it again.
    assert OrmQ.objects.filter(pk=foreign, lock__lte=timezone.now()).exists()
    assert list(models.Heartbeat.objects.filter(foreign_job_at__isnull=False).values_list("owner")) == [(1,)]
    good = queue_row(SignedPackage.dumps(JOB))
    assert taken(own) == [good]


def test_job_of_another_key_is_never_dropped_though_no_other_cluster_lives():
    foreign, own = foreign_row(), broker(owner=1)
    for _ in range(5):
        assert taken(own) == []
    assert OrmQ.objects.filter(pk=foreign).exists()
    # Once another cluster has run it, it is forgotten.
    OrmQ.objects.filter(pk=foreign).delete()
    own._next_sign = 0
    taken(own)
    assert own.foreign_rows == set()


def test_idle_cluster_looks_for_jobs_twice_a_second(monkeypatch, django_assert_max_num_queries):
    """On a time that passes only while it sleeps."""
    monotonic = time.monotonic()

    def sleep(seconds: float) -> None:
        nonlocal monotonic
        monotonic += seconds

    monkeypatch.setattr("runner.broker.time", SimpleNamespace(monotonic=lambda: monotonic, sleep=sleep))
    cluster = broker(owner=1)
    cluster._next_sign = monotonic + 60
    until = monotonic + 2
    with django_assert_max_num_queries(6):
        while monotonic < until:
            assert cluster.dequeue() is None


def test_idle_cluster_looks_again_when_the_next_job_is_due(monkeypatch):
    # The stock broker would be up to one poll late: 100 ms.
    monkeypatch.setattr("runner.broker.QUIET_SECONDS", 10_000.0)
    cluster, began = broker(owner=1), time.monotonic()
    cluster._next_sign = float("inf")
    due_at = timezone.now() + timedelta(seconds=1_000)
    row = OrmQ.objects.create(key="minutes", payload=SignedPackage.dumps(JOB), lock=due_at)
    assert cluster.dequeue() is None
    seconds_between = time.monotonic() - began
    assert began + 1_000 - seconds_between <= cluster._look_at <= began + 1_000 + seconds_between
    # The time has come.
    OrmQ.objects.update(lock=timezone.now() - timedelta(seconds=1))
    cluster._look_at = 0.0
    assert [key for key, _ in cluster.dequeue()] == [row.pk]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="with SQLite there is no other host")
def test_silent_minute_is_looked_at_at_once():
    made, at = broker(owner=1), store.now()
    made._next_sign = float("inf")
    number = clock.minute_number(clock.minute_start(at))
    for each in (number, number + 1):
        models.Minute.objects.create(pk=each, armed_at=at, seats=2, seen_at=at)
    made._seconds_to_next()
    assert made._next_sign == float("inf")
    models.Minute.objects.update(seen_at=at - timedelta(seconds=1), ended_at=at)
    made._seconds_to_next()
    assert made._next_sign == float("inf"), "the minute is over"
    models.Minute.objects.update(seen_at=at - timedelta(seconds=2), ended_at=None)
    made._seconds_to_next()
    assert made._next_sign <= time.monotonic()
