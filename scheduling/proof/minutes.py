"""Checks of windows and minutes: the log leads to the fills, counters equal sums and rows, and each start
left a row.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from scheduling import models
from scheduling.core import allocator, clock, keys
from scheduling.core.batches import batches
from scheduling.models import MoveReason, ReservationKind, Status

from .base import Cursor, Difference, Piece, retained_since

_STATUSES = {status.value: status for status in Status}
COLUMNS = [status.counter for status in Status]
WINDOWS_AT_A_TIME = 50
# A piece ends with the window that reaches this many rows.
IDS_AT_A_TIME = 250_000
_COMES_IN = frozenset({ReservationKind.RESERVE, ReservationKind.MOVE_IN})


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the next windows in the order of their keys, and everything between them."""
    windows, buckets, is_last = _next(cursor[0], at)
    # The first and last bucket of the piece.
    first = keys.first_bucket_from(cursor[0] + 1 if cursor[0] else 0)
    end = keys.first_bucket_from(keys.WINDOWS_END if is_last else windows[-1].pk + 1)
    return Piece(
        [
            *_log_leads_to_fills(windows, buckets),
            *_minutes_add_up(buckets, first, end),
            *_counters_are_rows(buckets, first, end, retained_since(at)),
            *_starts_are_kept(buckets, first, end),
        ],
        None if is_last else (windows[-1].pk, 0),
        checked={"quarter-hour": len(windows), "minute": len(buckets)},
    )


Buckets = dict[int, models.Bucket]
# The number of rows, by task, bucket and status.
RowCounts = dict[tuple[int, int, Status], int]


def _next(cursor: int, at: datetime) -> tuple[list[models.Window], Buckets, bool]:
    """Return the next windows, their buckets by key, and whether these are the last."""
    retained = models.Window.objects.filter(pk__gt=cursor, starts_at__gte=retained_since(at)).order_by("pk")
    windows = list(retained.only("pk", "version")[: WINDOWS_AT_A_TIME + 1])
    is_last = len(windows) <= WINDOWS_AT_A_TIME
    windows = windows[:WINDOWS_AT_A_TIME]
    rows = models.Bucket.objects.filter(window_id__in=[window.pk for window in windows])
    buckets = {bucket.pk: bucket for bucket in rows}
    ids: dict[int, int] = defaultdict(int)
    for bucket in buckets.values():
        ids[bucket.window_id] += bucket.filled_count + bucket.cancelled_count
    total = 0
    for number, window in enumerate(windows, 1):
        total += ids[window.pk]
        if total >= IDS_AT_A_TIME and number < len(windows):
            windows, is_last = windows[:number], False
            break
    kept_ids = {window.pk for window in windows}
    return windows, {pk: row for pk, row in buckets.items() if row.window_id in kept_ids}, is_last


# --- The log ---


@dataclass(frozen=True)
class Line:
    """A line of the reservation log, with the columns that are replayed."""

    window_id: int
    version: int
    kind: str
    before: list[int]
    deltas: list[int]
    rpm: int
    ids_count: int
    note: str
    capacities: list[int] | None
    limits: list[int] | None

    @property
    def level(self) -> tuple[int, ...]:
        """Return what each minute may take by rule 1."""
        return tuple(self.capacities) if self.capacities else (self.rpm,) * clock.BUCKETS

    @property
    def name(self) -> str:
        return f"window {self.window_id}, line {self.version}"

    @property
    def after(self) -> tuple[int, ...]:
        return tuple(b + d for b, d in zip(self.before, self.deltas, strict=True))


def _log_leads_to_fills(windows: list[models.Window], buckets: Buckets) -> Iterator[Difference]:
    """Replay each window's log: every line must begin where the previous one ended, and the last one must end
    at the fill.
    """
    columns = (
        "window_id",
        "version",
        "kind",
        "fill_before",
        "deltas",
        "rpm",
        "ids_count",
        "note",
        "capacities",
        "limits",
    )
    lines: dict[int, list[Line]] = defaultdict(list)
    logged = models.Reservation.objects.filter(window_id__in=[window.pk for window in windows])
    for row in logged.order_by("window_id", "version").values_list(*columns):
        lines[row[0]].append(Line(*row))
    for window in windows:
        fill, version = (0,) * clock.BUCKETS, 0
        for line in lines[window.pk]:
            if line.version != version + 1:
                yield Difference("the log has every line", line.name, version + 1, line.version)
            for k, (was, now) in enumerate(zip(fill, line.before, strict=True)):
                if was != now:
                    of = f"{line.name}, minute {k}"
                    yield Difference("a line begins where the last ended", of, now, was)
            yield from _by_the_rules(line)
            fill, version = line.after, line.version
        if window.version != version:
            of = f"window {window.pk}"
            yield Difference("a window's version is its last line's", of, window.version, version)
        for bucket_id, actual in zip(keys.buckets_of_window(window.pk), fill, strict=True):
            bucket = buckets.get(bucket_id)
            counter = bucket.filled_count if bucket else 0
            if counter != actual:
                yield Difference("the log ends in the fill", f"bucket {bucket_id}", counter, actual)


