"""Who counts as stuck: signs in real files, time as an argument."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runner.watch import (
    FIRST_SIGN_SECONDS,
    LOCKED_SECONDS,
    LONGEST_JOB_SECONDS,
    RECOVERY_SECONDS,
    STALE_SECONDS,
    SignWatch,
    WebWatch,
    sqlite_is_locked,
)

from .conftest import wait_for


class Cluster:
    """What a cluster would leave, and whether the database is locked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.locked = False
        self.count = 0
        self.watch = SignWatch(directory, started=0.0, is_locked=lambda: self.locked)

    def leave(self, *signs: str) -> None:
        for sign in signs:
            self.count += 1
            (self.directory / sign).write_text("2" if sign == "workers" else "")
            os.utime(self.directory / sign, ns=(self.count, self.count))

    def goes_on(self, begin: int, end: int, *signs: str) -> str:
        """Leave these signs each second from begin to end; the last complaint."""
        complaint = ""
        for now in range(begin, end):
            self.leave(*signs)
            complaint = self.watch.complaint(now)
        return complaint


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


def test_cluster_with_signs_of_life_is_healthy(cluster):
    assert cluster.goes_on(0, 500, "guard", "jobs") == ""


def test_starting_cluster_is_given_time(cluster):
    assert cluster.watch.complaint(FIRST_SIGN_SECONDS) == ""
    assert "guard" in cluster.watch.complaint(FIRST_SIGN_SECONDS + 1)


@pytest.mark.parametrize(("remaining", "missing"), [("guard", "no job"), ("jobs", "guard has stopped")])
def test_cluster_with_only_one_sign_of_life_is_stuck(cluster, remaining, missing):
    cluster.goes_on(0, 10, "guard", "jobs")
    assert cluster.goes_on(10, 10 + STALE_SECONDS, remaining) == ""
    assert missing in cluster.goes_on(10 + STALE_SECONDS, 12 + STALE_SECONDS, remaining)


def test_stuck_cluster_is_noticed_within_a_minute():
    assert STALE_SECONDS <= 45


def test_cluster_with_busy_workers_is_left_alone_as_long_as_a_job_may_take(cluster):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        cluster.goes_on(0, 10, "guard", "jobs", "workers")
        cluster.leave(f"busy-{os.getpid()}", f"busy-{other.pid}")
        assert cluster.goes_on(10, LONGEST_JOB_SECONDS, "guard") == ""
        assert "no job" in cluster.goes_on(LONGEST_JOB_SECONDS, LONGEST_JOB_SECONDS + 40, "guard")
        cluster.leave("jobs", f"busy-{os.getpid()}", f"busy-{other.pid}")
        assert cluster.goes_on(200, 200 + STALE_SECONDS + 5, "guard") == ""
        # Both jobs have ended, and the heartbeat job has still to come through.
        (cluster.directory / f"busy-{other.pid}").unlink()
        ended = 200 + STALE_SECONDS + 5
        assert cluster.goes_on(ended, ended + RECOVERY_SECONDS, "guard") == ""
        assert "no job" in cluster.goes_on(ended + RECOVERY_SECONDS, ended + RECOVERY_SECONDS + 3, "guard")
    finally:
        other.communicate(b"\n")


def test_dead_worker_does_not_count_as_busy(cluster):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    cluster.goes_on(0, 10, "guard", "jobs", "workers")
    cluster.leave(f"busy-{os.getpid()}", f"busy-{ended.pid}")
    assert "no job" in cluster.goes_on(10, 20 + STALE_SECONDS, "guard")


def test_locked_database_is_waited_for_but_not_forever(cluster):
    cluster.goes_on(0, 10, "guard", "jobs")
    cluster.locked = True
    assert cluster.goes_on(10, 9 + LOCKED_SECONDS) == ""
    assert cluster.goes_on(9 + LOCKED_SECONDS, 13 + LOCKED_SECONDS) != ""


def test_clusters_have_time_to_recover_after_a_lock(cluster):
    cluster.goes_on(0, 10, "guard", "jobs")
    cluster.locked = True
    cluster.goes_on(10, 70)
    cluster.locked = False
    assert cluster.goes_on(70, 69 + RECOVERY_SECONDS) == ""
    assert cluster.goes_on(69 + RECOVERY_SECONDS, 72 + RECOVERY_SECONDS) != ""


def test_machine_sleep_restarts_every_timer(cluster):
    cluster.goes_on(0, 10, "guard", "jobs")
    cluster.watch.forgive(10_000)
    assert cluster.watch.complaint(10_000 + STALE_SECONDS) == ""
    assert cluster.watch.complaint(10_001 + STALE_SECONDS) != ""


def test_lock_differs_from_a_free_or_missing_file(tmp_path):
    path = tmp_path / "it's 100% here.sqlite3"
    assert not sqlite_is_locked(path)
    assert not path.exists()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE it (x)")
        assert not sqlite_is_locked(path)
        database.execute("BEGIN IMMEDIATE")
        assert sqlite_is_locked(path)
        database.execute("ROLLBACK")
        assert not sqlite_is_locked(path)


def test_web_server_that_does_not_respond_is_noticed_without_waiting_for_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        watch = WebWatch(server.getsockname(), "/", started=started)
        assert watch.complaint(started) == ""
        connection, _ = server.accept()
        with connection:
            wait_for(lambda: watch.complaint(started) or connection.recv(100).startswith(b"HEAD / "))
            connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
            wait_for(lambda: watch.complaint(started + 1) == "" and watch.answered == started + 1)
        # It accepts connections, and that is all.
        assert watch.complaint(started + 35) == ""
        assert "no response" in watch.complaint(started + 37)
        watch.end()
    assert watch.fileno() == -1


def test_web_server_that_refuses_connections_is_given_time_to_start():
    with socket.socket() as bound:
        # It isn't listening, and nobody else gets the port.
        bound.bind(("127.0.0.1", 0))
        watch = WebWatch(bound.getsockname(), "/", started=0)
        assert [watch.complaint(now) for now in (0, 1, 89)] == ["", "", ""]
        assert "no response" in watch.complaint(91)
