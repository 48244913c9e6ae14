"""What another rpm, other hours, another ramp or another budget would do to what is planned. Nothing is stored.

`rates` makes such a change, and `rates.refit` moves what no longer fits. Here the same is done to counts alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduling import models
from scheduling.core import allocator, clock, keys
from scheduling.core.capacity import Shape
from scheduling.placement import budgets, quotas, reservations, shapes
from scheduling.queues import rates
from scheduling.queues.rates import Capacity

# A list of this many IDs shows what a share of each minute costs.
IMAGINED_IDS = 10_000


@dataclass(frozen=True)
class Load:
    """The load of a queue's open and future minutes: the fullest, the IDs past rpm, and the end of the last
    minute with an ID.
    """

    peak: int
    over_count: int
    ends_at: datetime | None


@dataclass(frozen=True)
class ShareEffect:
    """What a share of each minute would do to the next list of this many IDs, if it were accepted now.

    left: the places that it would leave in each minute of the queue's rpm. ends_at_without: its end without the share.
    """

    percent: int
    ids_count: int
    left: int
    ends_at: datetime
    ends_at_without: datetime


@dataclass(frozen=True)
class Effect:
    """The effect of a change of rpm; `moved_count` IDs get a later minute."""

    rpm_before: int
    rpm_after: int
    before: Load
    after: Load
    moved_count: int
    # Only of a change that limits the share of a list.
    share: ShareEffect | None = None


def of_rpm(queue: models.Queue, rpm: int, *, at: datetime) -> Effect:
    """Return what another rpm would do to what is planned from the open window on."""
    return of_changes(queue, {"rpm": rpm}, at=at)


def of_changes(queue: models.Queue, changes: Mapping[str, Any], *, at: datetime) -> Effect:
    """Return what other fields of a queue would do to what is planned from the open window on.

    Under `disperse` every ID keeps its minute, as long as that is open. Under `carry_over` what no longer fits
    moves on. What is past a quota goes to a later period under both. Raises BadFields.
    """
    changed = rates.changed_copy(queue, changes)
    changed.target = rates.target_of(changed)
    shapes.check_opens(changed, at=at)
    planned = list(rates.planned(queue, at).values_list("pk", "filled_count", "capacity"))
    filled = {bucket: count for bucket, count, _ in planned if count}
    stored = {bucket: capacity for bucket, _, capacity in planned}
    before = _capacities(queue, stored)
    budget = budgets.Room(changed, keys.window_id(queue.pk, clock.running_window_start(at)))
    capacity = rates.smaller(_capacities(changed, _of_open_window(queue, changed, stored, at)), budget.at)
    after, moved = _Minutes(changed, filled, capacity, budget, at).refitted()
    loads = _load(filled, before), _load(after, capacity)
    has_other_share = changed.max_share_percent not in (queue.max_share_percent, 100)
    share = _share_of(changed, at) if has_other_share else None
    return Effect(queue.rpm, changed.rpm, *loads, moved, share)


def _share_of(changed: models.Queue, at: datetime) -> ShareEffect | None:
    """Return what the queue's share does to the next list; None if it limits none."""
    plan = reservations.plan(changed, IMAGINED_IDS, at=at)
    if plan.share is None or plan.share.ends_at is None or plan.last_at is None:
        return None
    ends_at = plan.last_at + clock.MINUTE
    return ShareEffect(plan.share.percent, IMAGINED_IDS, plan.share.left, ends_at, plan.share.ends_at)


def of_budget(
    target: models.Target, changes: Mapping[str, Any], queues: Sequence[models.Queue], *, at: datetime
) -> Effect:
    """Return what another budget would do to what the target's queues have planned.

    queues: all that send to it. What no longer fits leaves the queue that was created last first, as in `refit`.
    Raises BadFields.
    """
    changed = rates.changed_copy(target, changes)
    before, now = budgets.shape_of(target), budgets.shape_of(changed)
    planned = {
        queue.pk: dict(rates.planned(queue, at).filter(filled_count__gt=0).values_list("pk", "filled_count"))
        for queue in queues
    }
    fills = dict(planned)
    moved = 0
    for queue in sorted(queues, key=lambda queue: -queue.pk):
        limited = copy(queue)
        limited.target = changed
        shapes.check_opens(limited, at=at)
        first = keys.window_id(queue.pk, clock.running_window_start(at))
        others = {pk: fill for pk, fill in fills.items() if pk != queue.pk}
        budget = budgets.Room(limited, first, beside=others.values())
        own = shapes.of(limited)

        def capacity(bucket: int, own: Shape = own) -> int:
            return own.capacity_at(keys.minute_of_bucket(bucket))

        minutes = _Minutes(limited, fills[queue.pk], rates.smaller(capacity, budget.at), budget, at, [*fills])
        for pk, fill in others.items():
            minutes.book_changes(planned[pk], fill)
        fills[queue.pk], queue_moved = minutes.refitted()
        moved += queue_moved
    totals = _totals(planned.values()), _totals(fills.values())
    return Effect(before.rpm, now.rpm, _load_of(totals[0], before), _load_of(totals[1], now), moved)


