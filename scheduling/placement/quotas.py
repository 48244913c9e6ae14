"""How much of a queue's quotas is booked: each period's starts, and the places that are still to be started.

Nothing is kept beside the counters of buckets: what has started counts where it did, what waits where it will.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Sum

from scheduling import models
from scheduling.core import capacity, clock, keys
from scheduling.placement import shapes

BOOKED = F("started_count") + F("waiting_count") + F("in_flight_count")


class Left(dict[Hashable, int]):
    """How many more requests each period of a queue's quotas may take: worked out as periods are asked for."""

    def __init__(self, shape: capacity.Shape, booked: dict[Hashable, int]) -> None:
        super().__init__()
        self.shape, self.booked = shape, booked

    def __copy__(self) -> "Left":
        copied = Left(self.shape, self.booked)
        copied.update(self)
        return copied

    def __contains__(self, period: object) -> bool:
        if not dict.__contains__(self, period):
            assert isinstance(period, tuple)
            limit = self.shape.quotas[period[0]].limit
            self[period] = max(0, limit - self.booked.get(period, 0))
        return True

    def periods_of(self, window_id: int) -> tuple[Hashable, ...]:
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


def left(queue: models.Queue, first_window: int, leaving: Mapping[int, int] | None = None) -> Left:
    """Return what the periods from that of a window on may still take. One query; none without quotas.

    leaving: by bucket, how many IDs that wait or are in flight there look for another place, so that they give back
    what they have booked.
    """
    if not queue.quotas:
        return Left(shapes.of(queue), {})
    found = Left(shapes.of(queue), booked(queue, first_window))
    for bucket_id, count in (leaving or {}).items():
        for period in found.periods_of(keys.window_of_bucket(bucket_id)):
            found.booked[period] = found.booked.get(period, 0) - count
    return found


def booked(queue: models.Queue, first_window: int) -> dict[Hashable, int]:
    """Return how much of each period is booked, by (number of the quota, when the period begins)."""
    quotas = shapes.of(queue).quotas
    runs_at = clock.runs_at(keys.starts_at_of_window(first_window))
    since = min(quota.period_of(runs_at)[0] for quota in quotas)
    rows = models.Bucket.objects.filter(
        pk__gte=keys.bucket_at(queue.pk, since), pk__lte=keys.range_of_queue(queue.pk)[1]
    )
    sums: dict[Hashable, int] = defaultdict(int)
    by_window = rows.order_by().values_list("window_id").annotate(count=Sum(BOOKED))
    for window_id, count in by_window:
        if count:
            at = clock.runs_at(keys.starts_at_of_window(window_id))
            for number, quota in enumerate(quotas):
                sums[number, quota.period_of(at)[0]] += count
    return dict(sums)


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


def periods(queue: models.Queue, at: datetime) -> list[Period]:
    """Return the periods from `at` on of which anything is booked, in order of time."""
    if not queue.quotas:
        return []
    quotas = shapes.of(queue).quotas
    found = []
    for key, count in booked(queue, keys.window_id(queue.pk, clock.running_window_start(at))).items():
        assert isinstance(key, tuple)
        number, begins_at = key
        ends_at = quotas[number].period_of(begins_at)[1]
        if ends_at > at:
            found.append(Period(number, begins_at, ends_at, quotas[number].limit, count))
    return sorted(found, key=lambda period: (period.ends_at, period.number))