def _by_the_rules(line: Line) -> Iterator[Difference]:
    """Check a line: a list's places follow the two rules, late IDs stay within rpm, and its numbers are
    right.
    """
    if abs(sum(line.deltas)) != line.ids_count:
        yield Difference("a line counts its places", line.name, line.ids_count, abs(sum(line.deltas)))
    is_addition = line.kind in _COMES_IN
    for k, delta in enumerate(line.deltas):
        if delta and (delta > 0) != is_addition:
            yield Difference(f"a line of {line.kind} has its direction", f"{line.name}, minute {k}", 0, delta)
    if line.kind in _COMES_IN and line.limits:
        for k, (delta, after) in enumerate(zip(line.deltas, line.after, strict=True)):
            if delta > 0 and after > line.limits[k]:
                of = f"{line.name}, minute {k}"
                yield Difference("a place is within the target's budget", of, line.limits[k], after)
    if line.kind == ReservationKind.RESERVE:
        yield from _of_a_list(line)
    elif line.kind == ReservationKind.MOVE_IN:
        for k, (delta, after) in enumerate(zip(line.deltas, line.after, strict=True)):
            if delta > 0 and after > line.level[k]:
                of = f"{line.name}, minute {k}"
                yield Difference("what is late stays within rpm", of, line.level[k], after)


def _of_a_list(line: Line) -> Iterator[Difference]:
    """Check the places of a list by the two rules.

    With carry_over and with the first free places, only rule 1 applies.
    """
    if line.note == models.Reservation.FIRST_FREE:
        for k, (delta, after) in enumerate(zip(line.deltas, line.after, strict=True)):
            if delta and after > line.level[k]:
                yield Difference(
                    "first free places stay within rpm", f"{line.name}, minute {k}", line.level[k], after
                )
        return
    if not any(line.level):
        yield Difference("places follow the rules", line.name, 0, line.ids_count)
        return
    nearest = allocator.counts(line.before, line.level, line.ids_count, line.limits)
    capped = allocator.free_places(line.before, line.level, line.ids_count)
    if tuple(line.deltas) not in {nearest, capped}:
        for k, (actual, rule) in enumerate(zip(line.deltas, nearest, strict=True)):
            if actual != rule:
                yield Difference("places follow the rules", f"{line.name}, minute {k}", actual, rule)


# --- Counters ---


def _minutes_add_up(buckets: Buckets, first: int, end: int) -> Iterator[Difference]:
    """Check that a minute's counters equal those of the tasks in it."""
    columns = [*COLUMNS, "moved_count"]
    within = models.TaskBucket.objects.filter(bucket_id__gte=first, bucket_id__lt=end)
    sums = within.order_by().values("bucket_id").annotate(**{f"sum_{name}": Sum(name) for name in columns})
    by_bucket: dict[int, Any] = {row["bucket_id"]: row for row in sums}
    for bucket_id, bucket in buckets.items():
        row = by_bucket.get(bucket_id, {})
        for column in columns:
            counter, actual = getattr(bucket, column), row.get(f"sum_{column}", 0)
            if counter != actual:
                yield Difference(
                    "a minute is the sum of its tasks", f"bucket {bucket_id}, {column}", counter, actual
                )


def _counters_are_rows(buckets: Buckets, first: int, end: int, since: datetime) -> Iterator[Difference]:
    """Counters equal rows, by task and minute.

    A place whose row isn't written yet waits, or is cancelled with its task; a row of a cancelled task that
    says it waits is cancelled, and follows.
    """
    unwritten = set(models.Segment.objects.unwritten().values_list("task_id", flat=True))
    rows = _rows(buckets, first, end, since)
    within = models.TaskBucket.objects.filter(bucket_id__gte=first, bucket_id__lt=end)
    placed = [
        row for row in within if keys.starts_at_of_window(keys.window_of_bucket(row.bucket_id)) >= since
    ]
    tasks = {task_id for task_id, _, _ in rows} | {row.task_id for row in placed}
    marked = _cancelled(tasks)
    for task_id, bucket_id, status in [*rows]:
        if task_id in marked and status == Status.WAITING:
            rows[task_id, bucket_id, Status.CANCELLED] += rows.pop((task_id, bucket_id, status))
    for row in placed:
        pending = Status.CANCELLED if row.task_id in marked else Status.WAITING
        yield from _counters_of(row, rows, pending if row.task_id in unwritten else None)
    for (task_id, bucket_id, status), actual in rows.items():
        of = f"task {task_id}, bucket {bucket_id}, {status.word}"
        yield Difference("a counter is its rows", of, 0, actual)


