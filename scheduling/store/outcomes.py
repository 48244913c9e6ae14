"""The outcomes of IDs are listed in the order in which they are committed, by the statements that set them.

An entry names places, whose rows hold the outcomes: a tick of thousands of IDs adds one row. On SQLite there is one
writer, so its entries are in order. On PostgreSQL they are inserted by the same message as COMMIT, under a lock that
every such transaction takes last: a reader that sees an entry sees all entries with smaller keys.
"""

from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS, connection, connections

from scheduling.core import clock, keys
from scheduling.core.batches import batches
from scheduling.models import Group, Status
from scheduling.postgresql.base import DatabaseWrapper

# Keys that one entry names: a page of the feed.
ENTRY_KEYS = 1_000

_VALUES = "queue_id, first_key, last_key, keys"
# The lock is that of entries: any number that nothing else locks.
_LOCK = "SELECT pg_advisory_xact_lock(7236040117)"
# Whatever COMMIT would check, and wait for, comes before the lock.
_CHECK = "SET CONSTRAINTS ALL IMMEDIATE"
_CLOCK_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Entry(NamedTuple):
    """Places of a queue: from the first key to the last one, or only `keys`."""

    queue_id: int
    first_key: int
    last_key: int
    keys: bytes | None = None


def is_outcome(status: int) -> bool:
    """Whether an ID with this status has its outcome."""
    return Group.UNFINISHED not in Status(status).groups


def add(rows: Iterable[int]) -> None:
    """Add the rows with these keys, whose outcomes this transaction sets."""
    _write(_entries(rows))


def add_range(first: int, last: int) -> None:
    """Add the rows in a range of keys of one bucket; those in it that have no outcome are passed over."""
    _write([Entry(keys.queue_of_bucket(keys.bucket_of_assignment(first)), first, last)])


def keep(rows: Iterable[int]) -> None:
    """Keep the outcomes of rows that are about to leave their places."""
    for batch in batches(list(rows), ENTRY_KEYS):
        # Whole numbers of ours.
        part = ", ".join([str(int(key)) for key in batch])
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO scheduling_formeroutcome (id, user_id, task_id, status, attempts)"
                f" SELECT id, user_id, task_id, status, attempts FROM scheduling_assignment WHERE id IN ({part})"
                " ON CONFLICT DO NOTHING"
            )


def _entries(rows: Iterable[int]) -> Iterator[Entry]:
    for bucket_queue, of_queue in groupby(sorted(rows), _queue):
        for part in batches(list(of_queue), ENTRY_KEYS):
            is_whole = part[-1] - part[0] + 1 == len(part)
            yield Entry(bucket_queue, part[0], part[-1], None if is_whole else array("q", part).tobytes())


def _queue(key: int) -> int:
    return keys.queue_of_bucket(keys.bucket_of_assignment(key))


def _write(entries: Iterable[Entry]) -> None:
    rows = list(entries)
    if not rows:
        return
    wrapper = connections[DEFAULT_DB_ALIAS]
    if isinstance(wrapper, DatabaseWrapper):
        wrapper.send_last([_CHECK, _LOCK], *_insert(rows, _CLOCK_US, "greatest", "bytea"))
    else:
        # One machine: the host's clock is the database's.
        now_us = clock.epoch_microseconds(datetime.now(UTC))
        with wrapper.cursor() as cursor:
            cursor.execute(*_insert(rows, str(now_us), "max", "blob"))


def _insert(
    entries: list[Entry], now_us: str, larger: str, binary: str
) -> tuple[str, list[int | bytes | None]]:
    """Return the statement that inserts entries after all existing ones, and its parameters."""
    values = ", ".join(
        [f"({number}, %s, %s, %s, CAST(%s AS {binary}))" for number in range(1, len(entries) + 1)]
    )
    return (
        f"WITH new (number, {_VALUES}) AS (VALUES {values}) INSERT INTO scheduling_outcomeentry (id, {_VALUES})"
        f" SELECT (SELECT {larger}(coalesce(max(id), 0), {now_us}) FROM scheduling_outcomeentry) + number, {_VALUES}"
        " FROM new",
        [value for entry in entries for value in entry],
    )
