"""What a row costs in PostgreSQL's log (WAL) from waiting to succeeded, and how many updates leave the indexes alone.

Ticks of minute workers as they are, without the requests: IDs of one minute are claimed and their results recorded
(as for a webhook), or recorded at once. Everything that the ticks write is counted, the counters too; a checkpoint
comes first, so that each page is written once as a whole.
"""

import json
import os
from datetime import UTC, datetime, timedelta

from benchmarks.rows import Row
from benchmarks.service import call, directory, migrate
from tests import postgresql

IDS = int(os.environ.get("BENCH_WAL_IDS", "100000"))
# What a tick claims: a quarter of a second of rpm 240,000, at which a million IDs take some minutes.
TICK_IDS = 1_000
MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)
MOST_BYTES = {"webhook": 400, "record": 250}


def run() -> list[Row]:
    """Measure, and return the rows."""
    rows: list[Row] = []
    with directory() as data_dir, postgresql.server() as url:
        migrate(data_dir, url)
        for way, limit in MOST_BYTES.items():
            result = json.loads(call("wal", "measure", data_dir, url, way))
            each, heap_only = result["bytes"] / IDS, result["heap_only"] / result["updates"]
            name = f"wal: {IDS:,} IDs from waiting to succeeded, {way}"
            rows += [
                Row(name=name, value=round(each), unit="bytes an ID, at most", limit=limit, ok=each <= limit),
                Row(
                    name=f"{name}, updates of rows",
                    value=round(heap_only, 3),
                    unit="of them heap-only",
                    limit=None,
                    ok=True,
                ),
            ]
    return rows


def measure(way: str) -> None:
    """Let the IDs of a minute succeed, and print the bytes of log, the updates of rows and the heap-only ones."""
    from django.db import connection

    from benchmarks import ticks
    from scheduling import models
    from tests.scheduling.placed import make_queue, place

    queue = make_queue(f"bench-{way}", rpm=IDS, handler="webhook" if way == "webhook" else "record")
    place(queue, {MINUTE: range(1, IDS + 1)}, at=MINUTE - timedelta(minutes=10))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE scheduling_assignment")
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_stat_reset()")
        cursor.execute("SELECT pg_current_wal_lsn()")
        before = cursor.fetchone()[0]
        if way == "webhook":
            for _ in ticks.claim_and_record(queue, MINUTE, at_most=TICK_IDS):
                pass
        else:
            ticks.record_at_once(queue, MINUTE, at_most=TICK_IDS)
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", [before])
        written = int(cursor.fetchone()[0])
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'scheduling_assignment'"
        )
        updates, heap_only = cursor.fetchone()
    remaining = models.Assignment.objects.exclude(status=models.Status.SUCCEEDED).count()
    if remaining:
        raise RuntimeError(f"{remaining} IDs have not succeeded")
    print(json.dumps({"bytes": written, "updates": updates, "heap_only": heap_only}))


if __name__ == "__main__":
    import sys

    import django

    django.setup()
    globals()[sys.argv[1]](*sys.argv[2:])
