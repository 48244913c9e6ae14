"""Do the tables keep their promises? Each check says what it found, as two numbers that should be one.

Read-only, in small pieces, on live data: what moves meanwhile is looked at again before it is called wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from . import allocator, claims, clock, keys, late, models, store
from .models import MoveReason, ReservationKind, Status

# What is older than the retention is let go of window by window: a task that reaches back so far is no
# longer the sum of what is there.
STATUSES = ("waiting", "in_flight", "succeeded", "failed", "expired", "cancelled")
# Buckets whose rows are counted in one statement.
BUCKETS_AT_A_TIME = 200


@dataclass(frozen=True)
class Difference:
    """Something that doesn't hold: of what, what is said of it, and what is found."""

    check: str
    of: str
    said: int
    found: int
    # Its numbers go on with the clock, whatever the tables do: another look finds others.
    by_clock: bool = False

    @property
    def same_as(self) -> tuple:
        """Equal for what two looks found alike: counters of what runs are wrong at each look, each time else."""
        return (self.check, self.of) if self.by_clock else (self.check, self.of, self.said, self.found)

    def __str__(self) -> str:
        return f"{self.check}: {self.of}: {self.said} by the tables, {self.found} found"


def check(now: Callable[[], datetime]) -> list[Difference]:
    """Run every check; return what doesn't hold twice in a row."""
    found = []
    for one in CHECKS:
        first = {difference.same_as for difference in one(now())}
        if first:
            # On live data a counter and its rows may be read on two sides of a transaction.
            again = {difference for difference in one(now()) if difference.same_as in first}
            found.extend(sorted(again, key=str))
    return found


def log_leads_to_fills(at: datetime) -> Iterator[Difference]:
    """Each window's log, replayed: every line begins where the last one ended, and the end is the fill."""
    fill: tuple[int, ...] = ()
    window = None
    lines = models.Reservation.objects.order_by("window_id", "version")
    columns = ("window_id", "version", "kind", "fill_before", "deltas", "rpm", "ids_count")
    version = 0
    last: dict[int, int] = {}
    for window_id, number, kind, before, deltas, rpm, ids in lines.values_list(*columns).iterator(2_000):
        if window_id != window:
            if window is not None:
                yield from _final(window, fill)
            window, fill, version = window_id, (0,) * clock.BUCKETS, 0
        name = f"window {window_id}, line {number}"
        if number != version + 1:
            yield Difference("the log has every line", name, version + 1, number)
        for k, (was, now) in enumerate(zip(fill, before, strict=True)):
            if was != now:
                yield Difference("a line begins where the last ended", f"{name}, minute {k}", now, was)
        if kind == ReservationKind.RESERVE:
            yield from _by_the_rules(name, tuple(before), tuple(deltas), rpm, ids)
        fill = tuple(b + d for b, d in zip(before, deltas, strict=True))
        last[window_id] = version = number
    if window is not None:
        yield from _final(window, fill)
    yield from _every_window_is_logged(last, at)


def _every_window_is_logged(last: dict[int, int], at: datetime) -> Iterator[Difference]:
    """A window's version is its last line's, and where something is there, there are lines."""
    # Of an older one the lines may have gone, and the window not yet.
    kept = models.Window.objects.filter(starts_at__gte=at - timedelta(days=settings.RETENTION_DAYS))
    for window_id, version in kept.order_by("pk").values_list("pk", "version").iterator(2_000):
        if version != last.get(window_id, 0):
            found = last.get(window_id, 0)
            yield Difference("a window's version is its last line's", f"window {window_id}", version, found)
        if window_id not in last:
            yield from _final(window_id, (0,) * clock.BUCKETS)


def _by_the_rules(
    name: str, before: tuple[int, ...], deltas: tuple[int, ...], rpm: int, ids: int
) -> Iterator[Difference]:
    """A list's places are where the two rules put them (carry_over keeps to the first)."""
    wanted = {allocator.counts(before, rpm, ids), allocator.free_places(before, (rpm,) * clock.BUCKETS, ids)}
    if deltas not in wanted:
        nearest = allocator.counts(before, rpm, ids)
        for k, (said, rule) in enumerate(zip(deltas, nearest, strict=True)):
            if said != rule:
                yield Difference("places follow the rules", f"{name}, minute {k}", said, rule)


def _final(window_id: int, fill: tuple[int, ...]) -> Iterator[Difference]:
    buckets = models.Bucket.objects.filter(window_id=window_id).order_by("pk")
    for bucket_id, filled in buckets.values_list("pk", "filled_count"):
        if filled != fill[bucket_id & 15]:
            yield Difference("the log ends in the fill", f"bucket {bucket_id}", filled, fill[bucket_id & 15])


