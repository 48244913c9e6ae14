"""How late the requests of a bucket started: a histogram that is stored with the bucket."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from scheduling import models, store
from scheduling.dispatch.messages import Result, TickResult
from scheduling.store import later

# Buckets whose histograms are stored in one short transaction.
TOGETHER = 10


def add(milliseconds: Mapping[int, Mapping[int, int]]) -> None:
    """Add to how late requests started, by bucket: a histogram, exact to the millisecond up to 100."""
    with store.write():
        buckets = models.Bucket.objects.select_for_update().only("pk", "lateness").order_by("pk")
        for bucket in buckets.filter(pk__in=milliseconds):
            histogram = Counter(bucket.lateness or {})
            for late, count in milliseconds[bucket.pk].items():
                step = 1 if late <= 100 else 10 if late <= 1_000 else 100
                histogram[str(late // step * step)] += count
            later.update(models.Bucket.objects.filter(pk=bucket.pk), lateness=dict(histogram))


class Lateness:
    """What a minute worker knows about late starts and hasn't stored yet, by bucket."""

    def __init__(self) -> None:
        self._by_bucket: dict[int, Counter[int]] = defaultdict(Counter)

    def __bool__(self) -> bool:
        return bool(self._by_bucket)

    def count(self, tick: TickResult, results: Iterable[Result]) -> None:
        """Count what a committed tick recorded."""
        for bucket_id, milliseconds in tick.lateness.items():
            self._by_bucket[bucket_id].update(milliseconds)
        for result in results:
            if result.started_after_ms is not None:
                late_ms = result.started_after_ms - round(result.claim.offset * 1000)
                self._by_bucket[result.claim.bucket_id][max(0, late_ms)] += 1

    def store(self, monotonic: Callable[[], float], *, seconds: float = math.inf) -> None:
        """Store what is known, the buckets that waited longest first; after `seconds` none are begun."""
        until = monotonic() + seconds
        while self._by_bucket and monotonic() < until:
            bucket_ids = list(self._by_bucket)[:TOGETHER]
            add({bucket_id: self._by_bucket.pop(bucket_id) for bucket_id in bucket_ids})
