"""The runner for real: it starts, it says who it is, it stops whole, and what is killed comes back."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from runner import leftovers
from settings.place import BASE_DIR
from tests.runner.conftest import OF_THE_TESTS, Running, name_of, wait_for


def test_runner_prints_its_address_and_the_first_password_once(running: Running):
    # It answers before the runner has noticed that it does.
    wait_for(lambda: f"http://127.0.0.1:{running.port}/" in running.printed, lambda: running.printed)
    assert "First operator: admin" in running.printed
    assert len(re.findall(r"Password \(shown once\): \S{16}\n", running.printed)) == 1


def test_processes_are_few_and_named(running: Running):
    expected = {
        "keeper": 1,
        # The main process and two workers.
        "web": 3,
        # The sentinel, and the process that hands out jobs and acknowledges them.
        "quarterdeck": 2,
        "quarterdeck job": 2,
        "minutes": 2,
        "minutes job": 3,
    }

    def names() -> Counter[str]:
        return Counter(name_of(process) for process in running.processes())

    # Workers are replaced now and then.
    wait_for(lambda: names() == expected, lambda: str(names()))
    assert set(running.mains()) == {"web", "quarterdeck", "minutes"}


def test_memory_is_shared_by_all_processes(running: Running):
    sizes = [process.memory_full_info().pss for process in running.processes()]
    assert sum(sizes) < 280 * 1024**2


def test_directories_are_private_to_their_owner(running: Running):
    for name, mode in {"": 0o700, "secret_key": 0o600, "spool": 0o700, "cache": 0o700, "run": 0o700}.items():
        assert stat.S_IMODE((running.data_dir / name).stat().st_mode) == mode, name


def test_files_are_private_to_their_owner(running: Running):
    # Static files are no secret, and Django gives them a mode of its own.
    files = [path for path in running.data_dir.rglob("*") if "static" not in path.parts]
    assert any(path.name.endswith("-wal") for path in files)
    assert [path for path in files if mode_of(path) & 0o077] == []


def mode_of(path: Path) -> int:
    """The rights to a file; none if it has been deleted meanwhile."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


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
        timeout=300,
    )
    assert second.returncode != 0
    assert "already running on this data" in second.stderr
    wait_for(running.is_well, lambda: running.printed)


