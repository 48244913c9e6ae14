"""The peers, and their programs as processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.stores import Stores
from benchmarks.service import ROOT, environment_of, free_port

HERE = Path(__file__).resolve().parent
INSTALLED = ROOT / "var" / "peers"
VENV, NODE = INSTALLED / "venv", INSTALLED / "node"
OURS = "Quarterdeck"
SETUP_SECONDS, PENDING_SECONDS, STOP_SECONDS = 300, 60, 15


@dataclass(frozen=True)
class Peer:
    """pacing: how it keeps a rate; "" where it can't. redis: the number of its database there; None: PostgreSQL."""

    name: str
    program: str
    pacing: str
    redis: int | None = None

    @property
    def package(self) -> str:
        return self.name.lower()

    @cached_property
    def version(self) -> str:
        """As pinned. Ours is this tree's."""
        if self.name == OURS:
            return "this tree"
        if self.program.endswith(".mjs"):
            dependencies = json.loads((HERE / "package.json").read_text())["dependencies"]
            return str(dependencies[self.package])
        pinned = re.search(rf"^{self.package}==(\S+)", (HERE / "requirements.txt").read_text(), re.MULTILINE)
        assert pinned, self.package
        return pinned[1]


LIMIT, STARTS = "its limit", "start times"
PEERS = (
    Peer(OURS, "quarterdeck_jobs", LIMIT),
    Peer("procrastinate", "procrastinate_jobs", STARTS),
    Peer("django-q2", "django_q2_jobs", ""),
    Peer("huey", "huey_jobs", STARTS),
    Peer("graphile-worker", "graphile_worker_jobs.mjs", STARTS),
    Peer("pg-boss", "pg_boss_jobs.mjs", STARTS),
    Peer("celery", "celery_jobs", LIMIT, redis=0),
    Peer("DBOS", "dbos_jobs", LIMIT),
    Peer("BullMQ", "bullmq_jobs.mjs", LIMIT, redis=1),
)


def install() -> dict[str, str]:
    """Make the peers' environments in var/peers; return why those that couldn't be made are missing."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    missing = {}
    if error := _install_python():
        missing["python"] = error
    if error := _install_node():
        missing["node"] = error
    return missing


def _install_python() -> str:
    uv = str(Path(sys.executable).with_name("uv"))
    python = VENV / "bin" / "python"
    if not python.exists() and (
        error := _run([uv, "venv", "--quiet", "--python", sys.executable, str(VENV)])
    ):
        return error
    return _run([uv, "pip", "sync", "--quiet", "--python", str(python), str(HERE / "requirements.txt")])


def _install_node() -> str:
    if not shutil.which("npm"):
        return "there is no npm"
    NODE.mkdir(exist_ok=True)
    lock = (HERE / "package-lock.json").read_bytes()
    stamp = NODE / "installed-lock.json"
    for source in [*HERE.glob("*.mjs"), *HERE.glob("package*.json")]:
        shutil.copy(source, NODE)
    if (NODE / "node_modules").exists() and stamp.exists() and stamp.read_bytes() == lock:
        return ""
    if error := _run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=NODE):
        return error
    stamp.write_bytes(lock)
    return ""


def _run(command: list[str], cwd: Path = ROOT) -> str:
    """Return "" or the last line that it printed."""
    try:
        done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return str(error)
    return "" if not done.returncode else (done.stdout.strip().splitlines() or ["it failed"])[-1]


class Program:
    """A peer with an empty database and a record of its own."""

    def __init__(self, peer: Peer, stores: Stores, directory: Path, *, job_seconds: float = 0.0) -> None:
        self.peer = peer
        self.directory = directory / peer.package
        prepared = stores.prepared.get(peer.package)
        if prepared:
            shutil.copytree(prepared, self.directory)
        else:
            self.directory.mkdir(parents=True)
        self.record = self.directory / "record"
        self.database_url = ""
        if peer.redis is None:
            empty = f"{peer.package}-empty"
            names = (peer.package, empty) if prepared else (empty,)
            self.database_url = stores.postgresql.create(*names)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if peer.name == OURS:
            self.environment = environment_of(self.directory, self.database_url) | {
                "DJANGO_SETTINGS_MODULE": "settings.production",
                "PYTHON_HANDLERS": "benchmarks.peers.record.start_batch",
                "PORT": str(free_port()),
            }
        self.environment |= {
            "PEER_DATABASE_URL": self.database_url,
            "PEER_RECORD": str(self.record),
            "PEER_JOB_SECONDS": str(job_seconds),
        }
        if peer.redis is not None and stores.redis:
            self.environment["PEER_REDIS_URL"] = stores.redis.url(peer.redis)
        self.worker: subprocess.Popen[bytes] | None = None
        if not prepared:
            self.ask("setup", seconds=SETUP_SECONDS)
            stores.prepared[peer.package] = self.directory

    def command(self, *arguments: object) -> list[str]:
        words = [str(argument) for argument in arguments]
        if self.peer.program.endswith(".mjs"):
            return ["node", str(NODE / self.peer.program), *words]
        python = sys.executable if self.peer.name == OURS else str(VENV / "bin" / "python")
        return [python, "-m", f"benchmarks.peers.{self.peer.program}", *words]

    def ask(self, *arguments: object, seconds: float) -> dict[str, Any]:
        """Its answer. Raises RuntimeError where it fails, TimeoutExpired where it takes longer."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
        if done.returncode:
            raise RuntimeError(f"{self.peer.name} {arguments}: {done.stderr.decode(errors='replace')[-800:]}")
        lines = done.stdout.decode().strip().splitlines()
        answer: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return answer

    def pending(self) -> int:
        return int(self.ask("pending", seconds=PENDING_SECONDS)["count"])

    def start(self, rpm: int) -> None:
        with (self.directory / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                self.command("work", rpm),
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """The worker's, itself first."""
        if self.worker:
            with suppress(psutil.NoSuchProcess):
                first = psutil.Process(self.worker.pid)
                return [first, *first.children(recursive=True)]
        return []

    def kill_workers(self, rpm: int) -> None:
        """kill -9 all of them. Quarterdeck's own supervisor starts them again; what has none is started here."""
        processes = self.processes()
        supervised = self.peer.name == OURS
        for process in processes[1:] if supervised else processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not supervised and self.worker:
            with suppress(ProcessLookupError):
                os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
            self.start(rpm)

    def revive(self, rpm: int) -> None:
        """Start it again where it has ended by itself, as a supervisor does."""
        if self.worker and self.worker.poll() is not None:
            self.start(rpm)

    def stop(self) -> None:
        processes = self.processes()
        if self.worker:
            with suppress(ProcessLookupError):
                self.worker.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.worker.wait(STOP_SECONDS)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.worker:
            # What lost its parent when workers were killed is still in its group.
            with suppress(ProcessLookupError):
                os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
        self.worker = None

    def memory(self) -> float:
        """MiB of all its processes; what they share is counted once."""
        total = 0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total / 2**20

    def starts(self) -> list[tuple[int, float]]:
        """Each start: its number and its time."""
        if not self.record.exists():
            return []
        lines = self.record.read_text().splitlines()
        return [(number, at) for number, at in map(json.loads, lines)]
