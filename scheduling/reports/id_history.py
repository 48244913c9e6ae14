"""Where IDs are and what became of them: a task's list, its distribution, and the history of one ID.

A row is written some time after its place was reserved. Until then the place follows from the reservation, so
that the result is the same before and after.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Q

from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import targets
from scheduling.intake import allocation
from scheduling.lists import stored_lists
from scheduling.models import MoveReason, Status
from scheduling.placement import rules

# Moves that make an ID late. A retry or a change of rpm gives it a new minute in which it is on time.
MADE_LATE = frozenset(MoveReason.what_made_late())
# So many lists that are being written are searched for an ID, newest first; a million IDs take milliseconds.
LISTS_SEARCHED = 20


@dataclass(frozen=True)
class Place:
    """One ID of one task: its bucket and its status. late_seconds: 0 if it is on time."""

    user_id: int
    bucket_id: int
    status: Status
    attempts: int = 0
    late_seconds: float = 0.0
    has_row: bool = True

    @property
    def window_starts_at(self) -> datetime:
        return keys.starts_at_of_window(keys.window_of_bucket(self.bucket_id))

    @property
    def index(self) -> int:
        return keys.index_of_bucket(self.bucket_id)

    @property
    def minute_at(self) -> datetime:
        """Return the start of the minute in which it runs or ran."""
        return keys.minute_of_bucket(self.bucket_id)


def places_of(task: models.Task, first_position: int, count: int, *, at: datetime) -> list[Place]:
    """Return the task's IDs at `count` positions of its list, in order, from a position on."""
    users = stored_lists.ids_of(task.list_id, first_position, count)
    return places(task, users, at=at, first_position=first_position)


class _Row(NamedTuple):
    """The columns of an assignment that are read, as a tuple, since there are millions."""

    user_id: int
    id: int
    status: int
    attempts: int
    started_after_ms: int | None


def places(
    task: models.Task,
    users: Sequence[int],
    *,
    at: datetime,
    first_position: int | None = None,
    status: Status | None = None,
) -> list[Place]:
    """Return the places of some of the task's IDs, in the order given.

    first_position: the position of the first in the task's list, if they are consecutive there. status: leave
    out IDs with another one.
    """
    # The other states are stored in the row itself.
    by_row_alone = status not in (None, Status.WAITING, Status.CANCELLED)
    rows = _rows(task, users, status if by_row_alone else None)
    missing = [] if by_row_alone else [user for user in users if user not in rows]
    reserved = _reserved(task, missing, first_position, len(users))
    if len(reserved) < len(missing):
        # Written in the meantime.
        rows |= _rows(task, [user for user in missing if user not in reserved])
    bases = _late_since(task, list(rows))
    minutes: dict[int, float] = {}
    found = []
    for user in users:
        row = rows.get(user)
        if row is not None:
            place = _of_row(task, row, bases.get(user), at, minutes)
        elif user in reserved:
            place = Place(user, reserved[user], task.meaning_of(Status.WAITING), has_row=False)
        else:
            continue
        if status is None or place.status == status:
            found.append(place)
    return found


def _rows(task: models.Task, users: Sequence[int], status: Status | None = None) -> dict[int, _Row]:
    if not users:
        return {}
    rows = models.Assignment.objects.filter(task=task, user_id__in=list(users))
    if status is not None:
        rows = rows.filter(status=status)
    return {row[0]: _Row(*row) for row in rows.values_list(*_Row._fields)}


_STATUSES = {status.value: status for status in Status}


def _of_row(
    task: models.Task, row: _Row, late_since: int | None, at: datetime, minutes: dict[int, float]
) -> Place:
    status = task.meaning_of(_STATUSES[row.status])
    bucket_id = keys.bucket_of_assignment(row.id)
    late = lateness(row, bucket_id, status, late_since, at, minutes)
    return Place(row.user_id, bucket_id, status, row.attempts, late)


def lateness(
    row: _Row | models.Assignment,
    bucket_id: int,
    status: Status,
    late_since: int | None,
    at: datetime,
    minutes: dict[int, float],
) -> float:
    """Return the seconds from the end of its planned minute to its request, or to `at` before that.

    minutes: a cache from bucket to the start of its minute.
    """
    if status is Status.CANCELLED:
        return 0.0
    planned_in = bucket_id if late_since is None else late_since
    for bucket in (bucket_id, planned_in):
        if bucket not in minutes:
            minutes[bucket] = keys.minute_of_bucket(bucket).timestamp()
    minute = minutes[bucket_id]
    if row.started_after_ms is not None and status is not Status.WAITING:
        reached = minute + row.started_after_ms / 1000
    elif status in (Status.WAITING, Status.IN_FLIGHT):
        reached = at.timestamp() if late_since is None else max(at.timestamp(), minute)
    else:
        reached = minute
    return round(max(0.0, reached - minutes[planned_in] - clock.MINUTE.total_seconds()), 3)


