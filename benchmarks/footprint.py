"""What an idle installation takes, as somebody with a small server pays for it: `make run` on SQLite.

Processes, their memory with each shared page counted once (PSS), and the processor time of a minute in which nothing
is to be done.
"""

import re
import time
from pathlib import Path

import psutil

from benchmarks.rows import Row
from benchmarks.service import Service, directory

SETTLING_SECONDS, SECONDS = 20.0, 60.0


def run() -> list[Row]:
    """Measure, and return the rows."""
    with directory() as data_dir, Service(data_dir) as service:
        time.sleep(SETTLING_SECONDS)
        processes = _processes(service)
        memory = sum(_pss_kib(process.pid) for process in processes) / 1024
        before, began = _seconds(processes), time.monotonic()
        time.sleep(SECONDS)
        share = 100 * (_seconds(processes) - before) / (time.monotonic() - began)
    return [
        _row("processes", len(processes), "at most", 12),
        _row("memory", memory, "MiB, at most", 250),
        _row("processor", share, "% of a core, at most", 1.5),
    ]


def _processes(service: Service) -> list[psutil.Process]:
    runner = psutil.Process(service.process.pid)
    return [runner, *runner.children(recursive=True)]


def _pss_kib(pid: int) -> int:
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _row(name: str, value: float, unit: str, limit: float) -> Row:
    return {
        "name": f"footprint: {name}",
        "value": round(value, 2),
        "unit": unit,
        "limit": limit,
        "ok": value <= limit,
    }
