"""The effect of a brake or a pause, computed before it is set: which IDs get later minutes, and the new
finish.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from scheduling import models
from scheduling.core import clock, keys
from scheduling.placement import budgets, shapes

# A year: a finish after that means nothing.
MOST_MINUTES = 366 * 1440


@dataclass(frozen=True)
class Slowing:
    """The effect on the IDs that wait from `from_minute` on. ends_after: None if they would never be sent."""

    from_minute: datetime
    ids_count: int
    moved_count: int
    ends_before: datetime | None
    ends_after: datetime | None


def effect_of_brake(queue: models.Queue, per_minute: int, *, at: datetime) -> Slowing:
    """Return what at most `per_minute` requests a minute would do, as long as nobody releases the brake."""
    return _slowed(queue, at=at, limit=per_minute, room=min(queue.rpm, per_minute))


def effect_of_pause(queue: models.Queue, minutes: int, *, at: datetime) -> Slowing:
    """Return what a pause of this many minutes would do. minutes: >= 1."""
    room = min(queue.rpm, queue.rpm if queue.brake_per_minute is None else queue.brake_per_minute)
    return _slowed(queue, at=at, limit=0, room=room, for_minutes=minutes)


def _slowed(
    queue: models.Queue, *, at: datetime, limit: int, room: int, for_minutes: int | None = None
) -> Slowing:
    """Return what a limit would do: IDs that don't fit into their minute take the first free places after it.

    limit: requests in each minute. room: how many IDs a minute has places for. for_minutes: how long the limit applies;
    None: for ever.
    """
    from_minute = clock.next_unsealed_minute(at)
    first = keys.minute_number_of_bucket(keys.bucket_at(queue.pk, from_minute))
    waiting = _waiting(queue, from_minute)
    ends_before = _end(max(waiting)) if waiting else None
    until = None if for_minutes is None else first + for_minutes
    if shapes.is_shaped(queue):
        moved, last = _slowed_by_minute(queue, waiting, first, limit=limit, room=room, until=until)
    else:
        moved, last = _slowed_evenly(waiting, first, limit=limit, room=room, until=until)
    ends_after = None if last is None else _end(last)
    return Slowing(from_minute, sum(waiting.values()), moved, ends_before, ends_after)


def _slowed_evenly(
    waiting: Mapping[int, int], first: int, *, limit: int, room: int, until: int | None
) -> tuple[int, int | None]:
    """Return, for equal minutes, how many IDs move, and the last minute that has one.

    None where nothing waits, or would never be sent.
    """
    carried = moved = 0
    number, last = first, None
    for planned in sorted(waiting):
        carried, taken_at = _fill_gap(carried, number, planned, room, until)
        last = taken_at or last
        is_limited = until is None or planned < until
        sent = min(waiting[planned], limit) if is_limited else waiting[planned]
        moved += waiting[planned] - sent
        free = 0 if is_limited and until is not None else max(0, room - sent)
        catching_up = min(carried, free)
        carried += waiting[planned] - sent - catching_up
        last = planned if sent + catching_up else last
        number = planned + 1
    if carried:
        start = number if until is None else max(number, until)
        last = start + -(-carried // room) - 1 if room else None
    return moved, last


def _slowed_by_minute(
    queue: models.Queue, waiting: Mapping[int, int], first: int, *, limit: int, room: int, until: int | None
) -> tuple[int, int | None]:
    """The same, minute by minute, for a queue whose minutes differ: how many move, and the last minute that has one.

    None where nothing waits, or would never be sent.
    """
    carried = moved = 0
    last, end = None, max(waiting, default=first)
    budget = budgets.Room(queue, keys.window_of_bucket(keys.bucket_at_number(queue.pk, first)))
    for number in range(first, first + MOST_MINUTES):
        if number > end and not carried:
            return moved, last
        if number > end and not room:
            break
        planned = waiting.get(number, 0)
        is_limited = until is None or number < until
        remaining = min(planned, limit) if is_limited else planned
        most = min(room, shapes.capacity_at(queue, clock.minute_of(number)))
        most = min(most, budget.at(keys.bucket_at_number(queue.pk, number)))
        free = 0 if is_limited and until is not None else max(0, most - remaining)
        added = min(carried, free)
        moved += planned - remaining
        carried += planned - remaining - added
        last = number if remaining + added else last
    return moved, None


def _waiting(queue: models.Queue, from_minute: datetime) -> Mapping[int, int]:
    """Return by minute number how many IDs wait from a minute on."""
    rows = models.Bucket.objects.filter(
        pk__gte=keys.bucket_at(queue.pk, from_minute),
        pk__lte=keys.range_of_queue(queue.pk)[1],
        waiting_count__gt=0,
    )
    counts = rows.values_list("pk", "waiting_count")
    return {keys.minute_number_of_bucket(bucket_id): count for bucket_id, count in counts}


def _fill_gap(
    carried: int, number: int, planned: int, room: int, until: int | None
) -> tuple[int, int | None]:
    """Let what was carried take the minutes in [number, planned), which are empty: the rest, and the last taken."""
    start = number if until is None else max(number, until)
    minutes = max(0, planned - start)
    placed = min(carried, minutes * room)
    if not placed:
        return carried, None
    return carried - placed, start + -(-placed // room) - 1


def _end(minute_number: int) -> datetime:
    return clock.minute_of(minute_number + 1)
