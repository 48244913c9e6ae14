"""The runner for real: it starts, it says who it is, it stops whole, and what is killed comes back."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing

import pytest

from runner import leftovers
from settings.place import BASE_DIR
from tests.runner.conftest import Running, name_of, wait_for


def test_runner_prints_its_address_and_the_first_password_once(running: Running):
    assert f"http://127.0.0.1:{running.port}/" in running.said
    assert "First operator: admin" in running.said
    assert len(re.findall(r"Password \(shown once\): \S{16}\n", running.said)) == 1


def test_clusters_run_as_qcluster(running: Running):
    mains = running.mains()
    assert set(mains) == {"web", "quarterdeck", "minutes"}
    for cluster in ("quarterdeck", "minutes"):
        assert mains[cluster].cmdline()[-1] == "qcluster"


def test_directories_are_private_to_their_owner(running: Running):
    for name, mode in {"": 0o700, "secret_key": 0o600, "spool": 0o700, "cache": 0o700, "run": 0o700}.items():
        assert stat.S_IMODE((running.data_dir / name).stat().st_mode) == mode, name


def test_files_are_private_to_their_owner(running: Running):
    # Static files are no secret, and Django gives them a mode of its own.
    kept = [path for path in running.data_dir.rglob("*") if "static" not in path.parts]
    assert any(path.name.endswith("-wal") for path in kept)
    assert [path for path in kept if path.exists() and path.stat().st_mode & 0o077] == []


def test_files_of_a_killed_process_are_cleared_from_the_spool(tmp_path):
    for name, age in (("new.upload", 0), ("old.upload", 7200)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    leftovers.clear_spool(tmp_path, older_than=3600)
    assert [path.name for path in tmp_path.iterdir()] == ["new.upload"]
    leftovers.clear_spool(tmp_path, older_than=0)
    assert list(tmp_path.iterdir()) == []


def test_database_that_others_could_read_is_made_private(tmp_path):
    for name in ("deck.sqlite3", "deck.sqlite3-wal"):
        (tmp_path / name).touch(0o644)
    leftovers.make_private(tmp_path / "deck.sqlite3")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_second_runner_on_the_same_data_says_so_and_stops(running: Running):
    second = subprocess.run(
        [sys.executable, "-m", "runner"],
        cwd=BASE_DIR,
        env={**running.environment, "PORT": "1"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode != 0
    assert "already running on this data" in second.stderr
    assert running.is_well()


def test_port_in_use_is_reported(running: Running, tmp_path):
    second = subprocess.run(
        [sys.executable, "-m", "runner"],
        cwd=BASE_DIR,
        env={**running.environment, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode != 0
    assert f"PORT {running.port}" in second.stderr


def test_killed_cluster_main_process_is_replaced_without_orphans(running: Running):
    main = running.mains()["minutes"]
    before = running.session(main)
    assert len(before) > 3
    main.kill()
    wait_for(lambda: not any(process.is_running() for process in before), 5, lambda: running.said)
    running.wait_until_up()


def test_second_signal_does_not_interrupt_stopping(start):
    one = start()
    one.wait_until_up()

    def twice() -> None:
        os.killpg(one.process.pid, signal.SIGTERM)
        os.kill(one.process.pid, signal.SIGTERM)

    assert one.stop(twice) < 30
    assert one.process.returncode == 0
    # The next one finds everything in order, and has no new password to show.
    again = start(data_dir=one.data_dir)
    wait_for(again.answers, 30, lambda: again.said)
    assert "Password" not in again.said
    assert again.stop(again.process.terminate) < 30


KILLED = [
    ("web", "main"),
    ("web", "child"),
    ("quarterdeck", "main"),
    ("quarterdeck", "child"),
    ("quarterdeck", "grandchild"),
    ("minutes", "child"),
    ("minutes", "grandchild"),
]


@pytest.mark.faults
@pytest.mark.parametrize(("name", "which"), KILLED)
def test_killed_process_is_replaced(running: Running, name: str, which: str):
    """child: a web worker, or a cluster's sentinel. grandchild: workers, pusher and monitor, each in turn."""
    running.wait_until_up()
    main = running.mains()[name]
    victims = {
        "main": lambda: [main],
        "child": main.children,
        "grandchild": lambda: main.children()[0].children(),
    }[which]()
    for victim in victims:
        if not victim.is_running():
            continue
        session = running.session(running.mains()[name])
        victim.kill()
        if which == "child" and name != "web":
            # The sentinel's workers would take jobs with nobody to guard them.
            wait_for(lambda gone=session: not any(process.is_running() for process in gone), 5)
        # A worker that was reading its pipe takes the lock on it into its grave: that is a wedged cluster.
        wait_for(lambda: running.answers() and running.is_well(), 60, lambda: running.said)


