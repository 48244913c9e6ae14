"""Ticks of a minute worker while a snapshot is held, as `pg_dump` or an export holds one.

An hour of rpm 6,000 with 20 tasks, on PostgreSQL, without its pauses: ticks of 15 IDs, one after the other, each of
which claims what is due and records what was sent. One transaction looks at the database before the first and stays
open. Versions of counters that it may still want can't be removed, so each tick could cost more than the one before.
"""

import json
import os
import statistics
from datetime import UTC, datetime, timedelta

from benchmarks.rows import Row
from benchmarks.service import call, directory, migrate
from tests import postgresql

MINUTES = int(os.environ.get("BENCH_MINUTES", "60"))
RPM, TASKS, TICK_IDS = 6_000, 20, 15
BEGIN = datetime(2031, 3, 5, 12, 0, tzinfo=UTC)
# Requests are given to the sender half a second ahead; what a tick takes beyond that makes them late.
MOST_MS, LATE_MS = 150, 50


def run() -> list[Row]:
    """Measure, and return the rows."""
    rows: list[Row] = []
    with directory() as data_dir, postgresql.server() as url:
        migrate(data_dir, url)
        timings = [1000 * seconds for seconds in json.loads(call("snapshot", "measure", data_dir, url))]
    tenth = len(timings) // 10
    first, last = (sorted(part) for part in (timings[:tenth], timings[-tenth:]))
    p99 = last[int(len(last) * 0.99)]
    name = f"snapshot: held over {MINUTES} minutes of rpm {RPM:,} and {TASKS} tasks, a tick"
    rows += [
        _row(f"{name}, the slowest", max(timings), MOST_MS, "ms, at most"),
        _row(f"{name}, 99 of a hundred in the last tenth", p99, LATE_MS, "ms, at most"),
        _row(f"{name}, in the last tenth", statistics.median(last), None, "ms"),
        _row(f"{name}, in the first tenth", statistics.median(first), None, "ms"),
    ]
    return rows


def _row(name: str, value: float, limit: float | None, unit: str) -> Row:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "limit": limit,
        "ok": limit is None or value <= limit,
    }


def measure() -> None:
    """Print how many seconds each tick takes."""
    import psycopg

    from benchmarks import ticks
    from tests.scheduling.placed import make_queue, place

    queue = make_queue("bench", rpm=RPM, handler="webhook")
    minutes = [BEGIN + timedelta(minutes=number) for number in range(MINUTES)]
    each = RPM // TASKS
    for task in range(TASKS):
        ids = {
            minute: range(task * 10**6 + number * each, task * 10**6 + (number + 1) * each)
            for number, minute in enumerate(minutes)
        }
        place(queue, ids, at=BEGIN - timedelta(minutes=10), name=f"task {task}")
    timings: list[float] = []
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM scheduling_task")
        for minute in minutes:
            timings += ticks.claim_and_record(queue, minute, at_most=TICK_IDS)
    print(json.dumps(timings))


if __name__ == "__main__":
    import sys

    import django

    django.setup()
    globals()[sys.argv[1]](*sys.argv[2:])
