"""The shape of a queue's plan: how many requests each minute may make, by its rpm, its hours, its ramp and its quotas.

A queue without hours, ramp and quotas has rpm in every minute, and pays nothing here. What a window was created with is
stored with its buckets and stays: windows that are running or open keep theirs when a queue changes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from scheduling import models, store
from scheduling.core import capacity, clock, keys
from scheduling.core.allocator import BUCKETS, Fill, Stretch

# No list is planned further ahead than this.
LONGEST_PLAN_WINDOWS = 10 * 366 * 96


def is_shaped(queue: models.Queue) -> bool:
    """Whether minutes of the queue may have different capacities."""
    return bool(queue.hours or queue.ramp or queue.quotas)


def of(queue: models.Queue) -> capacity.Shape:
    """Return the queue's shape."""
    return _shape(queue.rpm, _text(queue.hours), _text(queue.ramp), _text(queue.quotas))


def read(
    rpm: int,
    hours: Mapping[str, Any] | None,
    ramp: Mapping[str, Any] | None,
    quotas: Sequence[Mapping[str, Any]] = (),
) -> capacity.Shape:
    """Read a shape from the forms of its parts. ValueError, as a sentence, for anything that can't be meant."""
    opened = capacity.Hours.read(hours) if hours is not None else None
    growing = capacity.Ramp.read(ramp, opened.zone if opened else None) if ramp is not None else None
    return capacity.Shape(rpm, opened, growing, tuple(map(capacity.Quota.read, quotas)))


def _text(form: Any) -> str:
    return json.dumps(form, sort_keys=True) if form else ""


@lru_cache(maxsize=1024)
def _shape(rpm: int, hours: str, ramp: str, quotas: str) -> capacity.Shape:
    opened, growing = (json.loads(text) if text else None for text in (hours, ramp))
    return read(rpm, opened, growing, json.loads(quotas) if quotas else ())


def capacity_at(queue: models.Queue, minute: datetime) -> int:
    """Return how many requests a minute may make whose window isn't created yet."""
    return of(queue).capacity_at(minute) if is_shaped(queue) else queue.rpm


def reason_at(queue: models.Queue, minute: datetime, stored: int | None = None) -> str:
    """Return why a minute has its capacity, in a few words; empty for a queue whose minutes are all alike.

    stored: the capacity that its window was created with, which the queue may have outgrown.
    """
    if not is_shaped(queue):
        return ""
    shape = of(queue)
    if stored is not None and stored != shape.capacity_at(minute):
        return f"{stored}: planned before the queue was changed"
    return shape.reason_at(minute)


def capacities(queue: models.Queue, window_id: int) -> Fill:
    """Return the 15 capacities that a window is created with."""
    if not is_shaped(queue):
        return (queue.rpm,) * BUCKETS
    return of(queue).capacities(clock.runs_at(keys.starts_at_of_window(window_id)))


def create_windows(queue: models.Queue, window_ids: Sequence[int]) -> None:
    """Create the windows that aren't there yet, with the capacities of their minutes."""
    if not is_shaped(queue):
        store.create_windows(window_ids, capacity=queue.rpm)
        return
    alike: dict[Fill, list[int]] = {}
    for window_id in window_ids:
        alike.setdefault(capacities(queue, window_id), []).append(window_id)
    for fill, windows in alike.items():
        store.create_windows(windows, capacity=fill)


def stored(window_ids: Sequence[int]) -> dict[int, Fill]:
    """Return the capacities of those of the windows that have rows."""
    buckets = [bucket for window in window_ids for bucket in keys.buckets_of_window(window)]
    rows = models.Bucket.objects.filter(pk__in=buckets).values_list("pk", "capacity")
    return {window: tuple(fill) for window, fill in keys.by_window(rows).items()}


def stretches(queue: models.Queue, first_window: int, *, at_most: int | None = None) -> Iterator[Stretch]:
    """Yield the windows from one on, as stretches, with what lists may plan of each minute.

    at_most: no minute has more. The first window may be open already, and then keeps what it was created with.
    """
    count = 0
    for stretch in _stretches(queue, first_window):
        yield Stretch(stretch.windows, list_level(queue, stretch.capacity, at_most), stretch.periods)
        count += stretch.windows
        if count > LONGEST_PLAN_WINDOWS:
            return


def _stretches(queue: models.Queue, first_window: int) -> Iterator[Stretch]:
    kept = stored([first_window]).get(first_window)
    if kept is not None:
        planned = next(of(queue).stretches(clock.runs_at(keys.starts_at_of_window(first_window))))
        yield Stretch(1, kept, planned.periods)
        first_window += 1
    yield from of(queue).stretches(clock.runs_at(keys.starts_at_of_window(first_window)))


def list_level(queue: models.Queue, fill: Fill, at_most: int | None = None) -> Fill:
    """Return what lists may plan of minutes: their capacities less the headroom."""
    level = tuple(max(0, number - queue.headroom) for number in fill)
    return level if at_most is None else tuple(min(number, at_most) for number in level)