def tasks_add_up(at: datetime) -> Iterator[Difference]:
    """What tasks and buckets count is what their common table counts."""
    columns = [f"{status}_count" for status in STATUSES]
    per_task = models.TaskBucket.objects.values("task_id").annotate(**_sums(columns))
    by_task = {row["task_id"]: row for row in per_task}
    for task in _whole_tasks(at).iterator(1_000):
        for column in columns:
            found = by_task.get(task.pk, {}).get(f"sum_{column}", 0)
            if getattr(task, column) != found:
                of = f"task {task.pk}, {column}"
                yield Difference("a task is the sum of its minutes", of, getattr(task, column), found)
    per_bucket = models.TaskBucket.objects.values("bucket_id").annotate(**_sums([*columns, "moved_count"]))
    by_bucket = {row["bucket_id"]: row for row in per_bucket}
    for bucket in models.Bucket.objects.iterator(2_000):
        for column in (*columns, "moved_count"):
            found = by_bucket.get(bucket.pk, {}).get(f"sum_{column}", 0)
            if getattr(bucket, column) != found:
                of = f"bucket {bucket.pk}, {column}"
                yield Difference("a minute is the sum of its tasks", of, getattr(bucket, column), found)


def _whole_tasks(at: datetime) -> QuerySet:
    kept_since = at - timedelta(days=settings.RETENTION_DAYS) + clock.QUARTER
    return models.Task.objects.filter(first_minute_at__gte=kept_since)


def _sums(columns: list[str]) -> dict[str, Coalesce]:
    return {f"sum_{column}": Coalesce(Sum(column), 0) for column in columns}


def counters_are_rows(at: datetime) -> Iterator[Difference]:
    """Counters equal rows, by task and minute.

    A place whose row isn't written yet waits, or is cancelled with its task; a row of a cancelled task that
    says it waits is cancelled, and follows.
    """
    unwritten = _unwritten_by_task()
    marked = set(models.Task.objects.filter(cancelled_at__isnull=False).values_list("pk", flat=True))
    missing: dict[int, int] = defaultdict(int)
    for buckets in _in_pieces(models.TaskBucket.objects.order_by("bucket_id"), BUCKETS_AT_A_TIME):
        rows = _rows_by_status(buckets, marked)
        said = models.TaskBucket.objects.filter(bucket_id__in=buckets)
        for placed in said:
            for status in STATUSES:
                count = getattr(placed, f"{status}_count")
                found = rows.pop((placed.task_id, placed.bucket_id, status), 0)
                gap = status == ("cancelled" if placed.task_id in marked else "waiting")
                if gap and found < count and placed.task_id in unwritten:
                    missing[placed.task_id] += count - found
                elif found != count:
                    of = f"task {placed.task_id}, bucket {placed.bucket_id}, {status}"
                    yield Difference("a counter is its rows", of, count, found)
        for (task_id, bucket_id, status), found in rows.items():
            of = f"task {task_id}, bucket {bucket_id}, {status}"
            yield Difference("a counter is its rows", of, 0, found)
    for task_id, count in unwritten.items():
        if missing.get(task_id, 0) > count:
            yield Difference("what isn't written is counted", f"task {task_id}", count, missing[task_id])


def _unwritten_by_task() -> dict[int, int]:
    open_ones = models.Segment.objects.unwritten()
    return dict(open_ones.values_list("task_id").annotate(left=Sum(F("ids_count") - F("written_count"))))


def _in_pieces(placed: QuerySet, size: int) -> Iterator[list[int]]:
    last = -1
    while True:
        ids = placed.filter(bucket_id__gt=last).values_list("bucket_id", flat=True).distinct()[:size]
        if not (piece := list(ids)):
            return
        yield piece
        last = piece[-1]


def _rows_by_status(buckets: list[int], marked: set[int]) -> dict[tuple[int, int, str], int]:
    rows: dict[tuple[int, int, str], int] = defaultdict(int)
    for bucket_id in buckets:
        first, last = keys.range_of_bucket(bucket_id)
        groups = models.Assignment.objects.filter(pk__gte=first, pk__lte=last).values_list(
            "task_id", "status"
        )
        for task_id, status, count in groups.annotate(Count("pk")):
            if task_id in marked and status == Status.WAITING:
                status = Status.CANCELLED
            rows[task_id, bucket_id, Status(status).word] += count
    return rows


def ids_are_once(at: datetime) -> Iterator[Difference]:
    """Each task has as many rows as IDs, all written; the database's constraint says that none is twice."""
    unwritten = _unwritten_by_task()
    by_task = models.Assignment.objects.values_list("task_id").order_by("task_id")
    rows = dict(by_task.annotate(Count("pk")))
    distinct = dict(by_task.annotate(Count("user_id", distinct=True)))
    for task_id, ids in _whole_tasks(at).values_list("pk", "ids_count").iterator(2_000):
        written = rows.get(task_id, 0)
        found = written + unwritten.get(task_id, 0)
        if found != ids:
            yield Difference("every ID has its row", f"task {task_id}", ids, found)
        if written != distinct.get(task_id, 0):
            yield Difference("no ID is twice", f"task {task_id}", written, distinct.get(task_id, 0))