def _late_since(task: models.Task, users: Sequence[int]) -> dict[int, int]:
    """Return the original buckets of late IDs that have moved."""
    # Most tasks have no moves, and one query shows it.
    if len(users) > 1 and not models.Move.objects.filter(task_id=task.pk).exists():
        return {}
    return {user: bucket for (_, user), bucket in late_since([task.pk], users).items()}


def late_since(task_ids: Collection[int], users: Collection[int]) -> dict[tuple[int, int], int]:
    """Return the original buckets of late IDs that have moved, by (task, ID)."""
    moves = models.Move.objects.filter(task_id__in=task_ids, user_id__in=users).order_by("pk")
    since: dict[tuple[int, int], int] = {}
    for task_id, user, from_bucket, reason in moves.values_list(
        "task_id", "user_id", "from_bucket_id", "reason"
    ):
        if reason not in MADE_LATE:
            since.pop((task_id, user), None)
        else:
            since.setdefault((task_id, user), from_bucket)
    return since


def _reserved(
    task: models.Task, users: Sequence[int], first_position: int | None, count: int
) -> dict[int, int]:
    """Return the buckets of IDs that have no row yet, from the reservations of unwritten segments."""
    if not users:
        return {}
    wanted = frozenset(users)
    unwritten = models.Segment.objects.unwritten().filter(task=task)
    found: dict[int, int] = {}
    for list_id in unwritten.order_by().values_list("list_id", flat=True).distinct():
        if list_id == task.list_id and first_position is not None:
            runs = [(first_position, count)]
        else:
            runs = _runs(list_id, wanted)
        for first, length in runs:
            reserved = allocation.buckets_of(list_id, first, length)
            found.update((user, bucket) for user, bucket in reserved if user in wanted)
    return found


def _runs(list_id: int, wanted: frozenset[int]) -> list[tuple[int, int]]:
    """Return runs of these IDs in a list as (position, length), in one pass over it."""
    runs: list[tuple[int, int]] = []
    position = 0
    for block in stored_lists.blocks(list_id):
        if not wanted.isdisjoint(block):
            for at in (position + n for n, user in enumerate(block) if user in wanted):
                if runs and sum(runs[-1]) == at:
                    runs[-1] = (runs[-1][0], runs[-1][1] + 1)
                else:
                    runs.append((at, 1))
        position += len(block)
    return runs


@dataclass(frozen=True)
class MinuteOfTask:
    """How many of a task's IDs a minute has, by state. Moved and cancelled IDs no longer have a place in it."""

    bucket_id: int
    waiting: int
    in_flight: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    moved: int

    @property
    def ids(self) -> int:
        return self.waiting + self.in_flight + self.succeeded + self.failed + self.cancelled + self.expired


def distribution(task: models.Task) -> list[MinuteOfTask]:
    """Return the minutes in which the task has or had an ID, in the order of time."""
    columns = [*(status.counter for status in Status), "moved_count"]
    rows = models.TaskBucket.objects.filter(task=task).order_by("bucket_id")
    return [MinuteOfTask(*row) for row in rows.values_list("bucket_id", *columns)]


# Formats a time for a reader; the string is the format of its clock part.
FormatTime = Callable[[datetime, str], str]


@dataclass(frozen=True)
class Event:
    """Something that happened to an ID. kind: placed, moved or attempt; details: plain values to show.

    The answer to an attempt that succeeded at once isn't stored: its details have `succeeded` instead.
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


def story(user_id: int, *, at: datetime, before_task: int | None = None, count: int = 100) -> list[Story]:
    """Return the stories of an ID, newest task first: up to `count` tasks older than `before_task`."""
    tasks = tasks_with(user_id, before_task=before_task, count=count)
    found = (story_in(task, user_id, at=at) for task in tasks)
    return [one for one in found if one is not None]


def tasks_with(user_id: int, *, before_task: int | None = None, count: int = 100) -> list[models.Task]:
    """Return the tasks that have the ID, newest first; also where its row isn't written yet."""
    rows = models.Assignment.objects.filter(user_id=user_id)
    placing = models.Task.objects.filter(placed_at=None)
    if before_task is not None:
        rows, placing = rows.filter(task_id__lt=before_task), placing.filter(pk__lt=before_task)
    written = set(rows.order_by("-task_id").values_list("task_id", flat=True)[:count])
    searched = placing.order_by("-pk").values("pk")[:LISTS_SEARCHED]
    candidates = models.Task.objects.filter(Q(pk__in=written) | Q(pk__in=searched)).order_by("-pk")
    return [
        task
        for task in candidates.select_related("queue").defer("payload")
        if task.pk in written or stored_lists.position_of(task.list_id, user_id) is not None
    ][:count]


