"""Measure Quarterdeck beside its peers, and write the section "peers" of `benchmarks/RESULTS.md`: `make bench-peers`.

    python -m benchmarks.peers [--size N] [--rates 120,600] [--minutes N] [--peers NAME,...] [--cells NAME,...]

Each peer gets a new database for each cell. `fastest` is measured for one peer after the other. At a rate, and
with a fault, all of them run at the same time, so that all meet the same machine and the same fault.
"""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.__main__ import write_section
from benchmarks.peers import measures, table
from benchmarks.peers.measures import Measured
from benchmarks.peers.programs import PEERS, VENV, Peer, Program, install
from benchmarks.peers.stores import Stores, running
from benchmarks.service import directory

CELLS = ("fastest", "rate", "kills", "restart", "snapshot", "pool", "locks")


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    # So that it leaves nothing behind where it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen_names = options.peers.split(",") if options.peers else [peer.name for peer in PEERS]
    missing = install()
    cells_before, when = table.earlier()
    results = [Measured(peer, cells_before.get(peer.name, {})) for peer in PEERS]
    with directory() as path, running(path, VENV) as stores:
        measured = [result for result in results if result.peer.name in chosen_names]
        for result in measured:
            result.missing = _why_missing(result.peer, stores, missing, path)
            print(f"{result.peer.name} {result.peer.version} {result.missing}", flush=True)
        present = [result for result in measured if not result.missing]
        for cell in options.cells.split(","):
            print(f"--- {cell}", flush=True)
            columns = _columns(cell, options)
            # A ratio is one of two peers in the same run.
            for result in results:
                result.cells = {key: value for key, value in result.cells.items() if key not in columns}
            _measure(cell, present, stores, path, options)
            when |= dict.fromkeys(columns, _stamp(cell, options))
            for result in present:
                print(table.line(result, {}), flush=True)
            # After each, so that a run that is ended keeps what it has measured.
            table.keep(results, when)
            write_section("peers", table.page(results, _introduction(), when))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--size", type=int, default=20_000, help="jobs to enqueue and to run as fast as it goes"
    )
    parser.add_argument("--rates", default="120,600", help="jobs a minute")
    parser.add_argument("--minutes", type=int, default=2, help="how long a rate is kept")
    parser.add_argument("--peers", default="", help="only these")
    parser.add_argument("--cells", default=",".join(CELLS), help="only these")
    return parser.parse_args(arguments)


def _why_missing(peer: Peer, stores: Stores, missing: dict[str, str], path: Path) -> str:
    """Why a peer can't be started; "" where it can."""
    if peer.redis is not None and not stores.redis:
        return "there is no redis-server"
    if peer.name != PEERS[0].name:
        language = "node" if peer.program.endswith(".mjs") else "python"
        if language in missing:
            return _one_line(missing[language])
    try:
        Program(peer, stores, path / "first")
    except Exception as error:
        return _one_line(str(error))
    return ""


def _measure(
    cell: str, present: list[Measured], stores: Stores, path: Path, options: argparse.Namespace
) -> None:
    if cell == "fastest":
        for result in present:
            try:
                result.cells |= measures.fastest(result.peer, stores, path, options.size)
            except Exception as error:
                result.cells["enqueue"] = f"not measured: {_one_line(str(error))}"
    elif cell == "rate":
        for rpm in map(int, options.rates.split(",")):
            _paced(present, stores, path / f"rate {rpm}", rpm, options.minutes)
    else:
        _fault(cell, present, stores, path / cell)


def _paced(present: list[Measured], stores: Stores, path: Path, rpm: int, minutes: int) -> None:
    able = [result for result in present if result.peer.pacing]
    for result in present:
        if result not in able:
            result.cells[f"most {rpm}"] = "not measured: can't keep a rate"
    programs = _programs(able, stores, path)
    cells = measures.rates(programs, stores, rpm, minutes)
    for result in able:
        result.cells |= cells[result.peer.name]


def _fault(cell: str, present: list[Measured], stores: Stores, path: Path) -> None:
    held = measures.HeldSnapshot()
    faults: dict[str, Callable[..., None]] = {
        "kills": measures.kill_workers,
        "restart": measures.restart_database,
        "snapshot": held,
        "pool": measures.exhaust_connections(),
        "locks": measures.storm_locks,
    }
    able = [result for result in present if cell not in ("snapshot", "locks") or result.peer.redis is None]
    for result in present:
        if result not in able:
            result.cells[cell] = f"not measured: Redis has no {'snapshot' if cell == 'snapshot' else 'locks'}"
    try:
        cells = measures.outcomes(_programs(able, stores, path, measures.JOB_SECONDS), stores, faults[cell])
    finally:
        held.release()
    for result in able:
        result.cells[cell] = cells[result.peer.name]


def _programs(able: list[Measured], stores: Stores, path: Path, job_seconds: float = 0.0) -> list[Program]:
    stores.clear()
    return [Program(result.peer, stores, path, job_seconds=job_seconds) for result in able]


def _columns(cell: str, options: argparse.Namespace) -> list[str]:
    """The table's columns that a cell of the command line fills."""
    if cell == "fastest":
        return ["enqueue", "one", "no-op"]
    if cell == "rate":
        of_rate = [f"{what} {rpm}" for rpm in options.rates.split(",") for what in ("most", "even", "sent")]
        return [*of_rate, "memory"]
    return [cell]


def _stamp(cell: str, options: argparse.Namespace) -> str:
    sizes = {"fastest": f", {options.size:,} jobs", "rate": f", {options.minutes} min"}
    size = sizes.get(cell, f", looked at {measures.SETTLE_SECONDS} s after")
    return f"{datetime.now(UTC):%m-%d %H:%M}, load {os.getloadavg()[0]:.0f}{size}"


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or [text])[-1][-120:].replace("|", "/")


def _introduction() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python {platform.python_version()}; written "
        "by `make bench-peers`; the last line says when each column was measured, how much of it, and at which load of "
        f"the machine. A fault meets {measures.FAULT_RPM} jobs of {1000 * measures.JOB_SECONDS:.0f} ms in a minute. "
        "Lost / doubled / stuck: never started and forgotten / started more than once / not started when they were "
        "looked at, although the queue still has them. A job that a kill cut off and that isn't run again counts as "
        "started. Unevenness is the coefficient "
        "of variation of the starts in each second. Memory is that of all of a peer's processes at the rate, without "
        "its database; Quarterdeck's contains its web server. Quarterdeck's `no-op` is two processes that claim and "
        "record, since it never runs a list faster than its rate. The programs are in `benchmarks/peers/`, with the "
        "settings of each."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