def finished_tasks_are_done(at: datetime) -> Iterator[Difference]:
    """Nothing of a finished task waits or is under way."""
    finished = models.Task.objects.filter(finished_at__isnull=False)
    undone = finished.filter(Q(waiting_count__gt=0) | Q(in_flight_count__gt=0)).order_by("pk")
    for task_id, waiting, in_flight in undone.values_list("pk", "waiting_count", "in_flight_count"):
        yield Difference("a finished task has nothing left", f"task {task_id}", 0, waiting + in_flight)


def starts_are_kept(at: datetime) -> Iterator[Difference]:
    """Each start left a success or an attempt, each possible repeat an attempt without an answer."""
    answers = models.Attempt.objects.filter(unknown=False)
    succeeded = Q(http_status__range=(200, 299))
    failed = _by_bucket(answers.exclude(succeeded))
    # An answer that came with a success is kept where it was odd: it isn't one more start.
    noted = _by_bucket(answers.filter(succeeded))
    unknown = _by_bucket(models.Attempt.objects.filter(unknown=True))
    moves = models.Move.objects.filter(reason__in=(MoveReason.OPERATOR, MoveReason.EDIT))
    # Successes that are sent again leave no attempt where they were.
    again = dict(moves.order_by().values_list("from_bucket_id").annotate(Count("pk")))
    kept_since = at - timedelta(days=settings.RETENTION_DAYS) + clock.QUARTER
    buckets = models.Bucket.objects.filter(window__starts_at__gte=kept_since).order_by("pk")
    columns = ("pk", "started_count", "succeeded_count", "repeats_count")
    for bucket_id, started, successes, repeats in buckets.values_list(*columns).iterator(2_000):
        least = successes + failed.get(bucket_id, 0)
        most = least + noted.get(bucket_id, 0) + again.get(bucket_id, 0)
        if not least <= started <= most:
            found = least if started < least else most
            yield Difference("a start is a success or an attempt", f"bucket {bucket_id}", started, found)
        if repeats != unknown.get(bucket_id, 0):
            found = unknown.get(bucket_id, 0)
            yield Difference("a possible repeat is an attempt", f"bucket {bucket_id}", repeats, found)


def _by_bucket(attempts: QuerySet) -> dict[int, int]:
    return dict(attempts.order_by().values_list("bucket_id").annotate(Count("pk")))


def nothing_is_left_behind(at: datetime) -> Iterator[Difference]:
    """No ID waits in a minute that ended two leases ago, but in a paused queue."""
    for bucket_id in late.left_behind(at - 2 * claims.LEASE):
        waiting = len(store.waiting_rows([(*keys.range_of_bucket(bucket_id), 1_000)]))
        if waiting:
            yield Difference("nothing is left behind", f"bucket {bucket_id}", 0, waiting)


def no_claim_is_old(at: datetime) -> Iterator[Difference]:
    """Every claim has a living owner, or had until a lease ago; none is leased for longer than a lease.

    What is in flight is claimed.
    """
    old = models.Batch.objects.filter(lease_until__lt=at - claims.LEASE)
    for batch in old.order_by("pk"):
        age = round((at - batch.lease_until).total_seconds() + claims.LEASE.total_seconds())
        of = f"batch {batch.pk}, seconds"
        yield Difference("no claim is older than two leases", of, 30, age, by_clock=True)
    # Leases are of the database's clock, as `at` is; a lease more, since `at` is that of the check's beginning.
    ahead = models.Batch.objects.filter(lease_until__gt=at + 2 * claims.LEASE)
    for batch in ahead.order_by("pk"):
        left = round((batch.lease_until - at).total_seconds())
        of = f"batch {batch.pk}, seconds"
        yield Difference("no claim is leased for longer than a lease", of, 15, left, by_clock=True)
    claimed: set[int] = set()
    for batch in models.Batch.objects.iterator(500):
        claimed.update(key for key, _ in claims.contents(batch))
    in_flight = models.Assignment.objects.filter(status=Status.IN_FLIGHT).values_list("pk", flat=True)
    for key in in_flight.iterator(2_000):
        if key not in claimed:
            yield Difference("what is in flight is claimed", f"row {key}", 1, 0)


CHECKS = (
    log_leads_to_fills,
    tasks_add_up,
    counters_are_rows,
    ids_are_once,
    finished_tasks_are_done,
    starts_are_kept,
    nothing_is_left_behind,
    no_claim_is_old,
)
