"""The cells: what is done to each peer, and what its starts then say."""

import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.peers.programs import OURS, STARTS, Peer, Program
from benchmarks.peers.stores import Stores, tables
from benchmarks.service import ROOT
from scheduling.core.receipt_chain import Busiest

ADDED = 200
FASTEST_SECONDS = 60
ENQUEUE_SECONDS = 600
# Until workers that were just started are ready; the paced cells begin at the next full minute after it.
READY_SECONDS = 40
FAULT_SECONDS = 60
FAULTS_AT = (10, 20, 30, 40, 50)
FAULT_RPM, JOB_SECONDS = 600, 0.05
SETTLE_SECONDS = 120

Cells = dict[str, float | str]


@dataclass
class Measured:
    """cells: by their column; a text says why one isn't measured. missing: why the peer couldn't be started."""

    peer: Peer
    cells: Cells = field(default_factory=dict)
    missing: str = ""


# --- As fast as it goes ---


def fastest(peer: Peer, stores: Stores, directory: Path, size: int) -> Cells:
    """Enqueue `size` jobs and let them run; in a new database add some one by one."""
    cells: Cells = {}
    stores.clear()
    program = Program(peer, stores, directory / "fastest")
    cells["enqueue"] = size / program.ask("enqueue", size, 0, seconds=ENQUEUE_SECONDS)["seconds"]
    program.start(0)
    try:
        until = time.monotonic() + FASTEST_SECONDS
        while time.monotonic() < until and len(program.starts()) < size:
            time.sleep(0.5)
    finally:
        program.stop()
    cells["no-op"] = rate_of([at for _, at in program.starts()]) or "not measured: nothing ran"
    stores.clear()
    program = Program(peer, stores, directory / "one by one")
    added = program.ask("add", ADDED, seconds=ENQUEUE_SECONDS)["seconds"]
    cells["one"] = 1000 * statistics.median(added)
    return cells


def rate_of(times: Iterable[float]) -> float:
    """Starts a second from the first to the last."""
    ordered = sorted(times)
    return (len(ordered) - 1) / (ordered[-1] - ordered[0]) if len(ordered) > 1 else 0.0


# --- A rate, and faults ---


Fault = Callable[[Sequence[Program], Stores, int], None]


