"""What the pages of tasks show, as plain values."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Max, Q, Sum
from django.http import Http404
from django.urls import reverse

from dashboard import formatting, id_texts
from dashboard.drawing import charts
from dashboard.drawing.spans import BARS, span_of, start_of
from dashboard.inputs.filters import PlaceFilter
from scheduling import models
from scheduling.core import clock, exact_json, keys
from scheduling.core.cells import data_cells
from scheduling.core.clock import iso
from scheduling.lists import record_lists
from scheduling.reports import cards, id_history
from scheduling.store.blocks import in_blocks

PLACES_SHOWN = 50
BLOCK = 1_000
PLACE_HEADS = ("user_id", "window", "bucket", "minute", "status", "attempts", "late_seconds")


@dataclass(frozen=True)
class Line:
    """A task at one moment."""

    task: models.Task
    at: datetime

    @property
    def state(self) -> models.TaskState:
        return self.task.state_at(self.at)

    @property
    def sign(self) -> str:
        return self.state.sign

    @property
    def done_at(self) -> datetime:
        """Return the end of its last minute, or when it was done."""
        return self.task.ends_at

    @property
    def is_on_hold(self) -> bool:
        return self.task.is_on_hold

    @property
    def why_no_end(self) -> str:
        """Return what keeps an unfinished task from the end of its plan, as the board says it."""
        if self.is_over:
            return ""
        return formatting.why_no_end(
            on_hold=self.is_on_hold,
            waits_for_canary=self.task.waits_for_canary,
            paused=self.task.queue.paused,
        )

    @property
    def or_later(self) -> str:
        """Return the words that follow the end of a plan under a brake."""
        return "" if self.is_over or self.task.queue.brake_per_minute is None else formatting.OR_LATER

    @property
    def misses_deadline(self) -> bool:
        return self.task.misses_deadline_at(self.at)

    @property
    def is_over(self) -> bool:
        return self.state in (models.TaskState.DONE, models.TaskState.CANCELLED)

    @property
    def has_ended(self) -> bool:
        """Return whether none of its IDs changes any more. IDs in flight at a cancel still reach their end."""
        return self.is_over and not self.task.in_flight_count

    @property
    def to_send_count(self) -> int:
        """Return the number of IDs that were or will be sent: all except the cancelled ones."""
        return self.task.ids_count - self.task.cancelled_count

    @property
    def late_count(self) -> int:
        """Return the number of IDs that wait although its last minute has passed."""
        return self.task.waiting_count if not self.is_over and self.done_at < self.at else 0

    @property
    def parts(self) -> list[charts.Part]:
        """Return the parts of its bar."""
        counts = [
            (status.css, getattr(self.task, status.counter))
            for status in models.Status.in_charts()
            if status != models.Status.WAITING
        ]
        return charts.shares(counts, self.task.ids_count)

    @property
    def counts(self) -> list[tuple[str, str, int]]:
        """Return (status word, label, count) for each status, in the order of the bar."""
        return [(status.word, status.label, getattr(self.task, status.counter)) for status in models.Status]


@dataclass(frozen=True)
class Action:
    """A button of a task's page. why_not: a sentence if it can't be pressed."""

    key: str
    label: str
    href: str
    why_not: str = ""


def actions(line: Line) -> list[Action]:
    """Return what may be done to a task, in an order in which a growing number moves no other button."""
    task = line.task
    cancelled = "the task is cancelled." if task.cancelled_at else ""
    failed = f" {task.failed_count:,}" if task.failed_count else ""
    return [
        Action(
            "replace",
            "Replace…",
            reverse("task_replace", args=[task.pk]),
            cancelled or ("" if task.placed_at else "its list is still being written."),
        ),
        Action(
            "send-again",
            "Resend…",
            reverse("task_send_again", args=[task.pk]),
            cancelled or ("" if task.succeeded_count else "none of its IDs has succeeded yet."),
        ),
        Action("hold", "Continue…", reverse("task_hold", args=[task.pk]))
        if line.is_on_hold
        else Action(
            "hold",
            "Hold…",
            reverse("task_hold", args=[task.pk]),
            cancelled or ("the task is done." if line.is_over else ""),
        ),
        Action(
            "cancel",
            "Cancel…",
            reverse("task_cancel", args=[task.pk]),
            cancelled or ("the task is done." if line.is_over else ""),
        ),
        Action(
            "retry",
            f"Retry{failed} failed…",
            f"{reverse('failures')}?task={task.pk}",
            cancelled or ("" if task.failed_count else "none of its IDs has failed permanently."),
        ),
    ]


def version(task_id: int, at: datetime) -> str:
    """Return a value that changes when the live part of a task's page would look different.

    One query; Http404 if there is no such task.

    The contents of its minutes change with its own counters, or when IDs move between minutes.
    """
    counters = [status.counter for status in models.Status]
    columns = (
        "name",
        "version",
        "placed_at",
        "cancelled_at",
        "finished_at",
        "held_at",
        "canary_state",
        "canary_count",
        "last_minute_at",
        *counters,
    )
    values = (
        models.Task.objects.filter(pk=task_id)
        .order_by()
        .annotate(moved=Sum("task_buckets__moved_count"), last=Max("task_buckets__bucket_id"))
        .values_list(*columns, "moved", "last")
        .first()
    )
    if values is None:
        raise Http404("There is no such task.")
    basis = repr((values, clock.minute_start(at)))
    return hashlib.blake2b(basis.encode(), digest_size=9).hexdigest()


def row(task: models.Task, at: datetime) -> list[Any]:
    """Return a task as a row of an export."""
    counts = [getattr(task, status.counter) for status in models.Status]
    times = [iso(at) for at in (task.first_minute_at, task.last_minute_at, task.created_at)]
    return [
        task.pk, task.name, task.state_at(at).value, task.queue.name, task.ids_count, task.repeats_count,
        *counts, *times, task.created_by,
    ]  # fmt: skip


def place_row(place: id_history.Place) -> list[Any]:
    """Return an ID as a row of an export, without the ID itself."""
    window, minute = iso(place.window_starts_at), iso(place.minute_at)
    return [
        window,
        place.index,
        minute,
        place.status.word,
        place.attempts,
        place.late_seconds,
    ]


def exported_places(
    task: models.Task, places: Iterable[id_history.Place], data_columns: Sequence[str], *, as_text: bool
) -> Iterator[list[Any]]:
    """Yield each ID as a row of an export, with a cell for each of the columns that travel with it.

    as_text: for CSV; otherwise values keep their type.
    """
    following = iter(places)
    while block := list(islice(following, BLOCK)):
        texts = record_lists.of_task(task, [place.user_id for place in block]) if data_columns else {}
        rows = id_texts.exported(block, place_row)
        for place, row in zip(block, rows, strict=True):
            text = texts.get(place.user_id)
            if as_text:
                yield row + data_cells(text, data_columns)
            else:
                data = exact_json.read(text) if text else {}
                yield row + [data.get(name) for name in data_columns]


@dataclass(frozen=True)
class Places:
    """Some of a task's IDs. next_after: where the next page begins: a position in the list, or a key."""

    rows: list[id_history.Place]
    after: int
    next_after: int | None


