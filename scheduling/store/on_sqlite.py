"""Bulk statements for SQLite: sets travel as one JSON text, which json_each reads in C."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from django.db import connection

from .. import keys
from ..models.assignment import Status


def now() -> datetime:
    # One machine: the host's clock is the database's.
    return datetime.now(UTC)


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


def create_windows(window_ids: Sequence[int], *, capacity: int) -> None:
    rows = [[w, keys.queue_of_window(w), _text(keys.starts_at_of_window(w))] for w in window_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT OR IGNORE INTO scheduling_window (id, queue_id, starts_at, version)"
            " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), 0"
            " FROM json_each(%s)",
            [json.dumps(rows)],
        )
        cursor.execute(
            "INSERT OR IGNORE INTO scheduling_bucket (id, window_id, capacity, filled_count, waiting_count,"
            " in_flight_count, succeeded_count, failed_count, expired_count, cancelled_count, moved_count,"
            " started_count, next_ordinal, cursor)"
            " SELECT (w.value << 4) | k.value, w.value, %s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0"
            " FROM json_each(%s) w, json_each('[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14]') k",
            [capacity, str(list(window_ids))],
        )


def add(table: str, deltas: Mapping[int, Mapping[str, int]]) -> None:
    if not deltas:
        return
    columns = sorted({column for row in deltas.values() for column in row})
    rows = [[key, *(row.get(column, 0) for column in columns)] for key, row in sorted(deltas.items())]
    sets = ", ".join(f"{c} = {c} + json_extract(d.value, '$[{i + 1}]')" for i, c in enumerate(columns))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {sets} FROM json_each(%s) d WHERE {table}.id = json_extract(d.value, '$[0]')",
            [json.dumps(rows)],
        )


def add_to_task_buckets(task_id: int, deltas: Mapping[int, Mapping[str, int]]) -> None:
    if not deltas:
        return
    columns = sorted({column for row in deltas.values() for column in row})
    rows = [[key, *(row.get(column, 0) for column in columns)] for key, row in sorted(deltas.items())]
    sets = ", ".join(f"{c} = {c} + json_extract(d.value, '$[{i + 1}]')" for i, c in enumerate(columns))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT OR IGNORE INTO scheduling_taskbucket (task_id, bucket_id, waiting_count, in_flight_count,"
            " succeeded_count, failed_count, cancelled_count, expired_count, moved_count)"
            " SELECT %s, json_extract(value, '$[0]'), 0, 0, 0, 0, 0, 0, 0 FROM json_each(%s)",
            [task_id, json.dumps(rows)],
        )
        cursor.execute(
            f"UPDATE scheduling_taskbucket SET {sets} FROM json_each(%s) d"
            " WHERE task_id = %s AND bucket_id = json_extract(d.value, '$[0]')",
            [json.dumps(rows), task_id],
        )


def cancel_rows(task_id: int, user_ids: Sequence[int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_assignment SET status = %s"
            " WHERE task_id = %s AND status = %s AND user_id IN (SELECT value FROM json_each(%s))",
            [Status.CANCELLED, task_id, Status.WAITING, str(list(user_ids))],
        )
        return cursor.rowcount


def _text(at: datetime) -> str:
    """A time as Django's SQLite backend keeps it, so that both find what the other wrote."""
    return connection.ops.adapt_datetimefield_value(at)
