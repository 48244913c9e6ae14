"""The IDs behind a number on a page: the IDs of a few minutes with one outcome, exactly as the counters count them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby, islice
from typing import Any, NamedTuple

from django.db import models as fields
from django.db.models import Q, QuerySet

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import Group, Status
from scheduling.store.blocks import in_blocks

ROWS_AT_ONCE = 2000
# Buckets that one query looks into; a window of a queue has 15.
BUCKETS_A_QUERY = 30


class Kind(fields.TextChoices):
    """What a number counts. Waiting IDs are `late` if their minute is over, else `waiting`."""

    ALL = "", "all that have a place"
    SENT = "sent", "sent"
    SUCCEEDED = Status.SUCCEEDED.word, Status.SUCCEEDED.label
    FAILED = Status.FAILED.word, Status.FAILED.label
    EXPIRED = Status.EXPIRED.word, Status.EXPIRED.label
    IN_FLIGHT = Status.IN_FLIGHT.word, Status.IN_FLIGHT.label
    WAITING = Status.WAITING.word, Status.WAITING.label
    LATE = "late", "late"
    CANCELLED = Status.CANCELLED.word, Status.CANCELLED.label
    MOVED = "moved", "moved away"
    # As a receipt counts them: they moved after their minute had passed.
    MOVED_LATE = "moved_late", "were late and moved away"
    REPEATS = "repeats", "may have gone out twice"


# The counters of a bucket whose sum is the number.
COUNTERS: dict[Kind, tuple[str, ...]] = {
    Kind.ALL: ("filled",),
    Kind.SENT: tuple(status.word for status in Status.of(Group.SENT)),
    Kind.LATE: (Status.WAITING.word,),
    # An upper bound: their moves tell which of them were late.
    Kind.MOVED_LATE: ("moved",),
    **{kind: (kind.value,) for kind in Kind if kind not in (Kind.ALL, Kind.SENT, Kind.LATE, Kind.MOVED_LATE)},
}
STATUSES: dict[Kind, tuple[Status, ...]] = {
    Kind.ALL: Status.of(Group.PLACED),
    Kind.SENT: Status.of(Group.SENT),
    Kind.LATE: (Status.WAITING,),
    **{Kind(status.word): (status,) for status in Status},
}


class Row(NamedTuple):
    """One ID. key: the next page begins after it. to_minute: the new minute of one that moved away.

    status: None for moves and possible repeats, which are events and not states.
    """

    key: int
    user_id: int
    task_id: int
    task_name: str
    queue_id: int
    minute_at: datetime
    status: Status | None
    attempts: int
    to_minute: datetime | None = None


@dataclass(frozen=True)
class DrillDown:
    """The IDs of one kind of some queues, in the minutes from `begin` until `end`, or in all minutes.

    at: when the number was counted. begin, end: aware, each the start of a minute; both or none.
    """

    queue_ids: Sequence[int]
    kind: Kind
    at: datetime
    begin: datetime | None = None
    end: datetime | None = None

    @cached_property
    def _counts(self) -> list[tuple[int, int]]:
        """Return (bucket, count) of the buckets that have any, by key."""
        names = [f"{name}_count" for name in COUNTERS[self.kind]]
        has_any = Q()
        for name in names:
            has_any |= Q(**{f"{name}__gt": 0})
        buckets = models.Bucket.objects.filter(has_any, self._ranges()).order_by("pk")
        return [(pk, sum(counts)) for pk, *counts in buckets.values_list("pk", *names)]

    def _ranges(self) -> Q:
        current = clock.minute_start(self.at)
        ranges = Q(pk__in=[])
        for queue_id in self.queue_ids:
            now = keys.bucket_at(queue_id, current)
            if self.begin is None or self.end is None:
                first, last = keys.range_of_queue(queue_id)
            else:
                first = keys.bucket_at(queue_id, self.begin)
                last = keys.bucket_at(queue_id, self.end - clock.MINUTE)
            if self.kind == Kind.LATE:
                last = min(last, now - 1)
            if self.kind == Kind.WAITING:
                first = max(first, now)
            ranges |= Q(pk__gte=first, pk__lte=last)
        return ranges

    def count(self) -> int:
        """Return how many IDs there are, by the counters; of those that were late, by their moves."""
        if self.kind == Kind.MOVED_LATE:
            return self._moves().count()
        return sum(count for _, count in self._counts)

    def rows(self, *, after: int = 0) -> Iterator[Row]:
        """Yield the IDs whose rows are written, by key, after a key."""
        if self.kind == Kind.REPEATS:
            yield from self._repeated(after)
            return
        if self.kind in (Kind.MOVED, Kind.MOVED_LATE):
            yield from self._moved(after)
            return
        buckets = iter(bucket for bucket, _ in self._counts if bucket >= keys.bucket_of_cursor(after))
        while next_buckets := list(islice(buckets, BUCKETS_A_QUERY)):
            while block := list(self._assignments(next_buckets, after)[:ROWS_AT_ONCE]):
                yield from map(_row, block)
                after = block[-1].pk

    def _assignments(self, buckets: Sequence[int], after: int) -> QuerySet[models.Assignment]:
        places = Q()
        for first, last in _runs(buckets):
            # A condition "after a key" beside the ranges would make SQLite read the whole table from that key on.
            places |= Q(pk__gte=max(first, after + 1), pk__lte=last)
        rows = models.Assignment.objects.filter(places).select_related("task").defer("task__payload")
        return rows.with_status(*STATUSES[self.kind]).order_by("pk")

    def _moves(self) -> QuerySet[models.Move]:
        buckets = [bucket for bucket, _ in self._counts]
        moves = models.Move.objects.filter(from_bucket_id__in=buckets)
        if self.kind == Kind.MOVED_LATE:
            moves = moves.filter(reason__in=models.MoveReason.what_made_late())
        return moves

    def _moved(self, after: int) -> Iterator[Row]:
        for move, task_name in _named(self._moves().filter(pk__gt=after).order_by("pk")):
            from_minute = keys.minute_of_bucket(move.from_bucket_id)
            to_minute = keys.minute_of_bucket(move.to_bucket_id)
            queue_id = keys.queue_of_bucket(move.from_bucket_id)
            yield Row(
                move.pk, move.user_id, move.task_id, task_name, queue_id, from_minute, None, 0, to_minute
            )

    def _repeated(self, after: int) -> Iterator[Row]:
        """Yield requests that were started by a process that died before it recorded their outcome."""
        buckets = [bucket for bucket, _ in self._counts]
        unknown = models.Attempt.objects.filter(bucket_id__in=buckets, unknown=True, pk__gt=after)
        for attempt, task_name in _named(unknown.order_by("pk")):
            queue_id = keys.queue_of_bucket(attempt.bucket_id)
            minute = keys.minute_of_bucket(attempt.bucket_id)
            yield Row(
                attempt.pk, attempt.user_id, attempt.task_id, task_name, queue_id, minute, None, attempt.number
            )  # fmt: skip


def _runs(buckets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last key of each window's buckets, with the buckets between them."""
    for _, of_window in groupby(buckets, key=keys.window_of_bucket):
        together = list(of_window)
        yield keys.range_of_bucket(together[0])[0], keys.range_of_bucket(together[-1])[1]


def _named(rows: QuerySet[Any]) -> Iterator[tuple[Any, str]]:
    """Yield each row with the name of its task."""
    blocks = in_blocks(rows)
    while block := list(islice(blocks, ROWS_AT_ONCE)):
        tasks = models.Task.objects.filter(pk__in={row.task_id for row in block})
        names = dict(tasks.values_list("pk", "name"))
        for row in block:
            yield row, names.get(row.task_id, "")


def _row(row: models.Assignment) -> Row:
    bucket = keys.bucket_of_assignment(row.pk)
    return Row(
        row.pk,
        row.user_id,
        row.task_id,
        row.task.name,
        keys.queue_of_bucket(bucket),
        keys.minute_of_bucket(bucket),
        row.effective_status,
        row.attempts,
    )
