"""How much of the quotas of queues and targets is used in the periods that run now."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from scheduling import models
from scheduling.placement import quotas

# From this share on, a quota is highlighted.
NEARLY_USED_PERCENT = 80


@dataclass(frozen=True)
class QuotaUse:
    """A quota in its current period. booked: what has started in it and what is still planned.

    queue: whose it is, or one of those whose target's it is. target: None where it is the queue's own.
    """

    queue: str
    target: models.Target | None
    per: str
    limit: int
    booked: int
    ends_at: datetime

    @property
    def percent(self) -> int:
        return 100 * self.booked // self.limit

    @property
    def free(self) -> int:
        return max(0, self.limit - self.booked)

    @property
    def is_nearly_used(self) -> bool:
        return self.percent >= NEARLY_USED_PERCENT


def of_queue(queue: models.Queue, *, at: datetime) -> Iterator[QuotaUse]:
    """Yield each quota of a queue. One query."""
    return _of(queue, range(len(queue.quotas)), None, at)


def of_target(target: models.Target, queue: models.Queue, *, at: datetime) -> Iterator[QuotaUse]:
    """Yield each quota of a target. queue: one that sends to it. One query, and one for the target's other queues."""
    queue.target = target
    numbers = range(len(queue.quotas), len(queue.quotas) + len(target.quotas))
    return _of(queue, numbers, target, at)


def _of(
    queue: models.Queue, numbers: Iterable[int], target: models.Target | None, at: datetime
) -> Iterator[QuotaUse]:
    now = {period.number: period for period in quotas.periods(queue, at) if period.begins_at <= at}
    forms = [*queue.quotas, *(target.quotas if target else ())]
    for number in numbers:
        period = now.get(number)
        yield QuotaUse(
            queue.name,
            target,
            forms[number]["per"],
            forms[number]["limit"],
            period.booked if period else 0,
            period.ends_at if period else quotas.period_end(queue, number, at),
        )
