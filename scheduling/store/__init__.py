"""What differs between SQLite and PostgreSQL, behind one interface.

Locks are taken in one order, each by key: idempotency key, target, queue, window, bucket, task,
task_bucket, users. Every change of fills begins with the queue's row, or with that of its target. On SQLite the gate of
`scheduling.sqlite` is all the locking there is.
"""

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, TypeVar

import structlog
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import BinaryField, Func, IntegerField, Q, Value
from django.db.models.sql.compiler import SQLCompiler

from scheduling.core import keys
from scheduling.core.time_limit import TimeLimit
from scheduling.models import TRANSITIONS, Queue, Status, Target
from scheduling.sqlite.base import DatabaseWrapper
from scheduling.store import later, on_postgresql, on_sqlite, outcomes

log = structlog.get_logger(__name__)

# How long to look for a change whose COMMIT got no answer: a failover takes a few seconds.
RECOGNISE_SECONDS = 5.0

# What is no OperationalError: a standby is read-only until it is promoted, and a transaction was idle for too long.
_UNAVAILABLE = ("25006", "25P03")

Result = TypeVar("Result")


def backend() -> ModuleType:
    """The module that speaks this database's SQL."""
    return on_postgresql if connection.vendor == "postgresql" else on_sqlite


def now() -> datetime:
    """The database's clock, aware, UTC: leases and due times of all hosts go by it."""
    at: datetime = backend().now()
    return at.astimezone(UTC)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database is locked, gone or read-only: no row is at fault, and the same may succeed later."""
    said_so = getattr(error.__cause__, "sqlstate", None) in _UNAVAILABLE
    return said_so or isinstance(error, (OperationalError, InterfaceError))


def disk_is_full(error: BaseException) -> bool:
    """Whether the database, or the system, had no room to write."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not isinstance(error, DatabaseError):
        return False
    message = str(error).lower()
    return "disk is full" in message or "no space left" in message


def keep_waits_short() -> None:
    """Let this connection wait and be waited for only briefly: a host that vanishes holds up no other for long."""
    backend().keep_waits_short()


def end_short_waits() -> None:
    """Let this connection wait as long as others do."""
    backend().end_short_waits()


@contextmanager
def write() -> Iterator[None]:
    """A short write transaction, whole or not at all."""
    with transaction.atomic():
        yield


def write_and_recognise(
    change: Callable[[], Result], is_there: Callable[[Result], bool], *, bulk: bool = False
) -> Result:
    """Make a change in a write transaction of its own; if the answer to its COMMIT is lost, look whether it is there.

    change: makes it and returns its result. is_there: whether it was committed, given that result; called on a new
    connection, for a few seconds while the database is unreachable. Raises what the transaction raised if it wasn't.
    """
    results: list[Result] = []
    try:
        with bulk_write() if bulk else write():
            results.append(change())
    except (OperationalError, InterfaceError):
        # Part of a larger transaction it hasn't been committed; and without a result it was never made.
        if connection.in_atomic_block or not results or not was_committed(is_there, results[0]):
            raise
    return results[0]


def was_committed(is_there: Callable[[Result], bool], result: Result) -> bool:
    """Whether a change whose COMMIT got no answer was made: looked up on a new connection, for a few seconds."""
    limit = TimeLimit(RECOGNISE_SECONDS)
    while True:
        connection.close()
        try:
            is_committed = is_there(result)
        except (OperationalError, InterfaceError):
            if limit.is_over:
                return False
            time.sleep(0.2)
        else:
            if is_committed:
                log.warning("lost_commit_recognised")
            return is_committed


@contextmanager
def bulk_write() -> Iterator[None]:
    """A write transaction of some 30 ms, after which others get their turn."""
    with transaction.atomic():
        wrapper = connections[DEFAULT_DB_ALIAS]
        if isinstance(wrapper, DatabaseWrapper):
            wrapper.bulk = True
        yield


def lock_queues(column: str, values: Sequence[Any], target_ids: Sequence[int] = ()) -> list[Queue]:
    """Return the queues with these keys or names, by key; their rows are locked, and before them those of their
    targets and of `target_ids`. One statement.
    """
    queues: list[Queue] = []
    read_locked_queues(column, values, queues.extend, target_ids)
    later.wait()
    lock_new_targets(queues, target_ids)
    return queues


