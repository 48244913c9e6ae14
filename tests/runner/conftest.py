"""A real runner on a DATA_DIR of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner import leftovers
from settings.place import BASE_DIR

START_SECONDS = 60
# What settings.test has put into the environment: a runner is started as people start it.
OF_THE_TESTS = {
    "DJANGO_SETTINGS_MODULE",
    "DATABASE_URL",
    "SECRET_KEY",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "SEATS",
    "MAKEFLAGS",
    "MAKELEVEL",
}


class Running:
    """`python -m runner`, and what there is of it."""

    def __init__(self, data_dir: Path, command: list[str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.output = data_dir.parent / f"{data_dir.name}.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in OF_THE_TESTS},
            "DATA_DIR": str(data_dir),
            "PORT": str(self.port),
        }
        self.start(command or [sys.executable, "-m", "runner"])

    def start(self, command: list[str]) -> None:
        self.started_at = time.time()
        with self.output.open("wb") as output:
            # A session of its own, as a terminal gives it: a signal to the group reaches nobody else.
            self.process = subprocess.Popen(
                command,
                cwd=BASE_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(f"http://127.0.0.1:{self.port}/sign-in/", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def wait_until_up(self) -> None:
        wait_for(lambda: self.answers() and self.is_well(), START_SECONDS, lambda: self.printed)

    def is_well(self) -> bool:
        """Whether all three children are there and jobs come through both clusters *now*."""
        begun = time.time()
        signs = [self.sign(cluster) for cluster in ("quarterdeck", "minutes")]
        wait_until = time.monotonic() + 8 * busyness()
        while time.monotonic() < wait_until:
            if all(sign.exists() and sign.stat().st_mtime > begun for sign in signs):
                return len(self.mains()) == 3
            time.sleep(0.1)
        return False

    def sign(self, cluster: str) -> Path:
        return next(iter((self.data_dir / "run").glob("*")), self.data_dir) / cluster / "jobs"

    def processes(self) -> list[psutil.Process]:
        """All that the runner has started, whoever their parent is now."""
        result = []
        for pid in leftovers.marked(self.data_dir.resolve()):
            try:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and name_of(process) != "runner":
                    result.append(process)
            except psutil.NoSuchProcess:
                pass
        return result

    def mains(self) -> dict[str, psutil.Process]:
        """The main process of each child: who leads a session."""
        return {
            name: process
            for process in self.processes()
            if os.getsid(process.pid) == process.pid and (name := name_of(process)) != "keeper"
        }

    def keeper(self) -> psutil.Process:
        (keeper,) = [process for process in self.processes() if name_of(process) == "keeper"]
        return keeper

    def session(self, main: psutil.Process) -> list[psutil.Process]:
        return [process for process in self.processes() if os.getsid(process.pid) == main.pid]

    def stop(self, send: Callable[[], object], *, within: float = 30) -> None:
        """Send a signal, and wait until nothing is left."""
        send()
        wait_for(
            lambda: self.process.poll() is not None and not self.processes(), within, lambda: self.printed
        )

    def clean_up(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        leftovers.kill(self.data_dir.resolve())


def name_of(process: psutil.Process) -> str:
    """The name of a part of the runner, as `ps` shows it too."""
    return "keeper" if "keeper.py" in " ".join(process.cmdline()) else process.name()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def busyness() -> float:
    """How many processes want each processor: on a busy machine everything takes this many times longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_for(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> None:
    """Wait for a state. seconds: at most, on a machine that does nothing else."""
    remaining, before = seconds, time.monotonic()
    while not condition():
        assert remaining > 0, f"not within {seconds:.0f} s of a quiet machine: {explain()}"
        time.sleep(0.1)
        now = time.monotonic()
        remaining -= (now - before) / busyness()
        before = now


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Running]:
    """One that many tests look at, and that none of them ends."""
    it = Running(tmp_path_factory.mktemp("run") / "data")
    try:
        it.wait_until_up()
        yield it
    finally:
        it.clean_up()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    """Starts one that the test may end as it likes."""
    started = []

    def start_one(command: list[str] | None = None, *, data_dir: Path | None = None) -> Running:
        started.append(Running(data_dir or tmp_path / "data", command))
        return started[-1]

    try:
        yield start_one
    finally:
        for each in started:
            each.clean_up()
