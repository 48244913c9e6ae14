"""Bulk statements for PostgreSQL: sets travel as arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from django.db import DEFAULT_DB_ALIAS, connection, connections

from scheduling.core import keys
from scheduling.models import Status
from scheduling.postgresql.base import DatabaseWrapper
from scheduling.store import counters, later
from scheduling.store.canary_rows import IN_CANARY


def now() -> datetime:
    with connection.cursor() as cursor:
        # Not now(): that is the transaction's start, which may lie before a wait for a lock.
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchone()[0]
        return at


# A transaction of a minute worker takes some 20 ms. Of a host that vanished in one, the first session to go is the
# one that waits for a row: it would be given the row only to keep it.
LOCK_MS, IDLE_MS = 500, 800


def keep_waits_short() -> None:
    if isinstance(wrapper := connections[DEFAULT_DB_ALIAS], DatabaseWrapper):
        # Of each transaction: behind a pooler the session is everybody's.
        wrapper.be_brief(
            [
                f"SET LOCAL lock_timeout = {LOCK_MS}",
                f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS}",
            ]
        )


def end_short_waits() -> None:
    if isinstance(wrapper := connections[DEFAULT_DB_ALIAS], DatabaseWrapper):
        wrapper.end_brief()


def lock_queues(column: str, columns: Sequence[str]) -> str:
    """The statement that locks queues by a column, after their targets: the sum is made before any queue is locked."""
    of_queues = f"q.{column} = ANY(%s)"
    return (
        "WITH targets AS MATERIALIZED (SELECT t.id FROM scheduling_target t WHERE t.id IN"
        f" (SELECT q.target_id FROM scheduling_queue q WHERE {of_queues}) OR t.id = ANY(%s::bigint[])"
        " ORDER BY t.id FOR UPDATE)"
        f" SELECT {', '.join(f'q.{name}' for name in columns)},"
        " (SELECT max(t.id) FROM targets t WHERE t.id = q.target_id) AS locked_target"
        f" FROM scheduling_queue q WHERE {of_queues} AND (SELECT count(*) FROM targets) >= 0"
        " ORDER BY q.id FOR UPDATE OF q"
    )


def insert_assignments(task_id: int, groups: Sequence[tuple[int, Sequence[int]]], *, status: int) -> None:
    lines = []
    tail = f"\t{task_id}\t{int(status)}\t0\n"
    for first_key, user_ids in groups:
        lines.extend([f"{key}\t{user}{tail}" for key, user in enumerate(user_ids, first_key)])
    # COPY goes past Django's wrapper, which makes Django's errors of the driver's.
    with connection.wrap_database_errors, connection.cursor() as cursor:
        columns = "id, user_id, task_id, status, attempts"
        with cursor.copy(f"COPY scheduling_assignment ({columns}) FROM STDIN") as copy:
            copy.write("".join(lines))


def insert_users(ids: Sequence[int], *, at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO scheduling_user (id, name, created_at) SELECT u, '', %s FROM unnest(%s::bigint[]) u"
            " ON CONFLICT DO NOTHING",
            [at, list(ids)],
        )


def insert_data(task_id: int, rows: Sequence[tuple[int, str]], *, replace: bool) -> None:
    if replace:
        users, texts = zip(*rows, strict=True)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO scheduling_iddata (task_id, user_id, data)"
                " SELECT %s, d.* FROM unnest(%s::bigint[], %s::text[]) AS d(user_id, data)"
                " ON CONFLICT (task_id, user_id) DO UPDATE SET data = excluded.data",
                [task_id, _text(users), list(texts)],
            )
        return
    # Compact JSON has neither tabs nor line ends; its backslashes are COPY's as well.
    lines = [f"{task_id}\t{user}\t{data}\n" for user, data in rows]
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy("COPY scheduling_iddata (task_id, user_id, data) FROM STDIN") as copy,
    ):
        copy.write("".join(lines).replace("\\", "\\\\"))


def overwrite_what_is_deleted() -> None:
    """Nothing to do: a vacuum frees what was deleted, at a time of its own."""


def overwrite_log() -> None:
    """Nothing to do: the log belongs to the server."""


# The lock of people who are erased: any number that nothing else locks.
_PEOPLE = 7236040118


def keep_people() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_PEOPLE])


def lock_people() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_PEOPLE])


def large_cache() -> AbstractContextManager[None]:
    """Do nothing: the server has one cache for all connections."""
    return nullcontext()


def insert_external_ids(rows: Sequence[tuple[int, str]]) -> None:
    # Such an ID has no control characters; its backslashes are COPY's as well.
    lines = "".join([f"{number}\t{text}\n" for number, text in rows]).replace("\\", "\\\\")
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy("COPY scheduling_externalid (id, external_id) FROM STDIN") as copy,
    ):
        copy.write(lines)


def numbers_of_texts(texts: Sequence[str]) -> dict[str, int]:
    with connection.cursor() as cursor:
        # OFFSET 0: a look into the index for each ID, as in count_users.
        cursor.execute(
            "SELECT e.external_id, e.id FROM unnest(%s::text[]) asked(text) CROSS JOIN LATERAL"
            " (SELECT external_id, id FROM scheduling_externalid WHERE external_id = asked.text OFFSET 0) e",
            [list(texts)],
        )
        return dict(cursor.fetchall())


def data_of(task_id: int, users: Sequence[int]) -> dict[int, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id, data FROM scheduling_iddata WHERE task_id = %s AND user_id = ANY(%s::bigint[])",
            [task_id, list(users)],
        )
        return dict(cursor.fetchall())


def insert_moves(
    task_id: int, moves: Sequence[tuple[Sequence[int], int, int]], *, reason: str, at: datetime
) -> None:
    for user_ids, from_bucket, to_bucket in moves:
        later.run(
            "INSERT INTO scheduling_move (task_id, user_id, from_bucket_id, to_bucket_id, reason, moved_at)"
            " SELECT %s, u, %s, %s, %s, %s FROM unnest(%s::bigint[]) u",
            [task_id, from_bucket, to_bucket, reason, at, list(user_ids)],
        )


def create_windows(window_ids: Sequence[int], *, capacities: Sequence[int]) -> None:
    starts = [keys.starts_at_of_window(w) for w in window_ids]
    queues = [keys.queue_of_window(w) for w in window_ids]
    later.run(
        "INSERT INTO scheduling_window (id, queue_id, starts_at, version)"
        " SELECT *, 0 FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) ON CONFLICT DO NOTHING",
        [list(window_ids), queues, starts],
    )
    later.run(
        f"INSERT INTO scheduling_bucket (id, window_id, capacity, {counters.BUCKET_COLUMNS})"
        f" SELECT {keys.sql_bucket('w', '(k.number - 1)')}, w, k.capacity, {counters.BUCKET_ZEROS}"
        " FROM unnest(%s::bigint[]) w, unnest(%s::integer[]) WITH ORDINALITY k(capacity, number)"
        " ON CONFLICT DO NOTHING",
        [list(window_ids), list(capacities)],
    )


def add(table: str, deltas: Mapping[int, Mapping[str, int]]) -> None:
    if not deltas:
        return
    ids = sorted(deltas)
    columns = sorted({column for row in deltas.values() for column in row})
    if len(ids) > 1:
        # UPDATE ... FROM locks in the order of its plan; two of them could wait in a circle.
        later.run(f"SELECT id FROM {table} WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids])
    later.run(_update(table, columns, "id"), [ids, *_arrays(deltas, ids, columns)])


def add_to_task_buckets(task_id: int, deltas: Mapping[int, Mapping[str, int]]) -> None:
    if not deltas:
        return
    ids = sorted(deltas)
    columns = sorted({column for row in deltas.values() for column in row})
    # An insert that does nothing uses up a number of the sequence too, so only missing rows are inserted.
    later.run(
        f"INSERT INTO scheduling_taskbucket (task_id, bucket_id, {counters.TASK_BUCKET_COLUMNS})"
        f" SELECT %s, b, {counters.TASK_BUCKET_ZEROS} FROM unnest(%s::bigint[]) b WHERE NOT EXISTS"
        " (SELECT 1 FROM scheduling_taskbucket t WHERE t.task_id = %s AND t.bucket_id = b)"
        " ON CONFLICT DO NOTHING",
        [task_id, ids, task_id],
    )
    later.run(
        "SELECT id FROM scheduling_taskbucket WHERE task_id = %s AND bucket_id = ANY(%s)"
        " ORDER BY bucket_id FOR UPDATE",
        [task_id, ids],
    )
    later.run(
        _update("scheduling_taskbucket", columns, "bucket_id") + " AND task_id = %s",
        [ids, *_arrays(deltas, ids, columns), task_id],
    )


def place_in_task_buckets(task_id: int, counts: Mapping[int, int]) -> None:
    ids = sorted(counts)
    with connection.cursor() as cursor:
        # Rows that are there are locked in the order in which they are given.
        cursor.execute(
            f"INSERT INTO scheduling_taskbucket (task_id, bucket_id, {counters.TASK_BUCKET_COLUMNS})"
            f" SELECT %s, b, {counters.task_bucket_waiting('n')} FROM unnest(%s::bigint[], %s::int[]) d (b, n)"
            f" {counters.ADD_WAITING}",
            [task_id, ids, [counts[bucket] for bucket in ids]],
        )


def move_ordinals(counts: Mapping[int, int]) -> dict[int, int]:
    ids = sorted(counts)
    if len(ids) > 1:
        # As in `add`: an UPDATE of several locks in the order of its plan.
        later.run("SELECT id FROM scheduling_bucket WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_bucket b SET next_ordinal = next_ordinal + d.n"
            " FROM unnest(%s::bigint[], %s::int[]) d (id, n) WHERE b.id = d.id RETURNING b.id, next_ordinal",
            [ids, [counts[bucket] for bucket in ids]],
        )
        return dict(cursor.fetchall())


def add_to_versions(window_ids: Sequence[int]) -> None:
    ids = sorted(window_ids)
    if len(ids) > 1:
        # As in `add`: an UPDATE of several locks in the order of its plan.
        later.run("SELECT id FROM scheduling_window WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids])
    later.run("UPDATE scheduling_window SET version = version + 1 WHERE id = ANY(%s)", [ids])


def next_versions(window_ids: Sequence[int]) -> dict[int, int]:
    ids = sorted(window_ids)
    if len(ids) > 1:
        # As in `add`: an UPDATE of several locks in the order of its plan.
        later.run("SELECT id FROM scheduling_window WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_window SET version = version + 1 WHERE id = ANY(%s) RETURNING id, version",
            [ids],
        )
        return dict(cursor.fetchall())


def cancel_rows(task_id: int, user_ids: Sequence[int]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_assignment SET status = %s"
            " WHERE task_id = %s AND status = %s AND user_id = ANY(%s::bigint[]) RETURNING id",
            [Status.CANCELLED, task_id, Status.WAITING, list(user_ids)],
        )
        return [key for (key,) in cursor.fetchall()]


def _update(table: str, columns: Sequence[str], key: str) -> str:
    sets = ", ".join(f"{c} = {table}.{c} + d.{c}" for c in columns)
    arrays = ", ".join(["%s::bigint[]"] * (len(columns) + 1))
    return f"UPDATE {table} SET {sets} FROM unnest({arrays}) AS d(k, {', '.join(columns)}) WHERE {table}.{key} = d.k"


def _arrays(
    deltas: Mapping[int, Mapping[str, int]], ids: Sequence[int], columns: Sequence[str]
) -> list[list[int]]:
    return [[deltas[i].get(c, 0) for i in ids] for c in columns]


def waiting_rows(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    read_waiting_rows(ranges, rows.extend, run=later.run_now)
    return rows


def read_waiting_rows(
    ranges: Sequence[tuple[int, int, int]],
    then: Callable[[list[tuple[int, int, int, int]]], None],
    *,
    run: Callable[..., None] = later.run,
) -> None:
    run(*_waiting(ranges, "id, user_id, task_id, attempts", "SELECT r.*", " ORDER BY 1"), then)


def tasks_that_wait(ranges: Sequence[tuple[int, int, int]]) -> tuple[str, Sequence[str | int]]:
    """The tasks of the same rows, as a statement and its parameters."""
    return _waiting(ranges, "id, task_id", "SELECT r.task_id")


def _waiting(
    ranges: Sequence[tuple[int, int, int]], columns: str, select: str, order: str = ""
) -> tuple[str, Sequence[str | int]]:
    firsts, lasts, limits = zip(*ranges, strict=True)
    return (
        f"{select} FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS w(first, last, most),"
        f" LATERAL (SELECT {columns} FROM scheduling_assignment"
        f" WHERE id BETWEEN w.first AND w.last AND status = %s AND {may_start_in(ranges)}"
        f" ORDER BY id LIMIT w.most) r{order}",
        [_text(firsts), _text(lasts), _text(limits), Status.WAITING],
    )


def may_start_in(ranges: Sequence[tuple[int, int, int]]) -> str:
    excepted = "t.cancelled_at IS NOT NULL OR t.held_at IS NOT NULL OR t.canary_state = 'running'"
    return (
        f"(task_id <> ALL({_tasks_in(ranges, excepted)})"
        f" OR (task_id = ANY({_tasks_in(ranges, _CANARY_RUNS)}) AND {IN_CANARY}))"
    )


def is_of_canary_in(ranges: Sequence[tuple[int, int, int]]) -> str:
    return f"task_id = ANY({_tasks_in(ranges, _CANARY_RUNS)})"


_CANARY_RUNS = "t.canary_state = 'running' AND t.cancelled_at IS NULL AND t.held_at IS NULL"


def _tasks_in(ranges: Sequence[tuple[int, int, int]], condition: str) -> str:
    """The tasks with rows in these ranges that meet a condition. An array, so that it is found once: there are few."""
    buckets = {keys.bucket_of_assignment(last) for _, last, _ in ranges}
    return (
        "ARRAY(SELECT tb.task_id FROM scheduling_taskbucket tb JOIN scheduling_task t ON t.id = tb.task_id"
        f" WHERE tb.bucket_id = ANY('{_text(sorted(buckets))}'::bigint[]) AND ({condition}))"
    )


def set_status(ids: Sequence[int], status: int, *, was: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_SET_STATUS, [status, _text(ids), was])
        return int(cursor.rowcount)


def set_status_of_all(ids: Sequence[int], status: int, *, was: int) -> None:
    later.run_for(len(ids), _SET_STATUS, [status, _text(ids), was])


_SET_STATUS = "UPDATE scheduling_assignment SET status = %s WHERE id = ANY(%s::bigint[]) AND status = %s"


def set_outcomes(rows: Sequence[tuple[int, int, int, int | None]], *, was: int) -> None:
    later.run_for(
        len(rows),
        "UPDATE scheduling_assignment a SET status = d.status, attempts = d.attempts, started_after_ms = d.ms"
        " FROM unnest(%s::bigint[], %s::smallint[], %s::smallint[], %s::integer[]) AS d(id, status, attempts, ms)"
        " WHERE a.id = d.id AND a.status = %s",
        [*(_text(column) for column in zip(*rows, strict=True)), was],
    )


def move_rows(pairs: Sequence[tuple[int, int]], *, status: int, was: int) -> None:
    later.run_for(
        len(pairs),
        "UPDATE scheduling_assignment a SET id = d.new_id, status = %s, started_after_ms = NULL"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS d(id, new_id) WHERE a.id = d.id AND a.status = %s",
        [status, *(_text(column) for column in zip(*pairs, strict=True)), was],
    )


def set_on_buckets(values: Mapping[int, Mapping[str, int | None]]) -> None:
    if not values:
        return
    ids = sorted(values)
    columns = sorted(next(iter(values.values())))
    sets = ", ".join(f"{c} = d.{c}" for c in columns)
    arrays = ", ".join(["%s::bigint[]"] * (len(columns) + 1))
    later.run(
        f"UPDATE scheduling_bucket b SET {sets} FROM unnest({arrays}) AS d(k, {', '.join(columns)}) WHERE b.id = d.k",
        [ids, *([values[i][c] for i in ids] for c in columns)],
    )


def add_to_placed(deltas: Mapping[tuple[int, int], Mapping[str, int]]) -> None:
    if not deltas:
        return
    pairs = sorted(deltas)
    columns = sorted({column for row in deltas.values() for column in row})
    tasks, buckets = [task for task, _ in pairs], [bucket for _, bucket in pairs]
    sets = ", ".join(f"{c} = scheduling_taskbucket.{c} + d.{c}" for c in columns)
    arrays = ", ".join(["%s::bigint[]"] * (len(columns) + 2))
    if len(pairs) > 1:
        later.run(
            "SELECT tb.id FROM scheduling_taskbucket tb JOIN unnest(%s::bigint[], %s::bigint[]) AS d(t, b)"
            " ON tb.task_id = d.t AND tb.bucket_id = d.b ORDER BY tb.task_id, tb.bucket_id FOR UPDATE OF tb",
            [tasks, buckets],
        )
    later.run(
        f"UPDATE scheduling_taskbucket SET {sets} FROM unnest({arrays}) AS d(t, b, {', '.join(columns)})"
        " WHERE task_id = d.t AND bucket_id = d.b",
        [tasks, buckets, *([deltas[pair].get(c, 0) for pair in pairs] for c in columns)],
    )


def renew_batches(
    ids: Sequence[int],
    *,
    owner: int,
    lease_until: datetime,
    may_start_until_ms: int,
    then: Callable[[set[int]], None],
) -> None:
    # Locked in order, since others lock them too.
    later.run(
        "WITH owned AS MATERIALIZED (SELECT id FROM scheduling_batch WHERE id = ANY(%s::bigint[]) AND owner = %s"
        " ORDER BY id FOR UPDATE) UPDATE scheduling_batch b SET lease_until = %s, may_start_until_ms = %s"
        " FROM owned WHERE b.id = owned.id RETURNING b.id",
        [_text(ids), owner, lease_until, may_start_until_ms],
        lambda rows: then({batch_id for (batch_id,) in rows}),
    )


def waiting_buckets(ranges: Sequence[tuple[int, int]]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT b.id FROM unnest(%s::bigint[], %s::bigint[]) AS r(first, last)"
            " JOIN scheduling_bucket b ON b.id BETWEEN r.first AND r.last AND b.waiting_count > 0",
            [list(column) for column in zip(*ranges, strict=True)],
        )
        return [bucket_id for (bucket_id,) in cursor.fetchall()]


def count_users(ids: Sequence[int]) -> int:
    with connection.cursor() as cursor:
        # OFFSET 0: a look into the index for each ID. Before a table was analyzed the planner would rather read
        # all of it, for each ten thousand IDs.
        cursor.execute(
            "SELECT COUNT(*) FROM unnest(%s::bigint[]) asked(id) CROSS JOIN LATERAL"
            " (SELECT 1 FROM scheduling_user WHERE id = asked.id OFFSET 0) u",
            [_text(ids)],
        )
        return int(cursor.fetchone()[0])


def in_status(ids: Sequence[int], statuses: Sequence[int]) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        # OFFSET 0: as above.
        cursor.execute(
            "SELECT s.user_id, s.task_id FROM unnest(%s::bigint[]) asked(id) CROSS JOIN LATERAL"
            " (SELECT user_id, task_id FROM scheduling_assignment"
            " WHERE user_id = asked.id AND status = ANY(%s) OFFSET 0) s",
            [_text(ids), list(statuses)],
        )
        return list(cursor.fetchall())


def attempts_of(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int | None, str, str]]:
    tasks, users = zip(*pairs, strict=True)
    with connection.cursor() as cursor:
        # OFFSET 0: as above.
        cursor.execute(
            "SELECT a.* FROM unnest(%s::bigint[], %s::bigint[]) asked(task, id) CROSS JOIN LATERAL"
            " (SELECT task_id, user_id, number, http_status, error, answer FROM scheduling_attempt"
            " WHERE task_id = asked.task AND user_id = asked.id AND NOT unknown OFFSET 0) a",
            [_text(tasks), _text(users)],
        )
        return list(cursor.fetchall())


def kept_and_waiting(task_id: int, ids: Sequence[int]) -> tuple[int, int]:
    with connection.cursor() as cursor:
        # OFFSET 0: as above.
        cursor.execute(
            f"SELECT COUNT(*) FILTER (WHERE s.status <> {Status.CANCELLED:d}),"
            f" COUNT(*) FILTER (WHERE s.status = {Status.WAITING:d})"
            " FROM unnest(%s::bigint[]) asked(id) CROSS JOIN LATERAL"
            " (SELECT status FROM scheduling_assignment"
            " WHERE user_id = asked.id AND task_id = %s OFFSET 0) s",
            [_text(ids), task_id],
        )
        active, waiting = cursor.fetchone()
        return active, waiting


def _text(numbers: Iterable[int | None]) -> str:
    """An array as PostgreSQL reads it: psycopg would look at each number with a regular expression."""
    return "{" + ",".join(["NULL" if number is None else str(int(number)) for number in numbers]) + "}"
