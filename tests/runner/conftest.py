"""A real runner on a DATA_DIR of its own."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from runner import leftovers
from settings.place import BASE_DIR
from tests.patience import reserved_port

# In seconds of a machine that does nothing else: a cluster that is stuck is noticed and replaced within a minute.
PATIENCE_SECONDS = 90.0
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

    def __init__(self, data_dir: Path, port: int, command: list[str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = port
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
        wait_for(lambda: self.answers() and self.is_well(), lambda: self.printed)

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

    def stop(self, send: Callable[[], object]) -> None:
        """Send a signal, and wait until nothing is left."""
        send()
        wait_for(lambda: self.process.poll() is not None and not self.processes(), lambda: self.printed)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        leftovers.kill(self.data_dir.resolve())


def name_of(process: psutil.Process) -> str:
    """The name of a part of the runner, as `ps` shows it too."""
    return "keeper" if "keeper.py" in " ".join(process.cmdline()) else process.name()


def busyness() -> float:
    """How many processes want each processor: on a busy machine everything takes this many times longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_for(condition: Callable[[], bool], explain: Callable[[], str] = str) -> None:
    """Wait for a state, for a minute of a machine that does nothing else, and for much longer on a busy one."""
    remaining, before = PATIENCE_SECONDS, time.monotonic()
    while not condition():
        assert remaining > 0, f"not within {PATIENCE_SECONDS:.0f} s of a quiet machine: {explain()}"
        time.sleep(0.1)
        now = time.monotonic()
        remaining -= (now - before) / busyness()
        before = now


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Running]:
    """One that many tests look at, and that none of them ends."""
    with reserved_port() as port:
        it = Running(tmp_path_factory.mktemp("run") / "data", port)
        try:
            it.wait_until_up()
            yield it
        finally:
            it.clean_up()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    """Starts one that the test may end as it likes."""
    with ExitStack() as stack:

        def start_one(command: list[str] | None = None, *, data_dir: Path | None = None) -> Running:
            port = stack.enter_context(reserved_port())
            running = Running(data_dir or tmp_path / "data", port, command)
            stack.callback(running.clean_up)
            return running

        yield start_one
