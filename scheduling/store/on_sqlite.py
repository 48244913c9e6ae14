"""Bulk statements for SQLite: sets travel as one JSON text, which json_each reads in C."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter

import orjson
from django.conf import settings
from django.db import connection
from django.db.models import Q

from scheduling.core import keys
from scheduling.core.batches import batches
from scheduling.models import Batch, CanaryState, Status, TaskBucket
from scheduling.store import counters, later
from scheduling.store.canary_rows import IN_CANARY

# A statement for each row, as `executemany` makes, takes several times as long as the row takes SQLite.
_ROWS_A_STATEMENT = 200


def now() -> datetime:
    # One machine: the host's clock is the database's.
    return datetime.now(UTC)


def keep_waits_short() -> None:
    """Nothing to do: all of a database is on one host."""


def end_short_waits() -> None:
    """Nothing to do."""


def insert_assignments(task_id: int, groups: Sequence[tuple[int, Sequence[int]]], *, status: int) -> None:
    with connection.cursor() as cursor:
        for first_key, user_ids in groups:
            cursor.execute(
                "INSERT INTO scheduling_assignment (id, user_id, task_id, status, attempts)"
                " SELECT %s + key, value, %s, %s, 0 FROM json_each(%s)",
                [first_key, task_id, status, str(list(user_ids))],
            )


def insert_users(ids: Sequence[int], *, at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT OR IGNORE INTO scheduling_user (id, name, created_at) SELECT value, '', %s FROM json_each(%s)",
            [_text(at), str(list(ids))],
        )


def insert_data(task_id: int, rows: Sequence[tuple[int, str]], *, replace: bool) -> None:
    insert = f"INSERT {'OR REPLACE ' if replace else ''}INTO scheduling_iddata (task_id, user_id, data)"
    _insert_rows(insert, [(task_id, user, data) for user, data in rows])


def _insert_rows(insert: str, rows: Sequence[tuple[int | str, ...]]) -> None:
    """Insert rows, many with each statement. insert: what comes before VALUES."""
    row = f"({', '.join(['%s'] * len(rows[0]))})"
    with connection.cursor() as cursor:
        for batch in batches(rows, _ROWS_A_STATEMENT):
            values = ", ".join([row] * len(batch))
            cursor.execute(f"{insert} VALUES {values}", list(chain.from_iterable(batch)))


def overwrite_what_is_deleted() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.fetchall()


def overwrite_log() -> None:
    if connection.in_atomic_block:
        return
    with connection.cursor() as cursor:
        # A reader of an older version keeps it from being truncated: then the next checkpoint does it.
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.fetchall()


def keep_people() -> None:
    """Nothing to do: there is one writer at a time."""


def lock_people() -> None:
    """Nothing to do: there is one writer at a time."""


@contextmanager
def large_cache() -> Iterator[None]:
    if connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size")
        size_before = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA cache_size=-{settings.SQLITE_CACHE_MIB * 1024}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA cache_size={size_before}")


def insert_external_ids(rows: Sequence[tuple[int, str]]) -> None:
    _insert_rows("INSERT INTO scheduling_externalid (id, external_id)", rows)


def numbers_of_texts(texts: Sequence[str]) -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.external_id, e.id FROM json_each(%s) j CROSS JOIN scheduling_externalid e"
            " WHERE e.external_id = j.value",
            [orjson.dumps(texts).decode()],
        )
        return dict(cursor.fetchall())


def data_of(task_id: int, users: Sequence[int]) -> dict[int, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT d.user_id, d.data FROM json_each(%s) j CROSS JOIN scheduling_iddata d"
            " WHERE d.task_id = %s AND d.user_id = j.value",
            [orjson.dumps(users).decode(), task_id],
        )
        return dict(cursor.fetchall())


def insert_moves(
    task_id: int, moves: Sequence[tuple[Sequence[int], int, int]], *, reason: str, at: datetime
) -> None:
    with connection.cursor() as cursor:
        for user_ids, from_bucket, to_bucket in moves:
            cursor.execute(
                "INSERT INTO scheduling_move (task_id, user_id, from_bucket_id, to_bucket_id, reason, moved_at)"
                " SELECT %s, value, %s, %s, %s, %s FROM json_each(%s)",
                [task_id, from_bucket, to_bucket, reason, _text(at), str(list(user_ids))],
            )


def create_windows(window_ids: Sequence[int], *, capacities: Sequence[int]) -> None:
    rows = [[w, keys.queue_of_window(w), _text(keys.starts_at_of_window(w))] for w in window_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT OR IGNORE INTO scheduling_window (id, queue_id, starts_at, version)"
            " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), 0"
            " FROM json_each(%s)",
            [json.dumps(rows)],
        )
        cursor.execute(
            f"INSERT OR IGNORE INTO scheduling_bucket (id, window_id, capacity, {counters.BUCKET_COLUMNS})"
            f" SELECT {keys.sql_bucket('w.value', 'k.key')}, w.value, k.value, {counters.BUCKET_ZEROS}"
            " FROM json_each(%s) w, json_each(%s) k",
            [str(list(window_ids)), str(list(capacities))],
        )


def add(table: str, deltas: Mapping[int, Mapping[str, int]]) -> None:
    if not deltas:
        return
    sets, rows = _additions([((key,), row) for key, row in deltas.items()])
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {sets} FROM json_each(%s) d WHERE {table}.id = json_extract(d.value, '$[0]')",
            [rows],
        )


def add_to_task_buckets(task_id: int, deltas: Mapping[int, Mapping[str, int]]) -> None:
    if not deltas:
        return
    sets, rows = _additions([((key,), row) for key, row in deltas.items()])
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT OR IGNORE INTO scheduling_taskbucket (task_id, bucket_id, {counters.TASK_BUCKET_COLUMNS})"
            f" SELECT %s, json_extract(value, '$[0]'), {counters.TASK_BUCKET_ZEROS} FROM json_each(%s)",
            [task_id, rows],
        )
        # Without the CROSS JOIN the planner walks the task's rows and reads all of the JSON for each of them:
        # a minute under the lock, for a list that is carried over through a week of minutes.
        cursor.execute(
            "WITH d AS MATERIALIZED (SELECT t.id, j.value FROM json_each(%s) j CROSS JOIN scheduling_taskbucket t"
            " WHERE t.task_id = %s AND t.bucket_id = json_extract(j.value, '$[0]'))"
            f" UPDATE scheduling_taskbucket SET {sets} FROM d WHERE scheduling_taskbucket.id = d.id",
            [rows, task_id],
        )


def place_in_task_buckets(task_id: int, counts: Mapping[int, int]) -> None:
    values = counters.task_bucket_waiting("json_extract(value, '$[1]')")
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO scheduling_taskbucket (task_id, bucket_id, {counters.TASK_BUCKET_COLUMNS})"
            f" SELECT %s, json_extract(value, '$[0]'), {values} FROM json_each(%s) WHERE true {counters.ADD_WAITING}",
            [task_id, _json(sorted(counts.items()))],
        )


def move_ordinals(counts: Mapping[int, int]) -> dict[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_bucket SET next_ordinal = next_ordinal + json_extract(d.value, '$[1]')"
            " FROM json_each(%s) d WHERE scheduling_bucket.id = json_extract(d.value, '$[0]')"
            " RETURNING scheduling_bucket.id, next_ordinal",
            [_json(sorted(counts.items()))],
        )
        return dict(cursor.fetchall())


def add_to_versions(window_ids: Sequence[int]) -> None:
    next_versions(window_ids)


def next_versions(window_ids: Sequence[int]) -> dict[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_window SET version = version + 1 WHERE id IN (SELECT value FROM json_each(%s))"
            " RETURNING id, version",
            [_json(list(window_ids))],
        )
        return dict(cursor.fetchall())


def cancel_rows(task_id: int, user_ids: Sequence[int]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_assignment SET status = %s"
            " WHERE task_id = %s AND status = %s AND user_id IN (SELECT value FROM json_each(%s)) RETURNING id",
            [Status.CANCELLED, task_id, Status.WAITING, str(list(user_ids))],
        )
        return [key for (key,) in cursor.fetchall()]


def _text(at: datetime) -> str:
    """A time as Django's SQLite backend keeps it, so that both find what the other wrote."""
    return str(connection.ops.adapt_datetimefield_value(at))


