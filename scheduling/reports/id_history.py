"""Where IDs are and what became of them: a task's list and its distribution.

A row is written some time after its place was reserved. Until then the place follows from the reservation, so
that the result is the same before and after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from scheduling import models
from scheduling.core import clock, keys
from scheduling.intake import allocation
from scheduling.lists import stored_lists
from scheduling.models import Status
from scheduling.placement import late_ids


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


class Row(NamedTuple):
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
    # The other states are stored in the rows.
    by_row_alone = status not in (None, Status.WAITING, Status.CANCELLED)
    rows = _rows(task, users, status if by_row_alone else None)
    missing = [] if by_row_alone else [user for user in users if user not in rows]
    reserved = _reserved(task, missing, first_position, len(users))
    if len(reserved) < len(missing):
        # It has been written in the meantime.
        rows |= _rows(task, [user for user in missing if user not in reserved])
    bases = _late_since(task, list(rows))
    minutes: dict[int, float] = {}
    result = []
    for user in users:
        row = rows.get(user)
        if row is not None:
            place = place_of_row(task, row, bases.get(user), at, minutes)
        elif user in reserved:
            place = Place(user, reserved[user], task.meaning_of(Status.WAITING), has_row=False)
        else:
            continue
        if status is None or place.status == status:
            result.append(place)
    return result


# The status, error and response of an ID without a stored response.
NO_ATTEMPT: tuple[int | None, str, str] = (None, "", "")


def last_attempts(task: models.Task, users: Sequence[int]) -> dict[int, tuple[int | None, str, str]]:
    """Return status, error and answer of the last request of each ID whose response is kept. One query."""
    attempts = models.Attempt.objects.filter(task_id=task.pk, user_id__in=list(users)).order_by(
        "number", "pk"
    )
    rows = attempts.values_list("user_id", "http_status", "error", "answer")
    return {user_id: (status, error, answer) for user_id, status, error, answer in rows}


def rows_in(tasks: Iterable[models.Task], user_id: int) -> dict[int, Row]:
    """Return an ID's rows in these tasks, by task."""
    rows = models.Assignment.objects.filter(user_id=user_id, task_id__in=[task.pk for task in tasks])
    return {task_id: Row(*row) for task_id, *row in rows.values_list("task_id", *Row._fields)}


def newest_rows(user_id: int, *, before_task: int | None, count: int) -> dict[int, Row]:
    """Return an ID's rows in its newest tasks, up to `count` of those older than `before_task`, by task."""
    rows = models.Assignment.objects.filter(user_id=user_id)
    if before_task is not None:
        rows = rows.filter(task_id__lt=before_task)
    newest = rows.order_by("-task_id").values_list("task_id", *Row._fields)[:count]
    return {task_id: Row(*row) for task_id, *row in newest}


def _rows(task: models.Task, users: Sequence[int], status: Status | None = None) -> dict[int, Row]:
    if not users:
        return {}
    rows = models.Assignment.objects.filter(task=task, user_id__in=list(users))
    if status is not None:
        rows = rows.filter(status=status)
    return {row[0]: Row(*row) for row in rows.values_list(*Row._fields)}


_STATUSES = {status.value: status for status in Status}


def place_of_row(
    task: models.Task, row: Row, late_since: int | None, at: datetime, minutes: dict[int, float]
) -> Place:
    status = task.meaning_of(_STATUSES[row.status])
    bucket_id = keys.bucket_of_assignment(row.id)
    late = lateness(row, bucket_id, status, late_since, at, minutes)
    return Place(row.user_id, bucket_id, status, row.attempts, late)


def lateness(
    row: Row | models.Assignment,
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
    return {user: bucket for (_, user), bucket in late_ids.late_since([task.pk], users).items()}


def _reserved(
    task: models.Task, users: Sequence[int], first_position: int | None, count: int
) -> dict[int, int]:
    """Return the buckets of IDs that have no row yet, from the reservations of unwritten segments."""
    if not users:
        return {}
    user_ids = frozenset(users)
    unwritten = models.Segment.objects.unwritten().filter(task=task)
    result: dict[int, int] = {}
    for list_id in unwritten.order_by().values_list("list_id", flat=True).distinct():
        if list_id == task.list_id and first_position is not None:
            runs = [(first_position, count)]
        else:
            runs = _runs(list_id, user_ids)
        for first, length in runs:
            reserved = allocation.buckets_of(list_id, first, length)
            result.update((user, bucket) for user, bucket in reserved if user in user_ids)
    return result


def _runs(list_id: int, user_ids: frozenset[int]) -> list[tuple[int, int]]:
    """Return runs of these IDs in a list as (position, length), in one pass over it."""
    runs: list[tuple[int, int]] = []
    position = 0
    for block in stored_lists.blocks(list_id):
        if not user_ids.isdisjoint(block):
            for at in (position + n for n, user in enumerate(block) if user in user_ids):
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