def places(task: models.Task, chosen: PlaceFilter, *, after: int, at: datetime) -> Places:
    """Return a page of the task's IDs: in the order of its list, or the matching ones minute by minute."""
    if chosen.is_set:
        keys_found = list(islice(_matching(task, chosen, after=after), PLACES_SHOWN + 1))
        rows = _places_of(task, keys_found[:PLACES_SHOWN], at)
        more = len(keys_found) > PLACES_SHOWN
        return Places(rows, after, keys_found[PLACES_SHOWN - 1][0] if more else None)
    rows = id_history.places_of(task, after, PLACES_SHOWN, at=at)
    end = after + PLACES_SHOWN
    return Places(rows, after, end if end < task.ids_count else None)


def _matching(task: models.Task, chosen: PlaceFilter, *, after: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (key, ID) of the task's matching rows, by key.

    The task's counters tell which minutes contain any.
    """
    minute = chosen.cleaned_data["minute"]
    statuses = None if chosen.chosen_status is None else task.rows_that_mean(chosen.chosen_status)
    if minute is not None and chosen.chosen_status is None:
        # Only IDs that have a place there: the place of a cancelled ID is free.
        statuses = tuple(s for s in models.Status if task.meaning_of(s) != models.Status.CANCELLED)
    placed = models.TaskBucket.objects.filter(task=task).order_by("bucket_id")
    if minute is not None:
        first, end = (keys.bucket_at(task.queue_id, at) for at in (minute, minute + chosen.span))
        placed = placed.filter(bucket_id__gte=first, bucket_id__lt=end)
    if statuses is not None:
        buckets_filter = Q()
        for status in {*statuses, *([chosen.chosen_status] if chosen.chosen_status else [])}:
            buckets_filter |= Q(**{f"{status.counter}__gt": 0})
        placed = placed.filter(buckets_filter)
    for bucket_id in placed.filter(bucket_id__gte=keys.bucket_of_cursor(after)).values_list(
        "bucket_id", flat=True
    ):
        first, last = keys.range_of_bucket(bucket_id)
        rows = models.Assignment.objects.filter(pk__gte=max(first, after + 1), pk__lte=last, task=task)
        if statuses is not None:
            rows = rows.filter(status__in=statuses)
        for row in in_blocks(rows.order_by("pk").only("pk", "user_id"), BLOCK):
            yield row.pk, row.user_id


def _places_of(
    task: models.Task, positions: Sequence[tuple[int, int]], at: datetime
) -> list[id_history.Place]:
    return id_history.places(task, [user_id for _, user_id in positions], at=at)


def all_places(task: models.Task, chosen: PlaceFilter, *, at: datetime) -> Iterator[id_history.Place]:
    """Yield all of the task's IDs that match, in the order of the page."""
    if chosen.is_set:
        positions = _matching(task, chosen)
        while block := list(islice(positions, BLOCK)):
            yield from _places_of(task, block, at)
        return
    for position in range(0, task.ids_count, BLOCK):
        yield from id_history.places_of(task, position, BLOCK, at=at)


def chart(task: models.Task, *, at: datetime) -> charts.Chart:
    """Draw the task's IDs over its whole time, by minute or by a longer span, so that there are few bars."""
    filled = [minute for minute in id_history.distribution(task) if minute.ids - minute.cancelled]
    span = span_of([keys.minute_of_bucket(minute.bucket_id) for minute in filled])
    sums: dict[datetime, list[int]] = {}
    for item in filled:
        start = start_of(keys.minute_of_bucket(item.bucket_id), span)
        counts = (item.waiting, item.in_flight, item.succeeded, item.failed, item.expired)
        sums[start] = [a + b for a, b in zip(sums.get(start, [0] * 5), counts, strict=True)]
    capacity = task.queue.rpm * (span // clock.MINUTE)
    bars = [cards.Minute(start, capacity, *counts) for start, counts in sorted(sums.items())]
    # Minutes are drawn with the whole of their quarter-hours.
    if bars and span == clock.MINUTE and bars[-1].minute - bars[0].minute < BARS * clock.MINUTE:
        bars = _with_gaps(bars, capacity)
    largest = max([1, *(minute.filled for minute in bars)])
    return charts.chart(bars, now=start_of(at, span), scale=largest, span=span)


def _with_gaps(bars: list[cards.Minute], capacity: int) -> list[cards.Minute]:
    """Return the minutes among all minutes of their quarter-hours, so that a bar stands where its minute
    lies.
    """
    bars_by_minute = {minute.minute: minute for minute in bars}
    start = clock.quarter_start(bars[0].minute)
    end = clock.quarter_start(bars[-1].minute) + clock.QUARTER
    every = [start + k * clock.MINUTE for k in range((end - start) // clock.MINUTE)]
    return [bars_by_minute.get(at, cards.Minute(at, capacity)) for at in every]