def _in_utc(at: datetime, form: str) -> str:
    return f"{at:%Y-%m-%d} {at:{form}} UTC"


def story_in(
    task: models.Task, user_id: int, *, at: datetime, format_time: FormatTime = _in_utc
) -> Story | None:
    """Return the story of an ID in one task; None if the task doesn't have it."""
    position = None if task.placed_at else stored_lists.position_of(task.list_id, user_id)
    found = places(task, [user_id], at=at, first_position=position)
    if not found:
        return None
    place = found[0]
    return Story(
        task, place, tuple(_history(task, place)), waits_for(task, place, at=at, format_time=format_time)
    )


def _history(task: models.Task, place: Place) -> list[Event]:
    moves = list(models.Move.objects.filter(task_id=task.pk, user_id=place.user_id).order_by("pk"))
    attempts = models.Attempt.objects.filter(task_id=task.pk, user_id=place.user_id).order_by("pk")
    first = moves[0].from_bucket_id if moves else place.bucket_id
    given = rules.of_place(task.pk, place.user_id, first)
    events = [
        Event(
            given.at if given else task.created_at,
            "placed",
            {"minute": keys.minute_of_bucket(first), "rule": given.sentence if given else ""},
        )
    ]
    events += [
        Event(
            move.moved_at,
            "moved",
            {
                "from_minute": keys.minute_of_bucket(move.from_bucket_id),
                "to_minute": keys.minute_of_bucket(move.to_bucket_id),
                "reason": MoveReason(move.reason).label,
            },
        )
        for move in moves
    ]
    events += [
        Event(
            attempt.started_at,
            "attempt",
            {
                "number": attempt.number,
                "minute": keys.minute_of_bucket(attempt.bucket_id),
                "duration_ms": attempt.duration_ms,
                "http_status": attempt.http_status,
                "answer": attempt.answer,
                "error": attempt.error,
                "unknown": attempt.unknown,
            },
        )
        for attempt in attempts
    ]
    if place.status is Status.SUCCEEDED and place.attempts not in {attempt.number for attempt in attempts}:
        events += _success(task, place)
    return sorted(events, key=lambda event: event.at or task.created_at)


def _success(task: models.Task, place: Place) -> list[Event]:
    """Return the request that succeeded at once. It has no attempt, so that ten million take no space."""
    row = _rows(task, [place.user_id]).get(place.user_id)
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


def waits_for(task: models.Task, place: Place, *, at: datetime, format_time: FormatTime = _in_utc) -> str:
    """Return what an ID waits for, as a sentence."""
    if place.status in _ENDED:
        return _ENDED[place.status]
    queue = task.queue
    minute = format_time(place.minute_at, "%H:%M")
    if queue.paused_at is not None:
        return f"The queue {queue.name} to be resumed: it is paused since {format_time(queue.paused_at, '%H:%M')}."
    if queue.brake_per_minute == 0 and not _in_a_sealed_minute(place, at):
        return f"The brake of the queue {queue.name} to be let go: it lets nothing out."
    blocked = _blocked(queue, place, at, format_time)
    if blocked is not None:
        return blocked
    if place.minute_at + clock.MINUTE <= at:
        return f"A free place: its minute, {minute}, passed without its request."
    if place.minute_at <= at:
        return f"Its slot in the minute that runs, {minute}."
    return f"Its minute, {minute}."


def _in_a_sealed_minute(place: Place, at: datetime) -> bool:
    """Return whether its minute runs by a plan that was made before the brake."""
    runs = place.minute_at - clock.MINUTE < at < place.minute_at + clock.MINUTE
    return runs and models.Bucket.objects.filter(pk=place.bucket_id, sealed_at__isnull=False).exists()


def _blocked(queue: models.Queue, place: Place, at: datetime, format_time: FormatTime) -> str | None:
    """Return what blocks requests to the queue's target, and until when, if that blocks the ID."""
    target = targets.target_of(queue)
    if target is None:
        return None
    if target.opened_at is not None:
        return (
            f"The target {target.origin} to answer again: held since {format_time(target.opened_at, '%H:%M')}, "
            f"after {target.failures_count} failures in a row; one request each half minute tries."
        )
    if target.held_until is not None and target.held_until > max(at, place.minute_at):
        return (
            f"The target {target.origin}, which asked to be left in peace until "
            f"{format_time(target.held_until, '%H:%M:%S')}."
        )
    return None