def test_port_in_use_is_reported(running: Running, tmp_path):
    second = subprocess.run(
        [sys.executable, "-m", "runner"],
        cwd=BASE_DIR,
        env={**running.environment, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert second.returncode != 0
    assert f"PORT {running.port}" in second.stderr


def test_killed_cluster_main_process_is_replaced_without_orphans(running: Running):
    main = running.mains()["minutes"]
    before = running.session(main)
    assert len(before) > 3
    main.kill()
    wait_for(lambda: not any(process.is_running() for process in before), lambda: running.printed)
    running.wait_until_up()


def test_second_signal_does_not_interrupt_stopping(start):
    runner = start()
    runner.wait_until_up()

    def twice() -> None:
        os.killpg(runner.process.pid, signal.SIGTERM)
        os.kill(runner.process.pid, signal.SIGTERM)

    runner.stop(twice)
    assert runner.process.returncode == 0
    # The next one finds everything in order, and has no new password to show.
    again = start(data_dir=runner.data_dir)
    wait_for(again.answers, lambda: again.printed)
    assert "Password" not in again.printed
    again.stop(again.process.terminate)


KILLED = [
    ("web", "main"),
    ("web", "child"),
    ("quarterdeck", "main"),
    ("quarterdeck", "child"),
    ("minutes", "main"),
    ("minutes", "child"),
]


@pytest.mark.faults
@pytest.mark.parametrize(("name", "process_kind"), KILLED)
def test_killed_process_is_replaced(running: Running, name: str, process_kind: str):
    """main: the web server, or a cluster's sentinel. child: web workers; job workers and the courier, each in turn."""
    running.wait_until_up()
    main = running.mains()[name]
    for victim in [main] if process_kind == "main" else main.children():
        if not victim.is_running():
            continue
        session = running.session(running.mains()[name])
        victim.kill()
        if process_kind == "main":
            # Workers would take jobs with nobody to guard them.
            wait_for(lambda removed=session: not any(process.is_running() for process in removed))
        # A worker that was reading its pipe takes the lock on it into its grave: that is a wedged cluster.
        wait_for(lambda: running.answers() and running.is_well(), lambda: running.printed)


@pytest.mark.faults
@pytest.mark.parametrize("cluster", ["quarterdeck", "minutes"])
@pytest.mark.parametrize("frozen_part", ["workers", "sentinel", "courier"])
def test_stuck_cluster_is_replaced_within_a_minute(running: Running, cluster: str, frozen_part: str):
    running.wait_until_up()
    main = running.mains()[cluster]
    workers = [child for child in main.children() if name_of(child) == f"{cluster} job"]
    (courier,) = [child for child in main.children() if name_of(child) == cluster]
    frozen = {"workers": workers, "sentinel": [main], "courier": [courier]}[frozen_part]
    for process in frozen:
        process.suspend()
    wait_for(lambda: not main.is_running(), lambda: running.printed)
    running.wait_until_up()
    assert not any(process.is_running() for process in frozen)


@pytest.mark.faults
def test_cluster_with_all_workers_busy_is_left_alone(running: Running):
    running.wait_until_up()
    before = running.mains()["quarterdeck"]
    queue_sleep(running, 50, times=2)
    wait_for(lambda: len(list(running.sign("quarterdeck").parent.glob("busy-*"))) == 2)
    # 35 s without a sign would be too long for one that has nothing to do.
    wait_for(running.is_well, lambda: running.printed)
    assert running.mains()["quarterdeck"] == before


@pytest.mark.faults
def test_database_locked_for_a_minute_is_waited_for(running: Running):
    running.wait_until_up()
    before = running.mains()
    with closing(sqlite3.connect(running.data_dir / "quarterdeck.sqlite3", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(65)
        database.execute("ROLLBACK")
    wait_for(running.is_well, lambda: running.printed)
    assert running.mains() == before


@pytest.mark.faults
def test_stopping_does_not_wait_for_long_jobs(start):
    runner = start()
    runner.wait_until_up()
    queue_sleep(runner, 55, times=1)
    wait_for(lambda: any(runner.sign("quarterdeck").parent.glob("busy-*")))
    began = time.monotonic()
    runner.stop(runner.process.terminate)
    assert time.monotonic() - began < 50, "it waited for the job"


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_stop_signal_stops_the_runner_completely(start, number: signal.Signals):
    runner = start()
    runner.wait_until_up()
    runner.stop(lambda: os.killpg(runner.process.pid, number))


@pytest.mark.faults
@pytest.mark.parametrize("to", ["make", "the group", "an impatient group"])
def test_make_run_stops_completely(start, to: str):
    runner = start(["make", "run"])
    runner.wait_until_up()
    numbers = {
        "make": [signal.SIGTERM],
        "the group": [signal.SIGTERM],
        "an impatient group": [signal.SIGINT] * 3,
    }
    send = os.kill if to == "make" else os.killpg
    runner.stop(lambda: [send(runner.process.pid, number) for number in numbers[to]])
    assert "Stopped after" in runner.printed


@pytest.mark.faults
def test_runner_stops_while_it_is_preparing(start):
    runner = start()
    wait_for(lambda: (runner.data_dir / "runner.lock").exists())
    runner.stop(runner.process.terminate)


@pytest.mark.faults
def test_suspended_process_does_not_keep_the_others_from_stopping(start):
    runner = start()
    runner.wait_until_up()
    runner.mains()["quarterdeck"].suspend()
    runner.mains()["web"].children()[0].suspend()
    runner.stop(runner.process.terminate)


@pytest.mark.faults
def test_killed_runner_leaves_no_processes_for_long(start):
    runner = start()
    runner.wait_until_up()
    runner.process.kill()
    # The next one waits for the keeper to be done.
    again = start(data_dir=runner.data_dir)
    again.wait_until_up()
    assert not [process for process in again.processes() if process.create_time() < again.started_at]


@pytest.mark.faults
def test_next_start_ends_what_a_killed_keeper_left(start):
    runner = start()
    runner.wait_until_up()
    keeper, old = runner.keeper(), runner.processes()
    # Else the runner would notice, and start another.
    runner.process.send_signal(signal.SIGSTOP)
    keeper.kill()
    runner.process.kill()
    runner.process.wait()
    assert any(process.is_running() for process in old if name_of(process) != "keeper")
    again = start(data_dir=runner.data_dir)
    again.wait_until_up()
    assert not any(process.is_running() for process in old)


@pytest.mark.faults
def test_killed_keeper_is_replaced_and_knows_all_processes(start):
    runner = start()
    runner.wait_until_up()
    killed = runner.keeper()
    killed.kill()

    def is_replaced() -> bool:
        # The killed one may be there for a moment still.
        names = [name_of(each) for each in runner.processes() if each.pid != killed.pid]
        return names.count("keeper") == 1

    wait_for(is_replaced)
    runner.process.kill()
    wait_for(lambda: not runner.processes(), lambda: runner.printed)


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


@pytest.mark.parametrize("part", ["quarterdeck", "minutes"])
def test_cluster_with_wrong_settings_does_not_start(part, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS}
    done = subprocess.run(
        [sys.executable, "-m", "runner", part],
        cwd=BASE_DIR,
        env={**environment, "DATA_DIR": str(tmp_path), "PYTHON_HANDLERS": "nothing.is_there"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "nothing.is_there" in done.stderr