@pytest.mark.faults
@pytest.mark.parametrize("cluster", ["quarterdeck", "minutes"])
@pytest.mark.parametrize("who", ["workers", "sentinel", "pusher or monitor"])
def test_stuck_cluster_is_replaced_within_a_minute(running: Running, cluster: str, who: str):
    running.wait_until_up()
    main = running.mains()[cluster]
    (sentinel,) = main.children()
    # They are started in this order: workers, monitor, pusher.
    *workers, monitor, pusher = sorted(sentinel.children(), key=lambda process: process.pid)
    frozen = {"workers": workers, "sentinel": [sentinel], "pusher or monitor": [pusher, monitor]}[who]
    for process in frozen:
        process.suspend()
    wait_for(lambda: not main.is_running(), 60, lambda: running.said)
    running.wait_until_up()
    assert not any(process.is_running() for process in frozen)


@pytest.mark.faults
def test_cluster_with_all_workers_busy_is_left_alone(running: Running):
    running.wait_until_up()
    before = running.mains()["quarterdeck"]
    queue_sleep(running, 50, times=2)
    wait_for(lambda: len(list(running.sign("quarterdeck").parent.glob("busy-*"))) == 2, 20)
    # 35 s without a sign would be too long for one that has nothing to do.
    wait_for(running.is_well, 70, lambda: running.said)
    assert running.mains()["quarterdeck"] == before


@pytest.mark.faults
def test_database_locked_for_a_minute_is_waited_for(running: Running):
    running.wait_until_up()
    before = running.mains()
    with closing(sqlite3.connect(running.data_dir / "quarterdeck.sqlite3", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(65)
        database.execute("ROLLBACK")
    wait_for(running.is_well, 20, lambda: running.said)
    assert running.mains() == before


@pytest.mark.faults
def test_stopping_does_not_wait_for_long_jobs(start):
    one = start()
    one.wait_until_up()
    queue_sleep(one, 55, times=1)
    wait_for(lambda: any(one.sign("quarterdeck").parent.glob("busy-*")), 20)
    assert one.stop(one.process.terminate) < 30


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_stop_signal_stops_the_runner_completely(start, number: signal.Signals):
    one = start()
    one.wait_until_up()
    assert one.stop(lambda: os.killpg(one.process.pid, number)) < 30


@pytest.mark.faults
@pytest.mark.parametrize("to", ["make", "the group", "an impatient group"])
def test_make_run_stops_completely(start, to: str):
    one = start(["make", "run"])
    one.wait_until_up()
    numbers = {
        "make": [signal.SIGTERM],
        "the group": [signal.SIGTERM],
        "an impatient group": [signal.SIGINT] * 3,
    }
    send = os.kill if to == "make" else os.killpg
    one.stop(lambda: [send(one.process.pid, number) for number in numbers[to]])
    assert "Stopped after" in one.said


@pytest.mark.faults
def test_runner_stops_while_it_is_preparing(start):
    one = start()
    wait_for(lambda: (one.data_dir / "runner.lock").exists(), 10)
    assert one.stop(one.process.terminate) < 10


@pytest.mark.faults
def test_suspended_process_does_not_keep_the_others_from_stopping(start):
    one = start()
    one.wait_until_up()
    one.mains()["quarterdeck"].suspend()
    one.mains()["web"].children()[0].suspend()
    assert one.stop(one.process.terminate) < 30


@pytest.mark.faults
def test_killed_runner_leaves_no_processes_for_long(start):
    one = start()
    one.wait_until_up()
    one.process.kill()
    # The next one waits for the keeper to be done.
    again = start(data_dir=one.data_dir)
    again.wait_until_up()
    assert not [process for process in again.processes() if process.create_time() < again.started_at]


@pytest.mark.faults
def test_next_start_ends_what_a_killed_keeper_left(start):
    one = start()
    one.wait_until_up()
    keeper, old = one.keeper(), one.processes()
    # Else the runner would notice, and start another.
    one.process.send_signal(signal.SIGSTOP)
    keeper.kill()
    one.process.kill()
    one.process.wait()
    assert any(process.is_running() for process in old if name_of(process) != "keeper")
    again = start(data_dir=one.data_dir)
    again.wait_until_up()
    assert not any(process.is_running() for process in old)


@pytest.mark.faults
def test_killed_keeper_is_replaced_and_knows_all_processes(start):
    one = start()
    one.wait_until_up()
    one.keeper().kill()
    wait_for(lambda: len([each for each in one.processes() if name_of(each) == "keeper"]) == 1, 5)
    one.process.kill()
    wait_for(lambda: not one.processes(), 15, lambda: one.said)


SLEEP = """
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signing import SignedPackage
# Straight into the table: what is queued in the usual way must be a job of ours.
for number in range(TIMES):
    job = {"id": f"{number:032x}", "name": "sleep", "func": "time.sleep", "args": (SECONDS,), "kwargs": {},
           "started": timezone.now(), "save": False, "ack_failure": True}
    OrmQ.objects.create(key="quarterdeck", payload=SignedPackage.dumps(job), lock=timezone.now())
"""


def queue_sleep(running: Running, seconds: int, *, times: int) -> None:
    script = SLEEP.replace("TIMES", str(times)).replace("SECONDS", str(seconds))
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", script],
        cwd=BASE_DIR,
        env=running.environment,
        check=True,
    )
