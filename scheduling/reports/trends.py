"""What a queue has done lately, by spans of time such as hours and days: requests, failures, late IDs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Sum

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import MoveReason


@dataclass(frozen=True)
class Counts:
    """Of a window or a span. failed: IDs that have failed for good. late: IDs that moved after their minute."""

    begins_at: datetime
    ends_at: datetime
    requests: int = 0
    failed: int = 0
    late: int = 0


def of_windows(queue: models.Queue, *, begin: datetime, end: datetime) -> list[Counts]:
    """Return the counts of the windows that have run from `begin` until `end`, both on a quarter. Three queries.

    Late IDs are those of the receipts; of windows that have none yet, of the log of moves.
    """
    first = keys.window_id(queue.pk, begin - clock.QUARTER)
    last = keys.window_id(queue.pk, end - 2 * clock.QUARTER)
    receipts = models.Window.objects.filter(pk__gte=first, pk__lte=last).order_by()
    late = dict(receipts.values_list("pk", "receipt__late"))
    late |= _late_without_receipt([pk for pk, count in late.items() if count is None])
    buckets = models.Bucket.objects.filter(
        pk__gte=keys.range_of_window(first)[0], pk__lte=keys.range_of_window(last)[1]
    ).order_by()
    sums = buckets.values_list("window_id").annotate(
        requests=Sum("started_count"), failed=Sum("failed_count")
    )
    counts = []
    for pk, requests, failed in sums:
        runs_at = clock.runs_at(keys.starts_at_of_window(pk))
        counts.append(Counts(runs_at, runs_at + clock.QUARTER, requests, failed, late.get(pk) or 0))
    return counts


def _late_without_receipt(windows: Sequence[int]) -> dict[int, int]:
    """Return how many IDs of windows, usually the last two, were late."""
    if not windows:
        return {}
    first, last = keys.range_of_window(min(windows))[0], keys.range_of_window(max(windows))[1]
    moves = models.Move.objects.filter(
        from_bucket_id__gte=first, from_bucket_id__lte=last, reason__in=MoveReason.what_made_late()
    ).order_by()
    counts = keys.by_window(moves.values_list("from_bucket_id").annotate(Count("pk")))
    return {pk: sum(counts[pk]) for pk in windows if pk in counts}


def by_span(windows: Sequence[Counts], bounds: Sequence[tuple[datetime, datetime]]) -> list[Counts]:
    """Return the sums of the windows that run in each span."""
    counts = []
    for begin, end in bounds:
        inside = [window for window in windows if begin <= window.begins_at < end]
        sums = (sum(getattr(window, name) for window in inside) for name in ("requests", "failed", "late"))
        counts.append(Counts(begin, end, *sums))
    return counts
