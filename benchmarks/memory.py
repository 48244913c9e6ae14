"""The memory of the processes through which a list goes, with ten times as many IDs.

Each part runs in a process of its own, on SQLite: one reads and accepts the list, one writes its rows, and a minute
worker claims and records the IDs of its first minute, a fifteenth of them all. SQLite's page cache is that of a web
process: a larger one fills up with either list, but not to the same part.
"""

import json
import os
import resource
import sys
from array import array
from functools import partial
from pathlib import Path

from benchmarks.rows import Row
from benchmarks.service import call, directory, migrate

IDS = int(os.environ.get("BENCH_IDS", "1000000"))
TIMES, LIMIT = 10, 1.1
CACHE_MIB = "2"
BLOCK = 16_384
PARTS = {
    "accept": "reads and accepts a list",
    "write": "writes its rows",
    "record": "claims and records a minute of it",
}


def run() -> list[Row]:
    """Measure, and return the rows."""
    os.environ["SQLITE_CACHE_MIB"] = CACHE_MIB
    few, many = _peaks(IDS), _peaks(TIMES * IDS)
    rows: list[Row] = []
    for part, does in PARTS.items():
        ratio = many[part] / few[part]
        rows.append(
            {
                "name": f"memory: a process that {does}, {TIMES * IDS:,} IDs",
                "value": round(ratio, 3),
                "unit": f"of its memory with {IDS:,} ({few[part]:,.0f} MiB), at most",
                "limit": LIMIT,
                "ok": ratio <= LIMIT,
            }
        )
    return rows


def _peaks(count: int) -> dict[str, float]:
    """The most memory that each part took, in MiB."""
    with directory() as data_dir:
        migrate(data_dir)
        return {part: json.loads(call("memory", part, data_dir, "", str(count))) for part in PARTS}


def _print_peak() -> None:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def accept(count: str) -> None:
    from django.conf import settings
    from django.utils import timezone

    from operators.actor import Actor
    from scheduling import models
    from scheduling.intake import acceptance
    from scheduling.parsing.spool import Spool

    models.Queue.objects.create(name="default", rpm=int(count) // 15, created_at=timezone.now())
    with Spool(Path(settings.SPOOL_DIR)) as spool:
        for first in range(0, int(count), BLOCK):
            spool.extend(array("q", map(_id, range(first, min(first + BLOCK, int(count))))))
        spool.finish()
        acceptance.submit(
            acceptance.Submission(task_name="a list"),
            spool,
            by=Actor.system(),
            now=timezone.now,
            render=lambda accepted: None,
        )
    _print_peak()


def _id(number: int) -> int:
    """Different IDs in an order that has nothing to do with their size."""
    return 10**8 + number * 2_654_435_761 % 2**30


def write(count: str) -> None:
    from scheduling import models, store
    from scheduling.intake import allocation

    while models.Segment.objects.unwritten().exists():
        allocation.write_segments(store.now)
    _print_peak()


def record(count: str) -> None:
    from scheduling import models, store
    from scheduling.dispatch import claims, messages

    queue = models.Queue.objects.get()
    bucket = models.Bucket.objects.filter(filled_count__gt=0).earliest("pk")
    claim = partial(claims.commit_tick, owner=os.getpid(), elapsed=lambda: 0.0, now=store.now)
    while claim(requests={bucket.pk: messages.ClaimRequest(queue, 60.0, True, 4_000)}).recorded_count:
        pass
    _print_peak()


if __name__ == "__main__":
    import django

    django.setup()
    globals()[sys.argv[1]](*sys.argv[2:])
