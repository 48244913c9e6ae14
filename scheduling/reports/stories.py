"""The history of one ID: its places, moves and attempts in each of its tasks, and what it waits for.

However many tasks an ID is in, this takes at most ten queries.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from scheduling import models
from scheduling.core import clock, keys, limits
from scheduling.dispatch import targets
from scheduling.intake import allocation
from scheduling.lists import stored_lists
from scheduling.models import MoveReason, Status
from scheduling.placement import late_ids, reservations, rules
from scheduling.reports import id_history
from scheduling.reports.id_history import Place

# Formats a time for a reader; the string is the format of its clock part.
FormatTime = Callable[[datetime, str], str]


@dataclass(frozen=True)
class Event:
    """An event in the history of an ID. kind: placed, moved or attempt; details: plain values to show.

    The response of an attempt that succeeded at once isn't stored: its details have `succeeded` instead.
    """

    at: datetime | None
    kind: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Story:
    """Everything that is known about one ID in one task."""

    task: models.Task
    place: Place
    history: tuple[Event, ...]
    waits_for: str


def _in_utc(at: datetime, form: str) -> str:
    return f"{at:%Y-%m-%d} {at:{form}} UTC"


def stories(user_id: int, *, at: datetime, before_task: int | None = None, count: int = 100) -> list[Story]:
    """Return the stories of an ID, newest task first: up to `count` tasks older than `before_task`."""
    rows = id_history.newest_rows(user_id, before_task=before_task, count=count)
    tasks = _tasks_with(user_id, rows.keys(), before_task=before_task, count=count)
    return stories_in(tasks, user_id, at=at, rows=rows)


def tasks_with(user_id: int, *, before_task: int | None = None, count: int = 100) -> list[models.Task]:
    """Return the tasks that have the ID, newest first, including those in which its row isn't written yet."""
    rows = id_history.newest_rows(user_id, before_task=before_task, count=count)
    return _tasks_with(user_id, rows.keys(), before_task=before_task, count=count)


def _tasks_with(user_id: int, written: Set[int], *, before_task: int | None, count: int) -> list[models.Task]:
    """written: the keys of tasks in which the ID has its row."""
    placing = models.Task.objects.filter(placed_at=None)
    if before_task is not None:
        placing = placing.filter(pk__lt=before_task)
    searched = placing.order_by("-pk").values("pk")[: limits.LISTS_SEARCHED]
    rows = models.Task.objects.filter(Q(pk__in=list(written)) | Q(pk__in=searched)).order_by("-pk")
    candidates = list(rows.select_related("queue").defer("payload"))
    lists = [task.list_id for task in candidates if task.pk not in written]
    positions = stored_lists.positions_of(user_id, lists)
    return [task for task in candidates if task.pk in written or task.list_id in positions][:count]


def next_minute(user_id: int, *, at: datetime) -> tuple[int, datetime] | None:
    """Return the task with which the ID is sent next, and the start of that minute; None if it isn't waiting.

    A late ID has no minute yet: it gets the first free one, which is what is returned.
    """
    rows = models.Assignment.objects.filter(user_id=user_id).with_status(Status.WAITING)
    buckets = {task_id: keys.bucket_of_assignment(key) for task_id, key in rows.values_list("task_id", "pk")}
    placing = models.Task.objects.filter(placed_at=None, cancelled_at=None).order_by("-pk")[
        : limits.LISTS_SEARCHED
    ]
    unwritten = [task for task in placing if task.pk not in buckets]
    written = set(id_history.rows_in(unwritten, user_id)) if unwritten else set()
    buckets |= allocation.reserved_places(user_id, [task for task in unwritten if task.pk not in written])
    minutes = {task_id: _planned_minute(bucket, at) for task_id, bucket in buckets.items()}
    return min(minutes.items(), key=lambda item: (item[1], item[0]), default=None)


def _planned_minute(bucket_id: int, at: datetime) -> datetime:
    """Return the bucket's minute, or the first free one of its queue if that has passed."""
    minute = keys.minute_of_bucket(bucket_id)
    if minute + clock.MINUTE > at:
        return minute
    queue = models.Queue.objects.get(pk=keys.queue_of_bucket(bucket_id))
    free_bucket, _ = next(reservations.free(queue, 1, clock.next_unsealed_minute(at), leaving={bucket_id: 1}))
    return keys.minute_of_bucket(free_bucket)


