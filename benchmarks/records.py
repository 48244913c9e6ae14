"""Lists whose IDs have data, or are text: their intake and their claims, beside bare statements and bare numbers.

- 1 million numbers with three columns of 60 bytes, and as many UUIDs with the same columns, go in as CSV over HTTP
  and come out as assignments, users, text IDs and data. The bare statements write the same rows into the same tables:
  INSERT ... SELECT from a table that contains them, in one transaction. The memory of each process is watched.
- A bucket of IDs with data is claimed, its requests are prepared and recorded, beside a bucket of IDs without data.
"""

import json
import os
import sqlite3
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg

from benchmarks.intake import PRAGMAS, TASKS, create_given, with_places
from benchmarks.rows import Row
from benchmarks.service import Service, call, directory, migrate, wait_until
from tests import postgresql

NUMBERS = int(os.environ.get("BENCH_NUMBERS", "1000000"))
UUIDS = int(os.environ.get("BENCH_UUIDS", "1000000"))
CLAIMED = int(os.environ.get("BENCH_IDS", "100000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
TURN = 4_000
LEAST_OF_NUMBERS, LEAST_OF_TEXTS, LEAST_OF_CLAIMS = 0.5, 0.35, 0.8
MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)
NAMES = ("first_name", "voucher", "city")

_ROWS = (
    "INSERT INTO scheduling_assignment (id, user_id, task_id, status, attempts)"
    " SELECT place, user_id, 1, 1, 0 FROM given"
)
_USERS = (
    "INSERT INTO scheduling_user (id, name, created_at)"
    " SELECT user_id, '', '2026-11-25 12:00:00Z' FROM given ON CONFLICT DO NOTHING"
)
_TEXTS = (
    "INSERT INTO scheduling_externalid (id, external_id) SELECT user_id, text FROM given WHERE user_id < 0"
)
_DATA = "INSERT INTO scheduling_iddata (task_id, user_id, data) SELECT 1, user_id, data FROM given"
_GIVEN = "(place bigint, user_id bigint, text text, data text)"


class Record(NamedTuple):
    """One ID with its columns, 60 bytes together."""

    id: str
    columns: tuple[str, str, str]

    @property
    def data(self) -> str:
        return json.dumps(dict(zip(NAMES, self.columns, strict=True)), separators=(",", ":"))


class Peak:
    """The largest memory of any process of a service, in MB, as long as it is watched."""

    def __init__(self, service: Service) -> None:
        self.megabytes = 0.0
        self._service, self._ended = service, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        main = psutil.Process(self._service.process.pid)
        while not self._ended.wait(0.2):
            for process in [main, *main.children(recursive=True)]:
                try:
                    self.megabytes = max(self.megabytes, process.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue


class Cost(NamedTuple):
    seconds: float
    megabytes: float = 0.0


Bare = Callable[[list[Record]], float]


def run() -> list[Row]:
    """Measure, and return the rows."""
    rows = _intake("SQLite", "", _bare_on_sqlite)
    with directory() as data_dir:
        rows += _claims("SQLite", data_dir, "")
    # Each list has a server of its own: a database that others have filled is another one.
    with postgresql.server() as url, directory() as data_dir:
        rows += _claims("PostgreSQL", data_dir, url)
    return rows + _intake("PostgreSQL", "postgresql", _bare_on_postgresql)


def _records(count: int, *, text: bool) -> list[Record]:
    """Columns of 60 bytes. IDs in no order: UUIDs of hashes, and numbers that a prime step scatters."""
    columns = [(f"Ann {n:08d}", f"V-{n:012d}", f"City of {n:026d}") for n in range(count)]
    if text:
        ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))) for n in range(count)]
    else:
        ids = [str(10**8 + n * 7_368_787 % 10**9) for n in range(count)]
    return [Record(*record) for record in zip(ids, columns, strict=True)]


def _intake(database: str, server: str, bare: Bare) -> list[Row]:
    rows: list[Row] = []
    for name, count, text, least in (
        (f"{NUMBERS:,} numbers with three columns", NUMBERS, False, LEAST_OF_NUMBERS),
        (f"{UUIDS:,} UUIDs with three columns", UUIDS, True, LEAST_OF_TEXTS),
    ):
        records = _records(count, text=text)
        costs = [(_send_to_new_database(records, server, text=text), bare(records)) for _ in range(ROUNDS)]
        seconds, bare_seconds = min(cost.seconds for cost, _ in costs), min(bare for _, bare in costs)
        rows += [
            _row(
                f"{database}: {name}, from POST until the last row",
                bare_seconds / seconds,
                least,
                "of the bare statements' rate, at least",
                bare_seconds / seconds >= least,
            ),
            _row(f"{database}: the same", count / seconds, None, "IDs a second"),
            _row(
                f"{database}: the largest process meanwhile",
                max(cost.megabytes for cost, _ in costs),
                None,
                "MB",
            ),
        ]
    return rows


def _row(name: str, value: float, limit: float | None, unit: str, ok: bool = True) -> Row:
    return {"name": f"records: {name}", "value": round(value, 3), "limit": limit, "unit": unit, "ok": ok}


def _send_to_new_database(records: list[Record], server: str, *, text: bool) -> Cost:
    if server:
        with postgresql.server() as url:
            return _send(records, url, text=text)
    return _send(records, "", text=text)