def read_locked_queues(
    column: str, values: Sequence[Any], then: Callable[[list[Queue]], None], target_ids: Sequence[int] = ()
) -> None:
    """Lock the same, in a tick with the next statement that is waited for. then: is given the queues, for which
    `lock_new_targets` is to be called.
    """
    if connection.vendor == "sqlite":
        then(list(Queue.objects.filter(**{f"{column}__in": values}).order_by("pk")))
        return
    names = [str(field.attname) for field in Queue._meta.concrete_fields]
    sql = on_postgresql.lock_queues(column, [str(field.column) for field in Queue._meta.concrete_fields])
    later.read_by_sql(Queue, [*names, "locked_target"], sql, [values, list(target_ids), values], then)


def lock_new_targets(queues: Sequence[Queue], target_ids: Sequence[int] = ()) -> None:
    """Lock the targets that other transactions have given queues while this one waited for the queues."""
    if connection.vendor == "sqlite":
        return
    locked_target_ids = {getattr(queue, "locked_target", None) for queue in queues}.union(target_ids)
    if changed := {queue.target_id for queue in queues if queue.target_id is not None} - locked_target_ids:
        list(Target.objects.select_for_update().filter(pk__in=changed).order_by("pk").values_list("pk"))


def insert_assignments(task_id: int, groups: Sequence[tuple[int, Sequence[int]]], *, status: int) -> None:
    """Insert rows of one task. groups: (first key, user IDs that get the keys from it on)."""
    backend().insert_assignments(task_id, groups, status=status)
    if outcomes.is_outcome(status):
        outcomes.add(key for first, users in groups for key in range(first, first + len(users)))


def insert_users(ids: Sequence[int], *, at: datetime) -> None:
    """Insert the users that aren't there yet. ids: ascending, so that writers never wait in a circle."""
    backend().insert_users(ids, at=at)


def large_cache() -> AbstractContextManager[None]:
    """Let this connection keep as many pages in memory as one of a cluster, where each has a cache of its own.

    Text IDs go to any place of their index: with a small cache, each page is written many times.
    """
    cache: AbstractContextManager[None] = backend().large_cache()
    return cache


def insert_data(task_id: int, rows: Sequence[tuple[int, str]], *, replace: bool = False) -> None:
    """Insert the data of a task's IDs. rows: (user ID, JSON), ascending. replace: some may be there already."""
    if rows:
        backend().insert_data(task_id, rows, replace=replace)


def overwrite_what_is_deleted() -> None:
    """Let what this connection deletes be overwritten in the file, where the database can do that."""
    backend().overwrite_what_is_deleted()


def overwrite_log() -> None:
    """Move what was written to its place, so that the log in front of it keeps no older version. Best effort."""
    backend().overwrite_log()


def keep_people() -> None:
    """Let nobody be erased until the open transaction ends. Taken after the locks of queues, by any number at once."""
    backend().keep_people()


def lock_people() -> None:
    """Wait for the transactions that keep people, and hold up others, until the open transaction ends."""
    backend().lock_people()


def insert_external_ids(rows: Sequence[tuple[int, str]]) -> None:
    """Insert IDs that are text: (number, ID)."""
    if rows:
        backend().insert_external_ids(rows)


def numbers_of_texts(texts: Sequence[str]) -> dict[str, int]:
    """Return the numbers of those IDs that have one."""
    numbers: dict[str, int] = backend().numbers_of_texts(texts) if texts else {}
    return numbers


def data_of(task_id: int, users: Sequence[int]) -> dict[int, str]:
    """Return the data of IDs of a task as JSON, by ID. Those that have none are missing."""
    data: dict[int, str] = backend().data_of(task_id, users) if users else {}
    return data


def insert_moves(
    task_id: int, moves: Sequence[tuple[Sequence[int], int, int]], *, reason: str, at: datetime
) -> None:
    """Keep moves. moves: (user IDs, from bucket, to bucket)."""
    backend().insert_moves(task_id, moves, reason=reason, at=at)


def create_windows(window_ids: Sequence[int], *, capacity: int | Sequence[int]) -> None:
    """Create the windows, with their 15 buckets, that aren't there yet. All of one queue, ascending.

    capacity: one number for all buckets, or 15.
    """
    fill = [capacity] * keys.BUCKETS if isinstance(capacity, int) else list(capacity)
    backend().create_windows(window_ids, capacities=fill)