def stories_in(
    tasks: Sequence[models.Task],
    user_id: int,
    *,
    at: datetime,
    rows: Mapping[int, id_history.Row] | None = None,
    format_time: FormatTime = _in_utc,
) -> list[Story]:
    """Return the stories of an ID in these tasks, without the tasks that don't have it.

    rows: those that were read already, by task.
    """
    rows = id_history.rows_in(tasks, user_id) if rows is None else dict(rows)
    reserved = _reserved(tasks, user_id, rows)
    moves = _by_task(models.Move.objects, tasks, user_id)
    attempts = _by_task(models.Attempt.objects, tasks, user_id)
    minutes: dict[int, float] = {}
    places: dict[int, Place] = {}
    for task in tasks:
        if task.pk in rows:
            late_since = late_ids.late_since_by_moves(
                (move.from_bucket_id, move.reason) for move in moves[task.pk]
            )
            places[task.pk] = id_history.place_of_row(task, rows[task.pk], late_since, at, minutes)
        elif task.pk in reserved:
            places[task.pk] = Place(
                user_id, reserved[task.pk], task.meaning_of(Status.WAITING), has_row=False
            )
    first = {
        pk: moves[pk][0].from_bucket_id if moves[pk] else place.bucket_id for pk, place in places.items()
    }
    rules_of_tasks = rules.of_places(user_id, first)
    placed_tasks = [task for task in tasks if task.pk in places]
    obstacles = _Obstacles.of([(task, places[task.pk]) for task in placed_tasks], at)
    return [
        Story(
            task,
            places[task.pk],
            _history(
                task,
                places[task.pk],
                rows.get(task.pk),
                _placed(task, first[task.pk], rules_of_tasks.get(task.pk)),
                moves[task.pk],
                attempts[task.pk],
            ),
            obstacles.waits_for(task, places[task.pk], at, format_time),
        )
        for task in placed_tasks
    ]


def _reserved(
    tasks: Iterable[models.Task], user_id: int, rows: dict[int, id_history.Row]
) -> Mapping[int, int]:
    """Return the buckets of an ID in tasks whose rows aren't written yet; `rows` gets those written meanwhile."""
    unwritten = [task for task in tasks if task.pk not in rows]
    reserved = allocation.reserved_places(user_id, unwritten)
    if len(reserved) < len(unwritten):
        rows |= id_history.rows_in([task for task in unwritten if task.pk not in reserved], user_id)
    return reserved


def _by_task(rows: Any, tasks: Iterable[models.Task], user_id: int) -> Mapping[int, list[Any]]:
    """Return the moves or attempts of an ID by task, in chronological order."""
    by_task: dict[int, list[Any]] = defaultdict(list)
    for row in rows.filter(task_id__in=[task.pk for task in tasks], user_id=user_id).order_by("pk"):
        by_task[row.task_id].append(row)
    return by_task


def _placed(task: models.Task, bucket_id: int, place: rules.GivenPlace | None) -> Event:
    details = {"minute": keys.minute_of_bucket(bucket_id), "rule": place.sentence if place else ""}
    return Event(place.at if place else task.created_at, "placed", details)


def _history(
    task: models.Task,
    place: Place,
    row: id_history.Row | None,
    placed: Event,
    moves: Iterable[models.Move],
    attempts: Collection[models.Attempt],
) -> tuple[Event, ...]:
    events = [placed, *map(_moved, moves), *map(_attempt, attempts)]
    if place.status is Status.SUCCEEDED and place.attempts not in {attempt.number for attempt in attempts}:
        events += _success(row)
    return tuple(sorted(events, key=lambda event: event.at or task.created_at))


def _moved(move: models.Move) -> Event:
    details = {
        "from_minute": keys.minute_of_bucket(move.from_bucket_id),
        "to_minute": keys.minute_of_bucket(move.to_bucket_id),
        "reason": MoveReason(move.reason).label,
    }
    return Event(move.moved_at, "moved", details)


def _attempt(attempt: models.Attempt) -> Event:
    details = {
        "number": attempt.number,
        "minute": keys.minute_of_bucket(attempt.bucket_id),
        "duration_ms": attempt.duration_ms,
        "http_status": attempt.http_status,
        "answer": attempt.answer,
        "error": attempt.error,
        "unknown": attempt.unknown,
    }
    return Event(attempt.started_at, "attempt", details)


def _success(row: id_history.Row | None) -> list[Event]:
    """Return the request that succeeded at once. It has no attempt, so that ten million take no space."""
    if row is None or row.started_after_ms is None:
        return []
    minute = keys.minute_of_bucket(keys.bucket_of_assignment(row.id))
    details = {"number": row.attempts, "minute": minute, "succeeded": True}
    details |= {"duration_ms": None, "http_status": None, "answer": "", "error": "", "unknown": False}
    return [Event(minute + timedelta(milliseconds=row.started_after_ms), "attempt", details)]


