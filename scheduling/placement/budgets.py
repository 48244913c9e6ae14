"""What the budget of a target leaves a queue: in each minute, its rpm less what the target's other queues have there.

A queue whose target has no budget pays nothing here. The caller holds the target's row where the answer must stay
true until places are taken (`reservations.lock_queue`).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce

from django.db.models import Q, QuerySet

from scheduling import models
from scheduling.core import capacity, clock, keys
from scheduling.core.allocator import Fill, Stretch


def shape_of(target: models.Target) -> capacity.Shape:
    """Return what limits all queues of a target together."""
    return _shape(target.rpm, json.dumps(target.hours, sort_keys=True), json.dumps(target.quotas))


@lru_cache(maxsize=256)
def _shape(rpm: int | None, hours: str, quotas: str) -> capacity.Shape:
    opened = json.loads(hours)
    return capacity.Shape(
        models.MAX_RPM if rpm is None else rpm,
        capacity.Hours.read(opened) if opened else None,
        None,
        tuple(map(capacity.Quota.read, json.loads(quotas))),
    )


def queue_ids_of(target_id: int) -> list[int]:
    """Return the queues that send to a target, in order of their keys."""
    return list(models.Queue.objects.filter(target_id=target_id).order_by("pk").values_list("pk", flat=True))


def budgeted() -> QuerySet[models.Target]:
    """Return the targets that have a budget."""
    return models.Target.objects.exclude(rpm=None, hours__isnull=True, quotas=[])


def buckets_between(queue_ids: Sequence[int], first: int, last: int) -> QuerySet[models.Bucket]:
    """Return the buckets of some queues that run from one bucket's minute to another's; those may be any queue's."""
    windows = keys.window_of_bucket(first), keys.window_of_bucket(last)
    indexes = keys.index_of_bucket(first), keys.index_of_bucket(last)
    ranges = [
        Q(
            pk__gte=keys.bucket_id(keys.in_queue(windows[0], queue_id), indexes[0]),
            pk__lte=keys.bucket_id(keys.in_queue(windows[1], queue_id), indexes[1]),
        )
        for queue_id in queue_ids
    ]
    return models.Bucket.objects.filter(reduce(Q.__or__, ranges, Q(pk__in=[])))


def _of_others(queue: models.Queue, first_window: int, last_window: int | None) -> Iterable[tuple[int, int]]:
    """Return what the target's other queues have in their minutes from a window to another, by bucket."""
    if queue.target_id is None:
        return ()
    if last_window is None:
        last_window = (keys.queue_of_window(first_window) + 1) * keys.QUARTERS - 1
    others = [pk for pk in queue_ids_of(queue.target_id) if pk != queue.pk]
    ends = keys.range_of_window(first_window)[0], keys.range_of_window(last_window)[1]
    rows = buckets_between(others, *ends).filter(filled_count__gt=0)
    return rows.values_list("pk", "filled_count")


class Room:
    """What a queue may have in each minute, beside what its target's other queues have there."""

    def __init__(
        self,
        queue: models.Queue,
        first_window: int,
        last_window: int | None = None,
        *,
        beside: Iterable[Mapping[int, int]] | None = None,
    ) -> None:
        """Two queries for a queue whose target has a budget, none for any other.

        beside: by bucket, what the other queues have in their minutes, where that isn't what is stored.
        """
        self.shape = shape_of(queue.target) if queue.target is not None else None
        # By window of this queue.
        self.taken: dict[int, list[int]] = {}
        self._rooms: dict[int, Fill] = {}
        # What all minutes may hold, where the target has no hours: most windows of a long list are alike.
        self._alike: Fill | None = None
        if self.shape is None:
            return
        if self.shape.hours is None:
            self._alike = (self.shape.rpm,) * clock.BUCKETS
        if beside is None:
            rows = _of_others(queue, first_window, last_window)
        else:
            rows = ((bucket, count) for fill in beside for bucket, count in fill.items())
        self.taken = keys.by_window_in_queue(rows, queue.pk)

    def of(self, window_id: int) -> Fill | None:
        """Return how many IDs each minute of a window may hold; None without a budget."""
        if self.shape is None:
            return None
        if self._alike is not None and window_id not in self.taken:
            return self._alike
        room = self._rooms.get(window_id)
        if room is None:
            room = self._alike or self.shape.capacities(clock.runs_at(keys.starts_at_of_window(window_id)))
            if (filled := self.taken.get(window_id)) is not None:
                room = tuple([a - b if a > b else 0 for a, b in zip(room, filled, strict=True)])
            self._rooms[window_id] = room
        return room

    def at(self, bucket_id: int) -> int:
        """Return how many IDs a minute may hold, given its bucket."""
        room = self.of(keys.window_of_bucket(bucket_id))
        return keys.ORDINALS if room is None else room[keys.index_of_bucket(bucket_id)]

    def within(self, window_id: int, level: Fill) -> Fill:
        """Return the smaller of a level and of what the budget leaves, for each minute of a window."""
        room = self.of(window_id)
        return level if room is None else capacity.smaller(level, room)

    def split(self, stretches: Iterator[Stretch], first_window: int) -> Iterator[Stretch]:
        """Yield stretches from a window on, cut where other queues have places, with what these leave."""
        if not self.taken:
            yield from stretches
            return
        named = sorted(window for window in self.taken if window >= first_window)[::-1]
        window = first_window
        for stretch in stretches:
            end = window + stretch.windows
            while window < end:
                following = named[-1] if named and named[-1] < end else end
                if following == window:
                    named.pop()
                    yield Stretch(1, self.within(window, stretch.capacity), stretch.periods)
                    window += 1
                else:
                    yield Stretch(following - window, stretch.capacity, stretch.periods)
                    window = following


Taken = Mapping[int, Mapping[str, int]]


def taken_by_others(queue: models.Queue, first: int, last: int) -> Taken:
    """Return how many places the target's other queues have in the given minutes: by this queue's bucket, then by name.

    first, last: buckets of the queue.
    """
    if queue.target_id is None:
        return {}
    others = dict(
        models.Queue.objects.filter(target=queue.target_id).exclude(pk=queue.pk).values_list("pk", "name")
    )
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    rows = buckets_between(list(others), first, last).filter(filled_count__gt=0).order_by("pk")
    for bucket_id, count in rows.values_list("pk", "filled_count"):
        window = keys.in_queue(keys.window_of_bucket(bucket_id), queue.pk)
        own = keys.bucket_id(window, keys.index_of_bucket(bucket_id))
        counts[own][others[keys.queue_of_bucket(bucket_id)]] = count
    return counts


def sentence(target_capacity: int, taken: Mapping[str, int]) -> str:
    """Say what the target's other queues leave of a minute: "40: 20 of the target's 60 are taken by queue b"."""
    count = sum(taken.values())
    *names, last = sorted(taken)
    listed = f"queues {', '.join(names)} and {last}" if names else f"queue {last}"
    verb = "is" if count == 1 else "are"
    return f"{max(0, target_capacity - count)}: {count} of the target's {target_capacity} {verb} taken by {listed}"