def waiting_rows(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    but = may_start_in(ranges)
    with connection.cursor() as cursor:
        for first, last, limit in ranges:
            cursor.execute(
                "SELECT id, user_id, task_id, attempts FROM scheduling_assignment"
                f" WHERE id BETWEEN %s AND %s AND status = %s AND {but} ORDER BY id LIMIT %s",
                [first, last, Status.WAITING, limit],
            )
            rows.extend(cursor.fetchall())
    return rows


def read_waiting_rows(
    ranges: Sequence[tuple[int, int, int]], then: Callable[[list[tuple[int, int, int, int]]], None]
) -> None:
    then(waiting_rows(ranges))


def may_start_in(ranges: Sequence[tuple[int, int, int]]) -> str:
    # Few tasks are stopped or have a canary, or none, so that no row is joined with its task.
    stopped, in_canary = _excepted(ranges)
    but = f"task_id NOT IN ({', '.join(map(str, stopped))})"
    return (
        f"{but} AND (task_id NOT IN ({', '.join(map(str, in_canary))}) OR {IN_CANARY})" if in_canary else but
    )


def is_of_canary_in(ranges: Sequence[tuple[int, int, int]]) -> str:
    return f"task_id IN ({', '.join(map(str, _excepted(ranges)[1]))})"


def _excepted(ranges: Sequence[tuple[int, int, int]]) -> tuple[list[int], list[int]]:
    """The tasks in these ranges of which nothing may start, and those of which only the canary may."""
    buckets = {keys.bucket_of_assignment(last) for _, last, _ in ranges}
    is_stopped = Q(task__cancelled_at__isnull=False) | Q(task__held_at__isnull=False)
    is_excepted = is_stopped | Q(task__canary_state=CanaryState.RUNNING)
    placed = TaskBucket.objects.filter(is_excepted, bucket_id__in=buckets).order_by("task_id")
    columns = ("task_id", "task__cancelled_at", "task__held_at")
    stopped: list[int] = []
    in_canary: list[int] = []
    for task_id, *stops in placed.values_list(*columns).distinct():
        (in_canary if stops == [None, None] else stopped).append(task_id)
    return stopped, in_canary


def set_status(ids: Sequence[int], status: int, *, was: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_assignment SET status = %s"
            " WHERE id IN (SELECT value FROM json_each(%s)) AND status = %s",
            [status, str(list(ids)), was],
        )
        return int(cursor.rowcount)


def set_status_of_all(ids: Sequence[int], status: int, *, was: int) -> None:
    later.must_be(len(ids), set_status(ids, status, was=was))


def set_outcomes(rows: Sequence[tuple[int, int, int, int | None]], *, was: int) -> None:
    later.run_for(
        len(rows),
        "UPDATE scheduling_assignment SET status = json_extract(d.value, '$[1]'),"
        " attempts = json_extract(d.value, '$[2]'), started_after_ms = json_extract(d.value, '$[3]')"
        " FROM json_each(%s) d WHERE scheduling_assignment.id = json_extract(d.value, '$[0]') AND status = %s",
        [_json(rows), was],
    )


def renew_batches(
    ids: Sequence[int],
    *,
    owner: int,
    lease_until: datetime,
    may_start_until_ms: int,
    then: Callable[[set[int]], None],
) -> None:
    owned = Batch.objects.filter(pk__in=ids, owner=owner)
    living = set(owned.values_list("pk", flat=True))
    owned.update(lease_until=lease_until, may_start_until_ms=may_start_until_ms)
    then(living)


def move_rows(pairs: Sequence[tuple[int, int]], *, status: int, was: int) -> None:
    later.run_for(
        len(pairs),
        "UPDATE scheduling_assignment SET id = json_extract(d.value, '$[1]'), status = %s,"
        " started_after_ms = NULL"
        " FROM json_each(%s) d WHERE scheduling_assignment.id = json_extract(d.value, '$[0]') AND status = %s",
        [status, _json(pairs), was],
    )


def set_on_buckets(values: Mapping[int, Mapping[str, int | None]]) -> None:
    if not values:
        return
    columns = sorted(next(iter(values.values())))
    rows = [[bucket, *(row[column] for column in columns)] for bucket, row in sorted(values.items())]
    sets = ", ".join(f"{c} = json_extract(d.value, '$[{i + 1}]')" for i, c in enumerate(columns))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE scheduling_bucket SET {sets} FROM json_each(%s) d"
            " WHERE scheduling_bucket.id = json_extract(d.value, '$[0]')",
            [_json(rows)],
        )