class _Minutes:
    """What is planned of a queue, as counts of minutes, with what limits it: its capacities, budget and quotas."""

    def __init__(
        self,
        queue: models.Queue,
        filled: Mapping[int, int],
        capacity: Capacity,
        budget: budgets.Room,
        at: datetime,
        queue_ids: Iterable[int] = (),
    ) -> None:
        """capacity: below which a minute has a free place. queue_ids: of all queues of its target, if known already."""
        self.queue, self.filled, self.budget, self.at = queue, dict(filled), budget, at
        self.hard_cap = rates.hard_cap(queue, capacity, budget.at)
        # Where a brake holds, what moves stays below it.
        self.most = queue.brake_per_minute or models.MAX_RPM
        self.capacity = rates.smaller(capacity, lambda _: self.most)
        self.shape, self.moved = shapes.of(queue), 0
        self.booked: dict[quotas.PeriodKey, int] = defaultdict(int)
        if quotas.has_any(queue):
            first = keys.window_id(queue.pk, clock.running_window_start(at))
            self.booked |= quotas.booked(queue, first, queue_ids=queue_ids)

    def book_changes(self, before: Mapping[int, int], after: Mapping[int, int]) -> None:
        """Book on the target's quotas how another of its queues has changed."""
        own = len(self.queue.quotas)
        for bucket in before.keys() | after.keys():
            if change := after.get(bucket, 0) - before.get(bucket, 0):
                for number, quota in enumerate(self.shape.quotas[own:], own):
                    self.booked[number, quota.period_of(keys.minute_of_bucket(bucket))[0]] += change

    def refitted(self) -> tuple[dict[int, int], int]:
        """Return the counts once everything fits, and how many IDs have moved for it."""
        self._carry({})
        self._carry(self._cut_to_quotas())
        return {bucket: count for bucket, count in self.filled.items() if count}, self.moved

    def _cut_to_quotas(self) -> dict[int, int]:
        """Take away what exceeds a period's quota, the last minutes first; return how much, by the minute after it."""
        movable = self._waiting_in_running_window() | self.filled if self.booked else {}
        periods = [
            (self.shape.quotas[number].period_of(begins_at)[1], number, begins_at)
            for number, begins_at in self.booked
        ]
        displaced: dict[int, int] = defaultdict(int)
        for ends_at, number, begins_at in sorted(period for period in periods if period[0] > self.at):
            excess = self.booked[number, begins_at] - self.shape.quotas[number].limit
            first = keys.bucket_at(self.queue.pk, begins_at)
            end = keys.bucket_at(self.queue.pk, ends_at)
            planned = [bucket for bucket in movable if first <= bucket < end] if excess > 0 else []
            for bucket in sorted(planned, reverse=True):
                removed = max(0, min(excess, movable[bucket]))
                movable[bucket] -= removed
                self._book(bucket, -removed)
                if bucket in self.filled:
                    self.filled[bucket] -= removed
                displaced[end] += removed
                excess -= removed
        self.moved += sum(displaced.values())
        return displaced

    def _waiting_in_running_window(self) -> dict[int, int]:
        first = keys.bucket_at(self.queue.pk, clock.next_unsealed_minute(self.at))
        end = keys.bucket_at(self.queue.pk, clock.runs_at(clock.open_window_start(self.at)))
        rows = models.Bucket.objects.filter(pk__gte=first, pk__lt=end, waiting_count__gt=0, sealed_at=None)
        return dict(rows.values_list("pk", "waiting_count"))

    def _carry(self, joining: Mapping[int, int]) -> None:
        """Let what is past a hard cap, and what joins at a minute, take the first free places from there on.

        The time grows with the minutes that are filled, and after them with the changes of the capacity.
        """
        bucket_ids = sorted({*self.filled, *(bucket for bucket, count in joining.items() if count)})
        if not bucket_ids:
            return
        end = keys.buckets_of_window(keys.window_of_bucket(bucket_ids[-1]))[-1]
        carried = 0
        for bucket in _minutes(bucket_ids[0], end):
            carried += joining.get(bucket, 0)
            count = self.filled.get(bucket, 0)
            if not count and not carried:
                continue
            out = max(0, count - self.hard_cap(bucket))
            added = min(carried, max(0, self.capacity(bucket) - count)) if carried else 0
            self._book(bucket, -out)
            added = self._within_quotas(bucket, added)
            self._book(bucket, added)
            self.moved += out
            carried += out - added
            if out or added:
                self.filled[bucket] = count - out + added
        self._append(keys.window_of_bucket(end) + 1, carried)

    def _append(self, window: int, count: int) -> None:
        """Give IDs the first free places from a window on after which, as in itself, nothing is planned yet."""
        if not count:
            return
        runs_at = clock.runs_at(keys.starts_at_of_window(window))
        stretches = (
            allocator.Stretch(
                stretch.windows, tuple(min(self.most, number) for number in stretch.capacity), stretch.periods
            )
            for stretch in self.budget.split(self.shape.stretches(runs_at), window)
        )
        room = quotas.Remaining(self.shape, self.booked)
        for run in allocator.runs_within(shapes.up_to_longest(stretches), count, fills={}, quotas=room):
            for offset in range(run.first, run.first + run.windows):
                for bucket, added in zip(keys.buckets_of_window(window + offset), run.added, strict=True):
                    self.filled[bucket] = added
                    self._book(bucket, added)

    def _periods_of(self, bucket: int) -> list[quotas.PeriodKey]:
        minute = keys.minute_of_bucket(bucket)
        return [(number, quota.period_of(minute)[0]) for number, quota in enumerate(self.shape.quotas)]

    def _within_quotas(self, bucket: int, count: int) -> int:
        """Return how many of `count` IDs the quotas leave room for."""
        if not count or not self.shape.quotas:
            return count
        rooms = [self.shape.quotas[key[0]].limit - self.booked[key] for key in self._periods_of(bucket)]
        return max(0, min(count, *rooms))

    def _book(self, bucket: int, count: int) -> None:
        if count and self.shape.quotas:
            for key in self._periods_of(bucket):
                self.booked[key] += count