def add_to_buckets(deltas: Mapping[int, Mapping[str, int]]) -> None:
    """Add to the counters of buckets in one statement, locked in the order of their keys.

    deltas: bucket ID to {column: what is added}. IntegrityError where a counter would fall below zero.
    """
    backend().add("scheduling_bucket", deltas)


def add_to_task_buckets(task_id: int, deltas: Mapping[int, Mapping[str, int]]) -> None:
    """The same for what one task has in buckets; rows that aren't there yet are made."""
    backend().add_to_task_buckets(task_id, deltas)


def place_in_task_buckets(task_id: int, counts: Mapping[int, int]) -> None:
    """Count what a list of a task waits for: bucket ID to how many. Rows that aren't there yet are made."""
    backend().place_in_task_buckets(task_id, counts)


def take_ordinals(counts: Mapping[int, int]) -> dict[int, int]:
    """Assign ordinals, which are never assigned twice: bucket ID to how many; return bucket ID to the first of them."""
    following: dict[int, int] = backend().move_ordinals(counts) if counts else {}
    return {bucket: ordinal - counts[bucket] for bucket, ordinal in following.items()}


def add_to_versions(window_ids: Sequence[int]) -> None:
    """Give each of the windows that are there its next version: the caller, who holds their queue, knows it."""
    backend().add_to_versions(window_ids)


def next_versions(window_ids: Sequence[int]) -> dict[int, int]:
    """Give each of the windows that are there its next version; return window ID to version."""
    versions: dict[int, int] = backend().next_versions(window_ids)
    return versions


def cancel_rows(task_id: int, user_ids: Sequence[int]) -> int:
    """Let the task's waiting rows among `user_ids` follow a cancel; return how many did."""
    cancelled: list[int] = backend().cancel_rows(task_id, user_ids)
    outcomes.add(cancelled)
    return len(cancelled)


# --- Minutes: what waits is claimed, and what was claimed gets its outcome ---