def add_to_placed(deltas: Mapping[tuple[int, int], Mapping[str, int]]) -> None:
    if not deltas:
        return
    sets, rows = _additions([*deltas.items()])
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE scheduling_taskbucket SET {sets} FROM json_each(%s) d"
            " WHERE task_id = json_extract(d.value, '$[0]') AND bucket_id = json_extract(d.value, '$[1]')",
            [rows],
        )


def waiting_buckets(ranges: Sequence[tuple[int, int]]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT b.id FROM json_each(%s) r CROSS JOIN scheduling_bucket b"
            " WHERE b.id BETWEEN json_extract(r.value, '$[0]') AND json_extract(r.value, '$[1]')"
            " AND b.waiting_count > 0",
            [_json(ranges)],
        )
        return [bucket_id for (bucket_id,) in cursor.fetchall()]


def count_users(ids: Sequence[int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM json_each(%s) j CROSS JOIN scheduling_user u WHERE u.id = j.value",
            [_json(list(ids))],
        )
        return int(cursor.fetchone()[0])


def in_status(ids: Sequence[int], statuses: Sequence[int]) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.user_id, s.task_id FROM json_each(%s) j CROSS JOIN scheduling_assignment s"
            " WHERE s.user_id = j.value AND s.status IN (SELECT value FROM json_each(%s))",
            [_json(list(ids)), _json(list(statuses))],
        )
        return list(cursor.fetchall())