def _send(records: list[Record], url: str, *, text: bool) -> Cost:
    """Seconds from the POST until the task's last row is there, and the largest memory meanwhile."""
    lines = [f"{record.id},{','.join(record.columns)}" for record in records]
    body = "\n".join([f"id,{','.join(NAMES)}", *lines]).encode()
    query = f"?task_name=benchmark&data=*&id_type={'text' if text else 'integer'}"
    with directory() as data_dir, Service(data_dir, url) as service, Peak(service) as peak:
        began = time.perf_counter()
        answer = service.ask("POST", f"{TASKS}{query}", body, Content_Type="text/csv")
        address = f"{TASKS}{answer['task_id']}/"
        # Each look costs the service some 5 ms of CPU, in which it writes no rows.
        wait_until(lambda: service.ask("GET", address)["task_status"], seconds=3_600, every=0.2)
        seconds = time.perf_counter() - began
    return Cost(seconds, peak.megabytes)


# --- The bare statements ---


def _rows_of(records: list[Record]) -> Iterator[tuple[int, int, str, str]]:
    """Each record's key, user, ID and data, in the order of the list."""
    is_text = not records[0].id.isdigit()
    users = [-n for n in range(1, len(records) + 1)] if is_text else [int(record.id) for record in records]
    for (place, user), record in zip(with_places(users), records, strict=True):
        yield place, user, record.id, record.data


def _bare_on_sqlite(records: list[Record]) -> float:
    with directory() as data_dir:
        migrate(data_dir)
        with closing(sqlite3.connect(data_dir / "quarterdeck.sqlite3", isolation_level=None)) as connection:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"CREATE TEMP TABLE given {_GIVEN}")
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO given VALUES (?, ?, ?, ?)", _rows_of(records))
            connection.execute("COMMIT")
            began = time.perf_counter()
            users = _USERS.replace("12:00:00Z", "12:00:00").replace("ON CONFLICT", "WHERE true ON CONFLICT")
            for statement in ("BEGIN IMMEDIATE", _TEXTS, _ROWS, users, _DATA, "COMMIT"):
                connection.execute(statement)
            return time.perf_counter() - began


def _bare_on_postgresql(records: list[Record]) -> float:
    with postgresql.server() as url, directory() as data_dir:
        migrate(data_dir, url)
        with psycopg.connect(url) as connection:
            create_given(connection, _GIVEN, _rows_of(records))
            began = time.perf_counter()
            for statement in (_TEXTS, _ROWS, _USERS, _DATA):
                connection.execute(statement.encode())
            connection.commit()
            return time.perf_counter() - began


# --- Claims ---


def _claims(database: str, data_dir: Path, url: str) -> list[Row]:
    migrate(data_dir, url)
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(ROUNDS + 1):
        for way in rates:
            _child("prepare_claims", data_dir, url, way)
            rates[way].append(CLAIMED / json.loads(_child("claim", data_dir, url)))
    without, with_data = (statistics.median(rates[way]) for way in ("without", "with"))
    ratio = with_data / without
    return [
        _row(
            f"{database}: claim IDs with data, prepare and record their requests",
            ratio,
            LEAST_OF_CLAIMS,
            "of the rate without data, at least",
            ratio >= LEAST_OF_CLAIMS,
        ),
        _row(f"{database}: the same", with_data, None, "IDs a second"),
    ]


def prepare_claims(way: str) -> None:
    """A bucket of waiting rows, with data or without; what an earlier round left goes."""
    from django.apps import apps
    from django.db import connection

    from scheduling import models, store
    from tests.scheduling.placed import make_queue, place

    kinds = "Assignment TaskBucket Reservation Batch Bucket Window IdData Task Chunk IdList"
    for kind in kinds.split():
        apps.get_model("scheduling", kind)._default_manager.all()._raw_delete("default")
    queue = models.Queue.objects.filter(name="bench").first() or make_queue(
        "bench", rpm=CLAIMED, handler="webhook", webhook_url="https://hook.test/"
    )
    users = range(1, CLAIMED + 1)
    columns = list(NAMES) if way == "with" else None
    task = place(queue, {MINUTE: users}, at=MINUTE - timedelta(minutes=10), data_columns=columns)
    if way == "with":
        data = _records(1, text=False)[0].data
        for first in range(1, CLAIMED + 1, 20_000):
            with store.write():
                store.insert_data(task.pk, [(user, data) for user in users[first - 1 : first + 19_999]])
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE scheduling_assignment")
            cursor.execute("VACUUM ANALYZE scheduling_iddata")


def claim() -> None:
    from scheduling import models
    from scheduling.core import clock, keys
    from scheduling.dispatch import claims, messages
    from scheduling.dispatch.minute_view import MinuteView

    queue = models.Queue.objects.get(name="bench")
    view = MinuteView(clock.minute_number(MINUTE), lambda: MINUTE)
    view.queues[queue.pk] = queue
    bucket_id = keys.bucket_at(queue.pk, MINUTE)
    want = {bucket_id: messages.ClaimRequest(queue, 60.0, False, TURN)}
    tick = partial(claims.commit_tick, owner=os.getpid(), elapsed=lambda: 0.0, now=lambda: MINUTE)
    began, count = time.perf_counter(), 0
    results: list[messages.Result] = []
    while True:
        batches = {result.claim.batch_id for result in results}
        claimed = tick(requests=want, results=results, open_batches=batches, finished_batches=batches)
        scheduled = view.scheduled_requests(claimed.claims, claimed.tasks)
        results = [messages.Result(item.claim, models.Status.SUCCEEDED, 0, None) for item in scheduled]
        count += len(results)
        if not results:
            break
    seconds = time.perf_counter() - began
    assert count == CLAIMED, count
    print(json.dumps(seconds))


_child = partial(call, "records")


if __name__ == "__main__":
    import django

    django.setup()
    globals()[sys.argv[1]](*sys.argv[2:])