@dataclass
class Run:
    """All programs at the same time, from a full minute on: what meets one meets all."""

    programs: list[Program]
    stores: Stores
    rpm: int
    count: int
    memory: dict[str, float] = field(default_factory=dict)

    def go(self, seconds: float, settle: float, fault: Fault | None) -> float:
        """Run; return when it began."""
        begin = (int(time.time() + READY_SECONDS) // 60 + 1) * 60
        enqueuing: list[subprocess.Popen[bytes]] = []
        try:
            for program in self.programs:
                program.environment["PEER_START"] = str(begin)
                program.start(self.rpm)
            # Where starts are given, they are given beforehand; a limit applies from when there is something to do.
            early = [each for each in self.programs if each.peer.name == OURS or each.peer.pacing == STARTS]
            enqueuing = [self._enqueue(program) for program in early]
            _wait_until(begin)
            enqueuing += [self._enqueue(program) for program in self.programs if program not in early]
            for second in range(1, int(seconds) + 1):
                _wait_until(begin + second)
                self._revive()
                if fault:
                    fault(self.programs, self.stores, second)
                elif second == seconds // 2:
                    self.memory = {program.peer.name: program.memory() for program in self.programs}
            until = begin + seconds + settle
            while time.time() < until and any(self._missing(program) for program in self.programs):
                self._revive()
                time.sleep(1)
        finally:
            for process in enqueuing:
                process.wait(ENQUEUE_SECONDS)
            for program in self.programs:
                program.stop()
        return begin

    def _revive(self) -> None:
        for program in self.programs:
            program.revive(self.rpm)

    def _enqueue(self, program: Program) -> "subprocess.Popen[bytes]":
        with (program.directory / "enqueue.log").open("ab") as log:
            return subprocess.Popen(
                program.command("enqueue", self.count, self.rpm),
                cwd=ROOT,
                env=program.environment,
                stdout=log,
                stderr=log,
            )

    def _missing(self, program: Program) -> int:
        return self.count - len({number for number, _ in program.starts()})


def rates(programs: list[Program], stores: Stores, rpm: int, minutes: int) -> dict[str, Cells]:
    """Keep a rate for some minutes."""
    run = Run(programs, stores, rpm, rpm * minutes)
    begin = run.go(60 * minutes, 0, None)
    cells: dict[str, Cells] = {}
    for program in programs:
        times = sorted(at for _, at in program.starts() if at < begin + 60 * minutes)
        if not times:
            cells[program.peer.name] = {f"most {rpm}": "not measured: nothing started"}
            continue
        cells[program.peer.name] = {
            f"most {rpm}": most_in_a_minute(times),
            f"even {rpm}": unevenness(times, begin, 60 * minutes),
            f"sent {rpm}": len(times) / run.count,
            "memory": run.memory.get(program.peer.name, 0.0) or "not measured",
        }
    return cells


def most_in_a_minute(times: Sequence[float]) -> int:
    """The largest number of starts in any 60 s. times: in seconds, ascending."""
    busiest = Busiest()
    for at in times:
        busiest.add(round(1000 * at))
    return busiest.most


def unevenness(times: Sequence[float], begin: float, seconds: int) -> float:
    """The coefficient of variation of the starts in each second."""
    counted = Counter(int(at - begin) for at in times)
    counts = [counted[second] for second in range(seconds)]
    mean = statistics.mean(counts)
    return statistics.pstdev(counts) / mean if mean else 0.0


def outcomes(programs: list[Program], stores: Stores, fault: Fault) -> dict[str, str]:
    """A minute of jobs with a fault, and then time to recover: how many were lost, doubled and stuck."""
    count = FAULT_RPM * FAULT_SECONDS // 60
    run = Run(programs, stores, FAULT_RPM, count)
    run.go(FAULT_SECONDS, SETTLE_SECONDS, fault)
    return {program.peer.name: _outcome(program, count) for program in programs}


def _outcome(program: Program, count: int) -> str:
    enqueued = _enqueued(program)
    if enqueued:
        return f"not measured: {enqueued}"
    lost, doubled, stuck = judge([number for number, _ in program.starts()], count, program.pending())
    return f"{lost} / {doubled} / {stuck}"


def _enqueued(program: Program) -> str:
    """Why jobs weren't all enqueued: then a fault met who enqueues, and not the workers."""
    log = program.directory / "enqueue.log"
    if not log.exists() or '{"seconds"' in log.read_text():
        return ""
    return "enqueuing them failed"


def judge(numbers: Sequence[int], count: int, pending: int) -> tuple[int, int, int]:
    """Lost, doubled, stuck: never started and forgotten; started more than once; never started, and still pending.

    numbers: of every start. pending: how many jobs the queue itself says haven't ended.
    """
    starts = Counter(numbers)
    never = count - len(starts)
    stuck = min(never, pending)
    return never - stuck, sum(1 for times in starts.values() if times > 1), stuck


# --- Faults: each is called once a second ---


def kill_workers(programs: Sequence[Program], stores: Stores, second: int) -> None:
    if second in FAULTS_AT:
        for program in programs:
            program.kill_workers(FAULT_RPM)


def restart_database(programs: Sequence[Program], stores: Stores, second: int) -> None:
    if second in FAULTS_AT[1::2]:
        for store in stores.all:
            store.restart()


class HeldSnapshot:
    """In each database one transaction looks at everything before the first job, and stays open to the end."""

    def __init__(self) -> None:
        self._connections: list[Any] = []

    def __call__(self, programs: Sequence[Program], stores: Stores, second: int) -> None:
        if second == 1:
            for program in _with_database(programs):
                connection = psycopg.connect(program.database_url)
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                connection.execute("SELECT count(*) FROM pg_class")
                self._connections.append(connection)

    def release(self) -> None:
        for connection in self._connections:
            connection.close()


def exhaust_connections() -> Fault:
    """For ten seconds twice, others hold every connection that was free, and take those that become free."""
    taken: list[Any] = []

    def fault(programs: Sequence[Program], stores: Stores, second: int) -> None:
        if any(at <= second < at + 10 for at in FAULTS_AT[0:4:2]):
            for store in stores.all:
                taken.extend(store.take_connections())
        else:
            while taken:
                taken.pop().close()

    return fault


def storm_locks(programs: Sequence[Program], stores: Stores, second: int) -> None:
    """In every second one, all tables of each database are locked against everything, for a second."""
    if second % 2 and second >= FAULTS_AT[0]:
        for program in _with_database(programs):
            threading.Thread(target=_lock, args=(program.database_url,), daemon=True).start()


def _lock(url: str) -> None:
    try:
        with psycopg.connect(url) as connection:
            connection.execute("SET LOCAL lock_timeout = '2s'")
            names = tables(connection)
            connection.execute(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE".encode())
            time.sleep(1)
    except psycopg.Error as error:
        # The peer's own locks came first: that second is without a storm.
        print(f"locks: {str(error).splitlines()[0]}", file=sys.stderr)


def _with_database(programs: Sequence[Program]) -> list[Program]:
    return [program for program in programs if program.database_url]


def _wait_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))
