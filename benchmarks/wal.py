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
            found = json.loads(call("wal", "measure", data_dir, url, way))
            each, heap_only = found["bytes"] / IDS, found["heap_only"] / found["updates"]
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
        {"webhook": _claim_and_record, "record": _record_at_once}[way](queue)
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", [before])
        written = int(cursor.fetchone()[0])
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'scheduling_assignment'"
        )
        updates, heap_only = cursor.fetchone()
    left = models.Assignment.objects.exclude(status=models.Status.SUCCEEDED).count()
    if left:
        raise RuntimeError(f"{left} IDs have not succeeded")
    print(json.dumps({"bytes": written, "updates": updates, "heap_only": heap_only}))


def _record_at_once(queue: object) -> None:
    from scheduling import store
    from scheduling.core import keys
    from scheduling.dispatch import claims, messages

    bucket_id = keys.bucket_at(queue.pk, MINUTE)  # type: ignore[attr-defined]
    wanted = {bucket_id: messages.ClaimRequest(queue, 60.0, True, TICK_IDS)}  # type: ignore[arg-type]
    while claims.commit_tick(owner=1, elapsed=lambda: 0.0, requests=wanted, now=store.now).recorded_count:
        pass


def _claim_and_record(queue: object) -> None:
    """Each tick records what the one before it claimed, and claims anew."""
    from scheduling import models, store
    from scheduling.core import keys
    from scheduling.dispatch import claims, messages

    bucket_id = keys.bucket_at(queue.pk, MINUTE)  # type: ignore[attr-defined]
    wanted = {bucket_id: messages.ClaimRequest(queue, 60.0, False, TICK_IDS)}  # type: ignore[arg-type]
    claimed: list[messages.Claim] = []
    finished: set[int] = set()
    while True:
        results = [messages.Result(claim, models.Status.SUCCEEDED, 1) for claim in claimed]
        tick = claims.commit_tick(
            owner=1,
            elapsed=lambda: 0.0,
            requests=wanted,
            results=results,
            finished_batches=finished,
            now=store.now,
        )
        # A batch is deleted by the tick after the one that recorded its results.
        finished = {claim.batch_id for claim in claimed}
        claimed = list(tick.claims)
        if not claimed and not results:
            return


if __name__ == "__main__":
    import sys

    import django

    django.setup()
    globals()[sys.argv[1]](*sys.argv[2:])
