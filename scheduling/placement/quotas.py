"""How much of a queue's quotas is booked: each period's starts, and the places that are still to be started.

Nothing is kept beside the counters of buckets: what has started counts where it did, what waits where it will.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from django.db.models import F, Q, Sum
from django.db.models.expressions import Combinable

from scheduling import models
from scheduling.core import capacity, clock, keys
from scheduling.placement import budgets, shapes

# Every start counts: those of test requests, and those that nobody knows for sure, too.
STARTED = F("started_count") + F("repeats_count") + F("tests_count")
BOOKED = STARTED + F("waiting_count") + F("in_flight_count")


# The number of the quota, and when the period begins.
PeriodKey = tuple[int, datetime]


class Remaining(dict[Hashable, int]):
    """How many more requests each period of a queue's quotas may take: worked out as periods are asked for."""

    def __init__(self, shape: capacity.Shape, booked: Mapping[PeriodKey, int]) -> None:
        super().__init__()
        self.shape, self.booked = shape, booked

    def __copy__(self) -> "Remaining":
        copied = Remaining(self.shape, self.booked)
        copied.update(self)
        return copied

    def __contains__(self, period: object) -> bool:
        if not dict.__contains__(self, period):
            assert isinstance(period, tuple)
            limit = self.shape.quotas[period[0]].limit
            self[period] = max(0, limit - self.booked.get(period, 0))
        return True

    def periods_of(self, window_id: int) -> tuple[PeriodKey, ...]:
        """Return the keys of the periods in which a window lies."""
        runs_at = clock.runs_at(keys.starts_at_of_window(window_id))
        return tuple((number, quota.period_of(runs_at)[0]) for number, quota in enumerate(self.shape.quotas))

    def most(self, count: int, window_id: int) -> int:
        """Return how many of `count` requests the periods of a window leave room for."""
        return max(
            0, min([count, *(self[period] for period in self.periods_of(window_id) if period in self)])
        )

    def book(self, count: int, window_id: int) -> None:
        for period in self.periods_of(window_id):
            if period in self:
                self[period] -= count


def has_any(queue: models.Queue) -> bool:
    """Whether the queue or its target has quotas."""
    return bool(queue.quotas or (queue.target is not None and queue.target.quotas))


def remaining(queue: models.Queue, first_window: int, leaving: Mapping[int, int] | None = None) -> Remaining:
    """Return what the periods from that of a window on may still take. One query; none without quotas.

    leaving: by bucket, how many IDs that wait or are in flight there look for another place, so that they give back
    what they have booked.
    """
    if not has_any(queue):
        return Remaining(shapes.of(queue), {})
    taken = booked(queue, first_window)
    room = Remaining(shapes.of(queue), taken)
    for bucket_id, count in (leaving or {}).items():
        for period in room.periods_of(keys.window_of_bucket(bucket_id)):
            taken[period] = taken.get(period, 0) - count
    return room


def booked(
    queue: models.Queue,
    first_window: int,
    counted: Combinable = BOOKED,
    *,
    queue_ids: Iterable[int] = (),
) -> dict[PeriodKey, int]:
    """Return how much of each period is booked.

    counted: what counts of a minute. For the quotas of its target, that of all the target's queues counts.
    queue_ids: of queues that are going to be among these.
    """
    quotas = shapes.of(queue).quotas
    runs_at = clock.runs_at(keys.starts_at_of_window(first_window))
    since = min(quota.period_of(runs_at)[0] for quota in quotas)
    counting = {queue.pk}
    if queue.target is not None and queue.target.quotas:
        counting |= {*queue_ids, *(budgets.queue_ids_of(queue.target_id) if queue.target_id else ())}
    first = keys.bucket_at(queue.pk, since)
    rows = budgets.buckets_between(sorted(counting), first, keys.range_of_queue(queue.pk)[1] - 1)
    sums: dict[PeriodKey, int] = defaultdict(int)
    by_window = rows.order_by().values_list("window_id").annotate(count=Sum(counted))
    for window_id, count in by_window:
        if count:
            at = clock.runs_at(keys.starts_at_of_window(window_id))
            is_own = keys.queue_of_window(window_id) == queue.pk
            for number, quota in enumerate(quotas):
                if is_own or number >= len(queue.quotas):
                    sums[number, quota.period_of(at)[0]] += count
    return dict(sums)


def used(shape: capacity.Shape, queue_ids: Iterable[int], at: datetime) -> list[tuple[capacity.Quota, int]]:
    """Return how many requests of some queues have started in the current period of each quota."""
    queue_ids, result = list(queue_ids), []
    for quota in shape.quotas:
        since, until = quota.period_of(at)
        ranges = [Q(pk__gte=keys.bucket_at(pk, since), pk__lt=keys.bucket_at(pk, until)) for pk in queue_ids]
        rows = models.Bucket.objects.filter(reduce(Q.__or__, ranges, Q(pk__in=[])))
        result.append((quota, rows.aggregate(n=Sum(STARTED, default=0))["n"]))
    return result


@dataclass(frozen=True)
class Period:
    """A period of a quota, and how much of it is booked."""

    number: int
    begins_at: datetime
    ends_at: datetime
    limit: int
    booked: int

    @property
    def excess(self) -> int:
        return max(0, self.booked - self.limit)


def period_end(queue: models.Queue, number: int, at: datetime) -> datetime:
    """Return the end of the period of a quota that contains `at`."""
    return shapes.of(queue).quotas[number].period_of(at)[1]


def periods(queue: models.Queue, at: datetime) -> list[Period]:
    """Return the periods from `at` on of which anything is booked, in order of time."""
    if not has_any(queue):
        return []
    quotas = shapes.of(queue).quotas
    result = []
    first = keys.window_id(queue.pk, clock.running_window_start(at))
    for (number, begins_at), count in booked(queue, first).items():
        ends_at = quotas[number].period_of(begins_at)[1]
        if ends_at > at:
            result.append(Period(number, begins_at, ends_at, quotas[number].limit, count))
    return sorted(result, key=lambda period: (period.ends_at, period.number))