def waiting_rows(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return the first waiting rows of each range of keys: (key, user, task, attempts), ascending.

    ranges: (first key, last key, at most how many). Rows of cancelled tasks don't wait, whatever they say, and
    those of tasks on hold are left out, as are those that wait for the canary of their task.
    """
    rows: list[tuple[int, int, int, int]] = backend().waiting_rows(ranges) if ranges else []
    return rows


def read_waiting_rows(
    ranges: Sequence[tuple[int, int, int]], then: Callable[[list[tuple[int, int, int, int]]], None]
) -> None:
    """Read the same, in a tick with the next statement that is waited for. then: is given the rows."""
    if ranges:
        backend().read_waiting_rows(ranges, then)


def tasks_that_wait(ranges: Sequence[tuple[int, int, int]]) -> tuple[str, Sequence[str | int]]:
    """The tasks of the same rows, as a statement and its parameters: where statements are put off."""
    statement: tuple[str, Sequence[str | int]] = on_postgresql.tasks_that_wait(ranges)
    return statement


def may_start_in(ranges: Sequence[tuple[int, int, int]]) -> str:
    """The condition, as SQL, that a row in these ranges may start: its task is neither cancelled nor on hold, and if
    only its canary runs, the row is one of that.
    """
    condition: str = backend().may_start_in(ranges)
    return condition


def is_of_canary_in(ranges: Sequence[tuple[int, int, int]]) -> str:
    """The condition, as SQL, that only the canary of a row's task runs, for rows in these ranges."""
    condition: str = backend().is_of_canary_in(ranges)
    return condition


def set_status(ids: Sequence[int], status: int, *, was: int) -> int:
    """Compare-and-set of a status; return how many rows had it."""
    may_become(was, [status])
    count: int = backend().set_status(ids, status, was=was) if ids else 0
    if count and outcomes.is_outcome(status):
        outcomes.add(ids)
    return count


def set_status_of_all(ids: Sequence[int], status: int, *, was: int) -> None:
    """The same, where every row must have had it: else this raises, or COMMIT does."""
    may_become(was, [status])
    if ids:
        backend().set_status_of_all(ids, status, was=was)
        if outcomes.is_outcome(status):
            outcomes.add(ids)


def set_outcomes(rows: Sequence[tuple[int, int, int, int | None]], *, was: int) -> None:
    """Set (key, status, attempts, started after ms) of rows that all must have the status `was`."""
    may_become(was, {row[1] for row in rows})
    if rows:
        backend().set_outcomes(rows, was=was)
        outcomes.add(key for key, status, *_ in rows if outcomes.is_outcome(status))


def renew_batches(
    ids: Sequence[int],
    *,
    owner: int,
    lease_until: datetime,
    may_start_until_ms: int,
    then: Callable[[set[int]], None],
) -> None:
    """Lock the batches that an owner still has, and renew their leases. then: is given their keys."""
    backend().renew_batches(
        ids, owner=owner, lease_until=lease_until, may_start_until_ms=may_start_until_ms, then=then
    )


def move_rows(pairs: Sequence[tuple[int, int]], *, status: int, was: int) -> None:
    """Give rows, which all must have the status `was`, another place and status: (key, new key)."""
    may_become(was, [status])
    if pairs:
        if outcomes.is_outcome(was):
            outcomes.keep(key for key, _ in pairs)
        backend().move_rows(pairs, status=status, was=was)


def set_on_buckets(values: Mapping[int, Mapping[str, int | None]]) -> None:
    """Set columns of buckets whose rows the caller holds. The same columns for each."""
    backend().set_on_buckets(values)


def add_to_tasks(deltas: Mapping[int, Mapping[str, int]]) -> None:
    """Add to the counters of tasks in one statement, locked in the order of their keys."""
    backend().add("scheduling_task", deltas)


def add_to_placed(deltas: Mapping[tuple[int, int], Mapping[str, int]]) -> None:
    """Add to what tasks have in buckets, in rows that are there: (task, bucket) to {column: what is added}."""
    backend().add_to_placed(deltas)


def waiting_buckets(ranges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the buckets in these ranges of keys (both ends inclusive) in which something waits."""
    buckets: list[int] = backend().waiting_buckets(ranges) if ranges else []
    return buckets


# --- Queries of pages and the API ---


def count_users(ids: Sequence[int]) -> int:
    """How many of the IDs have a user. ids: different ones; ascending is fastest."""
    count: int = backend().count_users(ids)
    return count


def in_status(ids: Sequence[int], statuses: Sequence[int]) -> list[tuple[int, int]]:
    """(ID, task) of the rows of these IDs in any of these states, those of cancelled tasks too."""
    rows: list[tuple[int, int]] = backend().in_status(ids, statuses)
    return rows


def attempts_of(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int | None, str, str]]:
    """(task, ID, number, HTTP status, error, answer) of the kept attempts of IDs. pairs: (task, ID)."""
    rows: list[tuple[int, int, int, int | None, str, str]] = backend().attempts_of(pairs) if pairs else []
    return rows


def kept_and_waiting(task_id: int, ids: Sequence[int]) -> tuple[int, int]:
    """How many of the IDs the task has that aren't cancelled, and how many of them wait."""
    counts: tuple[int, int] = backend().kept_and_waiting(task_id, ids)
    return counts


class PositionOfBytes(Func):
    """Where bytes begin in a binary column, from 1; 0 if they aren't there."""

    function = "INSTR"
    output_field = IntegerField()

    def __init__(self, column: str, pattern: bytes) -> None:
        super().__init__(column, Value(pattern, output_field=BinaryField()))

    def as_postgresql(self, compiler: SQLCompiler, connection: Any, **context: Any) -> Any:
        turned = self.copy()
        turned.set_source_expressions(self.get_source_expressions()[::-1])
        return turned.as_sql(compiler, connection, function="POSITION", arg_joiner=" IN ", **context)


def begins_with(column: str, text: str) -> Q:
    """The rows whose `column` begins with `text`, as an index of that column finds them. Case counts."""
    if connection.vendor == "sqlite":
        # LIKE reads every row; text is compared by its bytes, so a range is exact.
        return Q(**{f"{column}__gte": text, f"{column}__lt": text + chr(0x10FFFF)})
    return Q(**{f"{column}__startswith": text})


def may_become(was: int, statuses: Iterable[int]) -> None:
    """Hold a change of state against the one table. A status that stays is none."""
    for status in statuses:
        if status != was and Status(status) not in TRANSITIONS[Status(was)]:
            raise ValueError(f"{Status(was).word} never becomes {Status(status).word}")


def as_time(value: datetime | str | None) -> datetime | None:
    """A time as the database gave it: SQLite keeps text, in UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