def attempts_of(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int | None, str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.task_id, a.user_id, a.number, a.http_status, a.error, a.answer"
            " FROM json_each(%s) j CROSS JOIN scheduling_attempt a WHERE a.task_id = json_extract(j.value, '$[0]')"
            " AND a.user_id = json_extract(j.value, '$[1]') AND NOT a.unknown",
            [_json(pairs)],
        )
        return list(cursor.fetchall())


def kept_and_waiting(task_id: int, ids: Sequence[int]) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT COUNT(*) FILTER (WHERE s.status <> {Status.CANCELLED:d}),"
            f" COUNT(*) FILTER (WHERE s.status = {Status.WAITING:d})"
            " FROM json_each(%s) j CROSS JOIN scheduling_assignment s"
            " WHERE s.user_id = j.value AND s.task_id = %s",
            [_json(list(ids)), task_id],
        )
        active, waiting = cursor.fetchone()
        return active, waiting


def _additions(deltas: Sequence[tuple[tuple[int, ...], Mapping[str, int]]]) -> tuple[str, str]:
    """Return the SET clause that adds to counters, and its rows in the order of keys: the key, then the numbers."""
    columns = sorted({column for _, row in deltas for column in row})
    first = len(deltas[0][0])
    sets = ", ".join(f"{c} = {c} + json_extract(d.value, '$[{i}]')" for i, c in enumerate(columns, first))
    by_key = sorted(deltas, key=itemgetter(0))
    return sets, _json([[*key, *(row.get(c, 0) for c in columns)] for key, row in by_key])


def _json(rows: Sequence[object]) -> str:
    """Rows of numbers as json_each reads them: thousands in a turn, so not by the standard library."""
    return orjson.dumps(rows).decode()
