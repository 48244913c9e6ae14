"""The broker: due times go by the database's clock, and a database that is unavailable is waited for."""

from datetime import timedelta

import pytest
from django.db import InternalError, connection
from django.utils import timezone
from django_q.conf import Conf

from scheduling import store
from scheduling.jobqueue import cluster

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(Conf, "POLL", 0)


def broker(key: str = cluster.MINUTES) -> cluster.ResilientORM:
    return cluster.ResilientORM(list_key=key)


def arm(key: str = cluster.MINUTES, **ahead: float) -> None:
    cluster.enqueue("scheduling.jobs.sweep", cluster=key, not_before=store.now() + timedelta(**ahead))


def test_job_is_taken_once_when_due():
    arm(seconds=3)
    assert not broker().dequeue()
    arm(seconds=-1)
    assert len(broker().dequeue()) == 1
    assert not broker().dequeue()


def test_host_with_a_fast_clock_takes_no_job_early(monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no clock of its own")
    arm(cluster.DEFAULT, seconds=3)
    ahead = timezone.now() + timedelta(seconds=10)
    monkeypatch.setattr("django.utils.timezone.now", lambda: ahead)
    assert not broker(cluster.DEFAULT).dequeue()


@pytest.mark.parametrize("seconds", [2.5, -2.5])
def test_host_with_a_wrong_clock_takes_no_minutes_but_other_jobs(monkeypatch, seconds):
    arm(seconds=-10)
    arm(cluster.DEFAULT, seconds=-10)
    real = store.now
    monkeypatch.setattr(store, "now", lambda: real() + timedelta(seconds=seconds))
    assert not broker().dequeue()
    assert broker(cluster.DEFAULT).dequeue()
    monkeypatch.setattr(store, "now", real)
    assert broker().dequeue()


@pytest.mark.parametrize("sqlstate", ["25006", "25P03"], ids=["read-only", "idle for too long"])
def test_errors_of_other_classes_may_mean_that_the_database_is_unavailable(sqlstate):
    class Said(Exception):
        pass

    Said.sqlstate = sqlstate
    error = InternalError("cannot execute UPDATE in a read-only transaction")
    assert not store.is_unavailable(error)
    error.__cause__ = Said()
    assert store.is_unavailable(error)
