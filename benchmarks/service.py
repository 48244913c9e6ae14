"""Quarterdeck as people run it, on a directory and a database of its own, for as long as it is measured."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 90
STOP_SECONDS = 40


class Service:
    """`python -m runner`: the web processes and both clusters."""

    def __init__(self, data_dir: Path, database_url: str = "") -> None:
        self.port = free_port()
        self.environment = environment_of(data_dir, database_url) | {"PORT": str(self.port)}
        self._output = (data_dir / "run.log").open("wb")

    def __enter__(self) -> "Service":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runner"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            # Its own session: a signal meant for it reaches nobody else.
            start_new_session=True,
        )
        try:
            wait_until(self._answers, seconds=START_SECONDS)
            self.token = self.manage("create_token", "benchmark", "--scope", "write").strip()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
        self._output.close()

    def manage(self, *arguments: str) -> str:
        """Run `manage.py`; return what it prints."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, check=True, text=True
        ).stdout

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
        """One request with the token; the answer's JSON. headers: with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        extra_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **extra_headers})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:500]!r}")
        content: dict[str, Any] = json.loads(data)
        return content

    def written_bytes(self) -> int:
        """What its processes have written to disk so far."""
        total = 0
        for process in [self.process, *psutil.Process(self.process.pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += psutil.Process(process.pid).io_counters().write_bytes
        return total

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(Path(self._output.name).read_text())
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/sign-in/")
            return connection.getresponse().status == 200
        return False


def environment_of(data_dir: Path, database_url: str = "") -> dict[str, str]:
    """The environment of a process that works on a directory and a database of its own."""
    own_names = {"DATABASE_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE", "DATA_DIR", "SPOOL_DIR"}
    environment = {name: value for name, value in os.environ.items() if name not in own_names}
    environment |= {"DATA_DIR": str(data_dir), "LOG_LEVEL": "WARNING"}
    return environment | ({"DATABASE_URL": database_url} if database_url else {})


def migrate(data_dir: Path, database_url: str = "") -> None:
    """Make the tables, as `make run` does."""
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=environment_of(data_dir, database_url), check=True)


def start(
    module: str, act: str, data_dir: Path, database_url: str, *arguments: str
) -> "subprocess.Popen[str]":
    """Start a function of a module of benchmarks in a process of its own, on a directory and a database."""
    environment = environment_of(data_dir, database_url) | {
        "DJANGO_SETTINGS_MODULE": "settings.production",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    command = [sys.executable, "-m", f"benchmarks.{module}", act, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def call(module: str, act: str, data_dir: Path, database_url: str, *arguments: str) -> str:
    """Run a function of a module of benchmarks in a process of its own; return what it prints."""
    process = start(module, act, data_dir, database_url, *arguments)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{act} ended with {process.returncode}")
    return str(output)


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="qd-bench-", dir="/tmp") as path:
        yield Path(path)


def wait_until(true: Callable[[], bool], *, seconds: float, every: float = 0.02) -> None:
    """Raises TimeoutError where it isn't true in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(every)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