def _minutes(first: int, last: int) -> Iterator[int]:
    """Yield the keys of all minutes of a queue from one bucket to another."""
    queue_id = keys.queue_of_bucket(first)
    for number in range(keys.minute_number_of_bucket(first), keys.minute_number_of_bucket(last) + 1):
        yield keys.bucket_at_number(queue_id, number)


def _totals(fills: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Return how many IDs all queues together have in each minute, by its number."""
    totals: dict[int, int] = defaultdict(int)
    for fill in fills:
        for bucket, count in fill.items():
            totals[keys.minute_number_of_bucket(bucket)] += count
    return totals


def _load_of(totals: Mapping[int, int], shape: Shape) -> Load:
    return Load(
        peak=max(totals.values(), default=0),
        over_count=sum(
            max(0, count - shape.capacity_at(clock.minute_of(number))) for number, count in totals.items()
        ),
        ends_at=clock.minute_of(max(totals) + 1) if totals else None,
    )


def _capacities(queue: models.Queue, stored: Mapping[int, int]) -> Capacity:
    def capacity(bucket: int) -> int:
        if bucket in stored:
            return stored[bucket]
        return shapes.capacity_at(queue, keys.minute_of_bucket(bucket))

    return capacity


def _of_open_window(
    queue: models.Queue, changed: models.Queue, stored: Mapping[int, int], at: datetime
) -> dict[int, int]:
    """Return the capacities of the minutes of the open window once the queue is changed, by bucket."""
    window = keys.window_id(queue.pk, clock.open_window_start(at))
    capacities = zip(keys.buckets_of_window(window), shapes.capacities(queue, window), strict=True)
    return {b: rates.kept_capacity(queue, changed, b, stored.get(b, capacity)) for b, capacity in capacities}


def _load(filled: Mapping[int, int], capacity: Capacity) -> Load:
    return Load(
        peak=max(filled.values(), default=0),
        over_count=sum(max(0, count - capacity(bucket)) for bucket, count in filled.items()),
        ends_at=keys.minute_of_bucket(max(filled)) + clock.MINUTE if filled else None,
    )