def _counters_of(row: models.TaskBucket, rows: RowCounts, pending: Status | None) -> Iterator[Difference]:
    """Compare the counters of a task in a minute with its rows, and remove these from `rows`.

    pending: the status that places whose rows aren't written yet are counted under.
    """
    for status in Status:
        counter, actual = getattr(row, status.counter), rows.pop((row.task_id, row.bucket_id, status), 0)
        if actual != counter and not (status == pending and actual < counter):
            of = f"task {row.task_id}, bucket {row.bucket_id}, {status.word}"
            yield Difference("a counter is its rows", of, counter, actual)


def _rows(buckets: Buckets, first: int, end: int, since: datetime) -> RowCounts:
    """Count the rows by task, bucket and status."""
    counts: RowCounts = defaultdict(int)
    borders = map(keys.first_assignment_from, (first, *_cuts(buckets), end))
    for begin, until in pairwise(borders):
        within = models.Assignment.objects.filter(pk__gte=begin, pk__lt=until).order_by()
        groups = within.annotate(bucket=models.BUCKET_OF_ROW).values_list("bucket", "task_id", "status")
        for bucket_id, task_id, status, count in groups.annotate(Count("pk")):
            if keys.starts_at_of_window(keys.window_of_bucket(bucket_id)) >= since:
                counts[task_id, bucket_id, _STATUSES[status]] += count
    return counts


def _cuts(buckets: Buckets) -> Iterator[int]:
    """Return where to divide the rows: a database groups in memory."""
    total = 0
    for pk, bucket in sorted(buckets.items()):
        total += bucket.filled_count + bucket.cancelled_count
        if total >= IDS_AT_A_TIME:
            total = 0
            yield pk + 1


def _cancelled(task_ids: set[int]) -> set[int]:
    result: set[int] = set()
    for batch in batches(sorted(task_ids), 1_000):
        cancelled_tasks = models.Task.objects.filter(pk__in=batch, cancelled_at__isnull=False)
        result.update(cancelled_tasks.values_list("pk", flat=True))
    return result


# --- What was started, and what has left ---


def _starts_are_kept(buckets: Buckets, first: int, end: int) -> Iterator[Difference]:
    """Check that each start left a success or an attempt, each possible repeat an attempt without a response,
    and each move one.
    """
    attempts = models.Attempt.objects.filter(bucket_id__gte=first, bucket_id__lt=end)
    answers = attempts.filter(unknown=False)
    succeeded = Q(http_status__range=(200, 299))
    failed = _by_bucket(answers.exclude(succeeded), "bucket_id")
    # The response of a success is stored if it was unusual; that isn't another start.
    stored_responses = _by_bucket(answers.filter(succeeded), "bucket_id")
    unknown = _by_bucket(attempts.filter(unknown=True), "bucket_id")
    moves = models.Move.objects.filter(from_bucket_id__gte=first, from_bucket_id__lt=end)
    moved = _by_bucket(moves, "from_bucket_id")
    # Successes that are resent leave no attempt in their former minute.
    by_hand = moves.filter(reason__in=(MoveReason.OPERATOR, MoveReason.EDIT))
    again = _by_bucket(by_hand, "from_bucket_id")
    for pk, bucket in buckets.items():
        least = bucket.succeeded_count + failed.get(pk, 0)
        most = least + stored_responses.get(pk, 0) + again.get(pk, 0)
        started = bucket.started_count
        if not least <= started <= most:
            actual = least if started < least else most
            yield Difference("a start is a success or an attempt", f"bucket {pk}", started, actual)
        if bucket.repeats_count != unknown.get(pk, 0):
            counter, actual = bucket.repeats_count, unknown.get(pk, 0)
            yield Difference("a possible repeat is an attempt", f"bucket {pk}", counter, actual)
        if bucket.moved_count != moved.get(pk, 0):
            counter, actual = bucket.moved_count, moved.get(pk, 0)
            yield Difference("what moved has its move", f"bucket {pk}", counter, actual)


def _by_bucket(rows: QuerySet[Any], column: str) -> dict[int, int]:
    return dict(rows.order_by().values_list(column).annotate(Count("pk")))
