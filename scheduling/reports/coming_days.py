"""The coming days of a queue: how much lists may plan of each, how much is planned, and what is still free.

One query over the buckets of these days, and one over those of the periods of its quotas: at most a row for each
quarter-hour comes back, however many IDs there are.
"""

from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Sum, Value
from django.db.models.functions import Greatest

from scheduling import models
from scheduling.core import clock, keys
from scheduling.core.allocator import Fill
from scheduling.placement import budgets, quotas, shapes


@dataclass(frozen=True)
class Day:
    """What a day still has, from the next minute on.

    free: what could still be planned there if nothing else were planned before it. It may be less than the capacity
    less what is planned: a minute may be above its limit, and a quota may be used up by what was sent.
    """

    begins_at: datetime
    ends_at: datetime
    capacity: int
    planned: int
    free: int


@dataclass(frozen=True)
class _Window:
    """A window's share of a day. periods: of the quotas, in which it lies."""

    runs_at: datetime
    capacity: int
    planned: int
    free: int
    periods: tuple[Hashable, ...]


def coming_days(
    queue: models.Queue, bounds: Sequence[tuple[datetime, datetime]], *, at: datetime
) -> list[Day]:
    """Return the days between the bounds: consecutive ones, on whole quarter-hours, the first of which holds `at`."""
    first = keys.bucket_at(queue.pk, clock.next_unsealed_minute(at))
    windows = _windows(queue, first, bounds[-1][1])
    window = next(windows, None)
    unused = quotas.Remaining(shapes.of(queue), {})
    room = quotas.remaining(queue, keys.window_of_bucket(first))
    days = []
    for begins_at, ends_at in bounds:
        # Each day by itself: what is left of a month's quota can go to any of its days.
        most, rest = copy(unused), copy(room)
        capacity = planned = free = 0
        while window is not None and window.runs_at < ends_at:
            capacity += _take(most, window.capacity, window.periods)
            free += _take(rest, window.free, window.periods)
            planned += window.planned
            window = next(windows, None)
        days.append(Day(begins_at, ends_at, capacity, planned, free))
    return days


def _take(room: quotas.Remaining, count: int, periods: tuple[Hashable, ...]) -> int:
    """Take up to `count` requests out of the periods; return how many they had left."""
    most = min([count, *(room[period] for period in periods if period in room)])
    for period in periods:
        room[period] -= most
    return most


def _windows(queue: models.Queue, first: int, end: datetime) -> Iterator[_Window]:
    """Yield the windows from a bucket on that run before `end`: those that have rows, and those to come."""
    stored = _stored(queue, first, end) if queue.target_id is None else _within_budget(queue, first, end)
    window_id, k = keys.window_of_bucket(first), keys.index_of_bucket(first)
    for level, periods in _levels(queue, window_id):
        runs_at = clock.runs_at(keys.starts_at_of_window(window_id))
        if runs_at >= end:
            return
        room = sum(level[k:])
        yield _Window(runs_at, *stored.get(window_id, (room, 0, room)), periods)
        window_id, k = window_id + 1, 0


def _within_budget(queue: models.Queue, first: int, end: datetime) -> dict[int, tuple[int, int, int]]:
    """Return (capacity, planned, free) of every window from a bucket on, where the target's other queues have places.

    Minute by minute, as far as there are rows of any of these queues: others leave less of a minute.
    """
    last = keys.bucket_at(queue.pk, end - clock.MINUTE)
    budget = budgets.Room(queue, keys.window_of_bucket(first), keys.window_of_bucket(last))
    rows = models.Bucket.objects.filter(pk__gte=first, pk__lte=last)
    stored = {
        pk: (capacity, filled) for pk, capacity, filled in rows.values_list("pk", "capacity", "filled_count")
    }
    result = {}
    for window_id in sorted({*budget.taken, *map(keys.window_of_bucket, stored)}):
        levels = shapes.capacities(queue, window_id)
        sums = [0, 0, 0]
        for bucket, planned_capacity in zip(keys.buckets_of_window(window_id), levels, strict=True):
            if bucket >= first:
                capacity, filled = stored.get(bucket, (planned_capacity, 0))
                # As `shapes.list_level`: the headroom stays free of what the target leaves, too.
                level = max(0, min(capacity, budget.at(bucket)) - queue.headroom)
                for number, count in enumerate((level, filled, max(0, level - filled))):
                    sums[number] += count
        result[window_id] = sums[0], sums[1], sums[2]
    return result


def _levels(queue: models.Queue, window_id: int) -> Iterator[tuple[Fill, tuple[Hashable, ...]]]:
    """Yield what lists may plan of the minutes of each window that has no rows, without end."""
    for stretch in shapes.of(queue).stretches(clock.runs_at(keys.starts_at_of_window(window_id))):
        level = shapes.list_level(queue, stretch.capacity)
        for _ in range(stretch.windows):
            yield level, stretch.periods


def _stored(queue: models.Queue, first: int, end: datetime) -> dict[int, tuple[int, int, int]]:
    """Return (capacity, planned, free) of the windows that have rows, from a bucket on."""
    level = Greatest(F("capacity") - queue.headroom, Value(0))
    room = Greatest(F("capacity") - queue.headroom - F("filled_count"), Value(0))
    buckets = models.Bucket.objects.filter(pk__gte=first, pk__lt=keys.bucket_at(queue.pk, end)).order_by()
    sums = buckets.values_list("window_id").annotate(
        level=Sum(level), planned=Sum("filled_count"), room=Sum(room)
    )
    return {window_id: tuple(counts) for window_id, *counts in sums}