_ENDED = {
    Status.SUCCEEDED: "Nothing: its request succeeded.",
    Status.FAILED: "Nothing: its request failed for good.",
    Status.CANCELLED: "Nothing: it was cancelled before it was sent.",
    Status.EXPIRED: "Nothing: it was too late to be sent.",
    Status.IN_FLIGHT: "The answer to its request.",
}


@dataclass(frozen=True)
class _Obstacles:
    """What may delay waiting IDs: the targets of their queues, minutes sealed before a brake, and canaries.

    in_canary: the tasks whose canary runs, and has the ID.
    """

    targets: Mapping[str, models.Target]
    sealed: frozenset[int]
    in_canary: frozenset[int]

    @classmethod
    def of(cls, placed: Collection[tuple[models.Task, Place]], at: datetime) -> "_Obstacles":
        waiting = [(task.queue, place) for task, place in placed if place.status not in _ENDED]
        origins = {origin for queue, _ in waiting if (origin := targets.origin_of_queue(queue))}
        rows = models.Target.objects.filter(origin__in=origins) if origins else ()
        running = {
            place.bucket_id
            for queue, place in waiting
            if queue.brake_per_minute == 0
            and place.minute_at - clock.MINUTE < at < place.minute_at + clock.MINUTE
        }
        sealed = models.Bucket.objects.filter(pk__in=running, sealed_at__isnull=False) if running else ()
        return cls(
            {target.origin: target for target in rows},
            frozenset(bucket.pk for bucket in sealed),
            frozenset(_with_id_in_canary(placed)),
        )

    def waits_for(self, task: models.Task, place: Place, at: datetime, format_time: FormatTime) -> str:
        """Return what an ID waits for, as a sentence."""
        if place.status in _ENDED:
            return _ENDED[place.status]
        queue = task.queue
        minute = format_time(place.minute_at, "%H:%M")
        if queue.paused_at is not None:
            since = format_time(queue.paused_at, "%H:%M")
            return f"The queue {queue.name} to be resumed: it is paused since {since}."
        if task.is_on_hold and task.held_at is not None:
            why = f": {task.hold_reason}" if task.hold_reason else ""
            return f"Its task to be continued: it is on hold since {format_time(task.held_at, '%H:%M')}{why}."
        if task.waits_for_canary and task.pk not in self.in_canary:
            return f"The canary of its task: {task.canary_progress}."
        # A sealed minute runs by a plan that was made before the brake.
        if queue.brake_per_minute == 0 and place.bucket_id not in self.sealed:
            return f"The brake of the queue {queue.name} to be let go: it lets nothing out."
        blocked = self._blocked(queue, place, at, format_time)
        if blocked is not None:
            return blocked
        if place.minute_at + clock.MINUTE <= at:
            return f"A free place: its minute, {minute}, passed without its request."
        if place.minute_at <= at:
            return f"Its slot in the minute that runs, {minute}."
        return f"Its minute, {minute}."

    def _blocked(
        self, queue: models.Queue, place: Place, at: datetime, format_time: FormatTime
    ) -> str | None:
        """Return what blocks requests to the queue's target, and until when, if that blocks the ID."""
        if queue.blocked_until is not None and queue.is_blocked(max(at, place.minute_at)):
            until = format_time(queue.blocked_until, "%H:%M:%S")
            return f"The credentials of the queue {queue.name}, which are tried again at {until}: {queue.block_reason}."
        target = self.targets.get(targets.origin_of_queue(queue) or "")
        if target is None:
            return None
        if target.opened_at is not None:
            since = format_time(target.opened_at, "%H:%M")
            return (
                f"The target {target.origin} to answer again: blocked since {since}, "
                f"after {target.failures_count} failures in a row; one request each half minute tries."
            )
        if target.blocked_until is not None and target.blocked_until > max(at, place.minute_at):
            until = format_time(target.blocked_until, "%H:%M:%S")
            return f"The target {target.origin}, which asked for no requests until {until}."
        return None


def _with_id_in_canary(placed: Collection[tuple[models.Task, Place]]) -> Iterable[int]:
    """Return the tasks whose canary runs and has the ID. No query where none runs."""
    running = {task.pk: place.user_id for task, place in placed if task.waits_for_canary}
    if not running:
        return ()
    canary_ids = models.CanaryId.objects.filter(task__in=running, user_id__in=set(running.values()))
    return canary_ids.values_list("task_id", flat=True)
