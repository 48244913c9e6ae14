"""What the pages of tasks show, as plain values."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest

from dashboard import drawings
from dashboard.filters import PlaceFilter
from dashboard.paging import whole_number
from scheduling import board, clock, keys, models, whereabouts

PLACES_SHOWN = 50
# A status that few IDs have is looked for in so many of them at a time; then the page says how far it came.
SEARCHED_AT_ONCE = 20_000
BLOCK = 1_000
# More minutes than this are drawn by the quarter.
BARS = 60
PLACE_HEADS = ("user_id", "window", "bucket", "minute", "status", "attempts", "late_seconds")
STATE_SIGNS = {
    models.TaskState.PLACING: "…",
    models.TaskState.PLACED: "○",
    models.TaskState.RUNNING: "▶",
    models.TaskState.DONE: "✓",
    models.TaskState.CANCELLED: "✕",
}


@dataclass(frozen=True)
class Line:
    """A task at a moment."""

    task: models.Task
    at: datetime

    @property
    def state(self) -> models.TaskState:
        return self.task.state_at(self.at)

    @property
    def sign(self) -> str:
        return STATE_SIGNS[self.state]

    @property
    def done_at(self) -> datetime:
        """End of its last minute, or when it was done."""
        return self.task.finished_at or self.task.last_minute_at + clock.MINUTE

    @property
    def is_over(self) -> bool:
        return self.state in (models.TaskState.DONE, models.TaskState.CANCELLED)

    @property
    def late_count(self) -> int:
        """IDs that wait although its last minute has passed."""
        return self.task.waiting_count if not self.is_over and self.done_at < self.at else 0

    @property
    def parts(self) -> list[tuple[str, str, str]]:
        """Its bar."""
        counts = [
            (kind, getattr(self.task, f"{kind}_count"))
            for kind in ("succeeded", "failed", "expired", "in_flight")
        ]
        return drawings.shares(counts, self.task.ids_count)

    @property
    def counts(self) -> list[tuple[str, str, int]]:
        """(status as a word, as it is said, how many), in the order of the bar."""
        return [
            (status.word, status.word.replace("_", " "), getattr(self.task, f"{status.word}_count"))
            for status in models.Status
        ]


@dataclass(frozen=True)
class NumberedPage:
    """A page of a list that is not in the order of its keys."""

    rows: list[Any]
    number: int
    has_more: bool
    next_before: None = None

    @property
    def is_first(self) -> bool:
        return self.number == 1


def by_number(request: HttpRequest, found: QuerySet, size: int) -> NumberedPage:
    """Pages by number, for sorts that have no key; the first 200 of them."""
    number = whole_number(request, "page", low=1) or 1
    if number > 200:
        raise BadRequest("page: a sorted list has at most 200 pages; narrow it by a filter.")
    rows = list(found[(number - 1) * size : number * size + 1])
    return NumberedPage(rows[:size], number, len(rows) > size)


def row(task: models.Task, at: datetime) -> list[Any]:
    """A task in an export."""
    counts = [getattr(task, f"{status.word}_count") for status in models.Status]
    times = [moment.isoformat() for moment in (task.first_minute_at, task.last_minute_at, task.created_at)]
    return [
        task.pk, task.name, task.state_at(at).value, task.queue.name, task.ids_count, task.repeats_count,
        *counts, *times, task.created_by,
    ]  # fmt: skip


def place_row(place: whereabouts.Place) -> list[Any]:
    """An ID in an export. As text, since JavaScript and spreadsheets round long numbers."""
    window, minute = (moment.isoformat() for moment in (place.window_starts_at, place.minute_at))
    return [
        str(place.user_id),
        window,
        place.index,
        minute,
        place.status.word,
        place.attempts,
        place.late_seconds,
    ]


@dataclass(frozen=True)
class Places:
    """Some of a task's IDs. next_after: where the next page begins; searched: how far it looked."""

    rows: list[whereabouts.Place]
    first: int
    next_after: int | None
    searched: int


def places(task: models.Task, chosen: PlaceFilter, *, after: int, at: datetime) -> Places:
    """A page of the task's IDs in the order of its list."""
    found: list[whereabouts.Place] = []
    position = after
    end = min(task.ids_count, after + SEARCHED_AT_ONCE)
    step = BLOCK if chosen.is_set else PLACES_SHOWN
    while position < end and len(found) < PLACES_SHOWN:
        for offset, place in enumerate(whereabouts.places_of(task, position, step, at=at)):
            if _fits(place, chosen):
                found.append(place)
                if len(found) == PLACES_SHOWN:
                    position += offset + 1
                    break
        else:
            position += step
    more = position < task.ids_count
    return Places(found, after, position if more else None, min(position, task.ids_count))


def all_places(task: models.Task, chosen: PlaceFilter, *, at: datetime) -> Iterator[whereabouts.Place]:
    """All of the task's IDs that match, in the order of its list."""
    for position in range(0, task.ids_count, BLOCK):
        for place in whereabouts.places_of(task, position, BLOCK, at=at):
            if _fits(place, chosen):
                yield place


def _fits(place: whereabouts.Place, chosen: PlaceFilter) -> bool:
    minute = chosen.cleaned_data["minute"]
    return chosen.wanted in (None, place.status) and minute in (None, place.minute_at)


def chart(task: models.Task, *, at: datetime) -> drawings.Chart:
    """The task's own IDs by minute, or by quarter where it has many."""
    minutes = whereabouts.distribution(task)
    by_quarter = len(minutes) > BARS
    sums: dict[datetime, list[int]] = {}
    for found in minutes:
        start = keys.minute_of_bucket(found.bucket_id)
        start = clock.quarter_start(start) if by_quarter else start
        counts = (found.waiting, found.in_flight, found.succeeded, found.failed, found.expired)
        sums[start] = [a + b for a, b in zip(sums.get(start, [0] * 5), counts, strict=True)]
    capacity = task.queue.rpm * (clock.BUCKETS if by_quarter else 1)
    drawn = [board.Minute(start, capacity, *counts) for start, counts in sorted(sums.items()) if any(counts)]
    if drawn and not by_quarter and drawn[-1].minute - drawn[0].minute < BARS * clock.MINUTE:
        drawn = _with_gaps(drawn, capacity)
    now = clock.quarter_start(at) if by_quarter else clock.minute_start(at)
    largest = max([1, *(minute.filled for minute in drawn)])
    return drawings.chart(drawn[: BARS + clock.BUCKETS], now=now, scale=largest)


def _with_gaps(drawn: list[board.Minute], capacity: int) -> list[board.Minute]:
    """The same minutes among all of their quarters': a bar stands where its minute lies."""
    known = {minute.minute: minute for minute in drawn}
    start = clock.quarter_start(drawn[0].minute)
    end = clock.quarter_start(drawn[-1].minute) + clock.QUARTER
    every = [start + k * clock.MINUTE for k in range((end - start) // clock.MINUTE)]
    return [known.get(at, board.Minute(at, capacity)) for at in every]


def read_moment(text: str) -> datetime:
    """A time as an address has it. Raises BadRequest."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadRequest(f"at: {text[:40]!r} is no time with a zone.")
    return at
