"""The shape of a queue's plan: how many requests each minute may make, by its rpm, its hours, its ramp and its quotas.

The budget of its target, if it has one, applies beside them. A queue without all of these has rpm in every minute, and
pays nothing here. What a window was created with is stored with its buckets and stays: windows that are running or open
keep theirs when a queue changes.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from scheduling import models, store
from scheduling.core import capacity, clock, keys
from scheduling.core.allocator import BUCKETS, EMPTY, Fill, Stretch
from scheduling.core.errors import BadFields
from scheduling.placement import budgets

# No list is planned further ahead than this.
LONGEST_PLAN_WINDOWS = 10 * 366 * 96
NEVER_OPEN = (
    "No minute of the next ten years is open for lists. Compare the hours and the headroom of the queue with those of"
    " its target."
)


def is_shaped(queue: models.Queue) -> bool:
    """Whether minutes of the queue may have different capacities."""
    return bool(queue.hours or queue.ramp or queue.quotas or queue.target_id)


def of(queue: models.Queue) -> capacity.Shape:
    """Return the queue's shape, within the budget of its target."""
    shape = of_queue_alone(queue)
    return shape if queue.target is None else shape.within(budgets.shape_of(queue.target))


def of_queue_alone(queue: models.Queue) -> capacity.Shape:
    """Return the queue's shape without the budget of its target."""
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


def reason_at(
    queue: models.Queue,
    minute: datetime,
    stored: int | None = None,
    taken: budgets.Taken | None = None,
) -> str:
    """Return why a minute has its capacity, in a few words; empty for a queue whose minutes are all alike.

    stored: the capacity that its window was created with, which the queue may have outgrown. taken: what the target's
    other queues have, if that is known already.
    """
    if not is_shaped(queue):
        return ""
    shape = of(queue)
    if stored is not None and stored != shape.capacity_at(minute):
        return f"{stored}: planned before the queue was changed"
    if shape.target is not None:
        bucket_id, most = keys.bucket_at(queue.pk, minute), shape.target.capacity_at(minute)
        taken = budgets.taken_by_others(queue, bucket_id, bucket_id) if taken is None else taken
        if most - sum(taken.get(bucket_id, {}).values()) < shape.capacity_at(minute):
            return budgets.sentence(most, taken[bucket_id])
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


def stretches(
    queue: models.Queue,
    first_window: int,
    *,
    at_most: int | None = None,
    room: budgets.Room | None = None,
    with_limit: bool = False,
    fills: Mapping[int, Fill] | None = None,
) -> Iterator[Stretch]:
    """Yield the windows from one on, as stretches, with what lists may plan of each minute.

    at_most: no minute has more. room: what the target's budget leaves, if it is known already. with_limit: also what
    minutes may hold past that by rule 2. fills: of windows by their offset, ascending, where one list may take only a
    share of each minute. The first window may be open already, and then keeps what it was created with.
    """
    count, room = 0, budgets.Room(queue, first_window) if room is None else room
    for stretch in up_to_longest(room.split(_stretches(queue, first_window), first_window)):
        level = list_level(queue, stretch.capacity, at_most)
        limit = room.of(first_window + count) if with_limit else None
        is_same = level is stretch.capacity and limit is None
        whole = stretch if is_same else Stretch(stretch.windows, level, stretch.periods, limit)
        if fills is None:
            yield whole
        else:
            yield from _by_share(queue, whole, stretch.capacity, count, fills)
        count += stretch.windows


def check_opens(queue: models.Queue, *, at: datetime) -> None:
    """Raise BadFields where no minute would ever have room for lists. queue, and its target: as they would be."""
    if not is_shaped(queue):
        return
    begins_at = clock.runs_at(clock.open_window_start(at))
    to_come = up_to_longest(of(queue).stretches(begins_at))
    if not any(number > queue.headroom for stretch in to_come for number in stretch.capacity):
        raise BadFields(hours=NEVER_OPEN)


def first_open_window(queue: models.Queue, window_id: int) -> int:
    """Return the first window, from one on, in which late IDs may have a place. Raises BadFields if there is none.

    Read from the changes of the shape: between here and a ramp that begins in half a year there are 17,000 windows.
    """
    runs_at = clock.runs_at(keys.starts_at_of_window(window_id))
    for stretch in up_to_longest(of(queue).stretches(runs_at)):
        if any(stretch.capacity):
            return window_id
        window_id += stretch.windows
    raise BadFields(hours=NEVER_OPEN)


def up_to_longest(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Yield stretches up to where no list is planned any more."""
    count = 0
    for stretch in stretches:
        yield stretch
        count += stretch.windows
        if count > LONGEST_PLAN_WINDOWS:
            return


def share_of(queue: models.Queue, capacity: int) -> int:
    """Return how much of a minute's capacity one list may take: at least one place of a minute that is open."""
    return max(1, capacity * queue.max_share_percent // 100) if capacity else 0


def within_share(queue: models.Queue, level: Fill, fill: Fill, capacities: Fill) -> Fill:
    """Return up to where one list may fill minutes: to a level, and by no more than its share of their capacities."""
    shares = {number: share_of(queue, number) for number in set(capacities)}
    return tuple(
        min(most, filled + shares[number])
        for most, filled, number in zip(level, fill, capacities, strict=True)
    )


def _by_share(
    queue: models.Queue, stretch: Stretch, capacities: Fill, first: int, fills: Mapping[int, Fill]
) -> Iterator[Stretch]:
    """Yield a stretch with what one list may fill, cut at windows in which others have places already.

    first: the offset of its first window. fills: by offset, ascending.
    """
    offsets, offset, end = list(fills), first, first + stretch.windows
    empty = within_share(queue, stretch.capacity, EMPTY, capacities)
    for named in offsets[bisect_left(offsets, first) : bisect_left(offsets, end)]:
        if named > offset:
            yield Stretch(named - offset, empty, stretch.periods, stretch.limit)
        level = within_share(queue, stretch.capacity, fills[named], capacities)
        yield Stretch(1, level, stretch.periods, stretch.limit)
        offset = named + 1
    if offset < end:
        yield Stretch(end - offset, empty, stretch.periods, stretch.limit)


def _stretches(queue: models.Queue, first_window: int) -> Iterator[Stretch]:
    stored_capacities = stored([first_window]).get(first_window)
    if stored_capacities is not None:
        planned = next(of(queue).stretches(clock.runs_at(keys.starts_at_of_window(first_window))))
        yield Stretch(1, stored_capacities, planned.periods)
        first_window += 1
    yield from of(queue).stretches(clock.runs_at(keys.starts_at_of_window(first_window)))


def list_level(queue: models.Queue, fill: Fill, at_most: int | None = None) -> Fill:
    """Return what lists may plan of minutes: their capacities less the headroom."""
    level = tuple(max(0, number - queue.headroom) for number in fill) if queue.headroom else fill
    return level if at_most is None else tuple(min(number, at_most) for number in level)
