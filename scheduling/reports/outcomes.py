"""The outcomes of IDs in the order in which they were committed, read page by page."""

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from django.db.models import Max

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.time_limit import TimeLimit
from scheduling.models import Status
from scheduling.store import outcomes

# Entries, and places, that are read at once.
ENTRIES, PLACES = 100, 1_000
# A page ends after this long, full or not: the next one continues after it.
PAGE_SECONDS = 2.0
# A task has no outcomes before it was created, as different clocks tell the time.
CLOCK_MARGIN = timedelta(hours=1)


class Result(NamedTuple):
    """The columns of an attempt that an outcome shows."""

    http_status: int | None
    error: str
    answer: str


NO_RESULT = Result(None, "", "")


class Position(NamedTuple):
    """A place between outcomes: after this key of an entry."""

    entry_id: int
    key: int


BEGINNING = Position(0, 0)


@dataclass(frozen=True)
class Outcome:
    """What became of an ID of a task, with what is kept of the response to its last request."""

    position: Position
    task_id: int
    user_id: int
    status: Status
    attempts: int
    result: Result = NO_RESULT

    @property
    def at(self) -> datetime:
        """Return when it was committed."""
        return clock.EPOCH + timedelta(microseconds=self.position.entry_id)

    @property
    def queue_id(self) -> int:
        return keys.queue_of_bucket(keys.bucket_of_assignment(self.position.key))


@dataclass(frozen=True)
class Page:
    """Outcomes, and the position after them and after all that was passed over. is_last: nothing follows."""

    rows: Sequence[Outcome]
    end: Position
    is_last: bool = False


@dataclass(frozen=True)
class Awaited:
    """What a request waits for: an entry that is newer than `after`. queue_id: None for entries of any queue."""

    queue_id: int | None
    after: int
    seconds: float


def newest_entry() -> int:
    """Return the newest entry; 0 if there is none."""
    return models.OutcomeEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def newest_entries(after: int) -> dict[int, int]:
    """Return the newest entry of each queue that has one newer than `after`."""
    rows = models.OutcomeEntry.objects.filter(pk__gt=after).order_by().values_list("queue_id")
    return dict(rows.annotate(Max("pk")))


def read(
    after: Position, *, limit: int, queue_id: int | None = None, task: models.Task | None = None
) -> Page:
    """Return the outcomes after a position, oldest first. An empty page ends where the feed ends, or after a while."""
    time_limit = TimeLimit(PAGE_SECONDS)
    scan = _Scan(after, queue_id, task)
    places, rows = iter(scan), list[Outcome]()
    while block := list(islice(places, PLACES)):
        rows += _outcomes(block, task)
        if len(rows) >= limit:
            del rows[limit:]
            return Page(_with_attempts(rows), rows[-1].position)
        if time_limit.is_over:
            return Page(_with_attempts(rows), block[-1])
    return Page(_with_attempts(rows), scan.end, is_last=True)


class _Scan:
    """The places that entries name, in order. end: the position after all that was passed, once there are no more."""

    def __init__(self, after: Position, queue_id: int | None, task: models.Task | None) -> None:
        self.end = after
        self._entries = models.OutcomeEntry.objects.order_by("pk")
        if queue_id is not None:
            self._entries = self._entries.filter(queue_id=queue_id)
        self._buckets: Collection[int] | None = None
        if task is not None:
            self._entries = self._entries.filter(queue_id=task.queue_id)
            of_task = models.TaskBucket.objects.filter(task=task)
            self._buckets = frozenset(of_task.values_list("bucket_id", flat=True))
            if task.created_at <= store.now():
                begin = clock.epoch_microseconds(task.created_at - CLOCK_MARGIN)
                self._entries = self._entries.filter(pk__gte=begin)

    def __iter__(self) -> Iterator[Position]:
        # The entry that a page has ended in comes first.
        after = self.end.entry_id - 1
        while block := list(self._entries.filter(pk__gt=after)[:ENTRIES]):
            for entry in block:
                yield from self._places(entry)
                self.end = Position(entry.pk, entry.last_key)
            after = block[-1].pk

    def _places(self, entry: models.OutcomeEntry) -> Iterator[Position]:
        named = array("q", bytes(entry.keys)) if entry.keys else range(entry.first_key, entry.last_key + 1)
        first = self.end.key + 1 if entry.pk == self.end.entry_id else 0
        for key in named:
            if key >= first and (self._buckets is None or keys.bucket_of_assignment(key) in self._buckets):
                yield Position(entry.pk, key)


def _outcomes(places: Sequence[Position], task: models.Task | None) -> Iterator[Outcome]:
    """Yield the outcomes in places; rows that are deleted, or that have none, are passed over."""
    row_keys = {place.key for place in places}
    rows = {row[0]: row[1:] for row in _rows(models.Assignment, row_keys)}
    # Second: a row that leaves its place meanwhile is there.
    rows |= {row[0]: row[1:] for row in _rows(models.FormerOutcome, row_keys - rows.keys())}
    for place in places:
        if place.key not in rows:
            continue
        user_id, task_id, status, attempts = rows[place.key]
        if outcomes.is_outcome(status) and (task is None or task_id == task.pk):
            yield Outcome(place, task_id, user_id, Status(status), attempts)


def _rows(
    table: type[models.Assignment] | type[models.FormerOutcome], row_keys: Collection[int]
) -> Sequence[tuple[int, int, int, int, int]]:
    if not row_keys:
        return []
    rows = table._default_manager.filter(pk__in=sorted(row_keys))
    return list(rows.values_list("pk", "user_id", "task_id", "status", "attempts"))


def _with_attempts(rows: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes with what is kept of the response to their last request."""
    pairs = sorted({(row.task_id, row.user_id) for row in rows})
    results = {(row[0], row[1], row[2]): Result(*row[3:]) for row in store.attempts_of(pairs)}
    completed = []
    for row in rows:
        result = results.get((row.task_id, row.user_id, row.attempts))
        if result is None and row.status == Status.FAILED:
            # A request that could not be sent is no attempt; its reason is kept under the number of the next one.
            result = results.get((row.task_id, row.user_id, row.attempts + 1))
        completed.append(replace(row, result=result or NO_RESULT))
    return completed
