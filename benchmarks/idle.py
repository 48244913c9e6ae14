"""What an installation costs that has nothing to do: questions to its database, and CPU time of its clusters."""

import os
import time
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import psutil

from benchmarks.rows import Row
from benchmarks.service import Service, directory
from tests import far_database, postgresql

SECONDS = float(os.environ.get("BENCH_IDLE_SECONDS", "60"))
SETTLE_SECONDS = 20
MOST_QUESTIONS = 10
MOST_CPU_PERCENT = 2
CLUSTERS = ("quarterdeck", "minutes")


def run() -> list[Row]:
    """Measure, and return the rows."""
    with directory() as data_dir, directory() as socket_dir, postgresql.server() as url:
        parts = urlsplit(url)
        database = {"HOST": parse_qs(parts.query)["host"][0], "PORT": ""}
        with far_database.way_to(database, socket_dir) as way:
            query = urlencode({"host": str(socket_dir)})
            with Service(data_dir, urlunsplit(parts._replace(query=query))) as service:
                time.sleep(SETTLE_SECONDS)
                return _measure(way, service)


def _measure(way: far_database.Way, service: Service) -> list[Row]:
    before, trips_before, began = _cpu_seconds(service), way.round_trips, time.monotonic()
    time.sleep(SECONDS)
    seconds = time.monotonic() - began
    questions, after = (way.round_trips - trips_before) / seconds, _cpu_seconds(service)
    name = "idle: questions to PostgreSQL of one machine"
    rows = [
        Row(
            name=name,
            value=round(questions, 1),
            unit="a second, at most",
            limit=MOST_QUESTIONS,
            ok=questions <= MOST_QUESTIONS,
        )
    ]
    for cluster, used in sorted(after.items()):
        percent = 100 * (used - before.get(cluster, 0.0)) / seconds
        rows.append(
            Row(
                name=f"idle: CPU of the cluster {cluster}",
                value=round(percent, 2),
                unit="% of a core, at most",
                limit=MOST_CPU_PERCENT,
                ok=percent <= MOST_CPU_PERCENT,
            )
        )
    return rows


def _cpu_seconds(service: Service) -> dict[str, float]:
    """CPU seconds of each cluster so far."""
    used: dict[str, float] = {}
    for process in psutil.Process(service.process.pid).children(recursive=True):
        try:
            cluster = process.name().partition(" ")[0]
            if cluster in CLUSTERS:
                used[cluster] = used.get(cluster, 0.0) + sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return used


if __name__ == "__main__":
    for row in run():
        print(row)
