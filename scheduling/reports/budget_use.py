"""How much of the budgets of targets is used: in the minute that runs, and in the fullest one of those to come."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from scheduling import models
from scheduling.core import clock, keys
from scheduling.placement import budgets

# The running window and the one that is open.
MINUTES = 2 * clock.BUCKETS


@dataclass(frozen=True)
class Use:
    """A target's budget beside what its queues have planned. rpm: None where only hours and quotas limit it."""

    target: models.Target
    queues: tuple[str, ...]
    rpm: int | None
    now_count: int
    peak: int
    peak_at: datetime | None

    @property
    def is_full(self) -> bool:
        return self.rpm is not None and self.peak >= self.rpm


def of_targets(target_ids: Collection[int], at: datetime) -> list[Use]:
    """Return the use of some targets' budgets. Three queries, whatever is planned; none without targets."""
    if not target_ids:
        return []
    names: dict[int, dict[int, str]] = defaultdict(dict)
    queues = models.Queue.objects.filter(target_id__in=target_ids).order_by("name")
    for pk, name, target_id in queues.values_list("pk", "name", "target_id"):
        names[target_id][pk] = name
    counts = _counts({pk: target for target, of_target in names.items() for pk in of_target}, at)
    uses = []
    for target in models.Target.objects.filter(pk__in=target_ids).order_by("origin"):
        planned = counts.get(target.pk, {})
        peak_at = max(planned, key=lambda minute: (planned[minute], -minute.timestamp()), default=None)
        uses.append(
            Use(
                target,
                tuple(names[target.pk].values()),
                target.rpm,
                planned.get(clock.minute_start(at), 0),
                planned[peak_at] if peak_at else 0,
                peak_at,
            )
        )
    return uses


def _counts(target_of: Mapping[int, int], at: datetime) -> dict[int, dict[datetime, int]]:
    """Return how many IDs the queues have in each minute from this one on, by target. target_of: by queue."""
    counts: dict[int, dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    if not target_of:
        return counts
    minute = clock.minute_start(at)
    first = keys.bucket_at(next(iter(target_of)), minute)
    last = keys.bucket_at(next(iter(target_of)), minute + (MINUTES - 1) * clock.MINUTE)
    rows = budgets.buckets_between(list(target_of), first, last).filter(filled_count__gt=0)
    for bucket_id, count in rows.values_list("pk", "filled_count"):
        counts[target_of[keys.queue_of_bucket(bucket_id)]][keys.minute_of_bucket(bucket_id)] += count
    return counts
