"""How late the requests of a bucket started: a histogram that is stored with the bucket."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from scheduling import models, store
from scheduling.dispatch.messages import Result, TickResult


def add(bucket_id: int, milliseconds: Mapping[int, int]) -> None:
    """Add to how late requests of a bucket started: a histogram, exact to the millisecond up to 100."""
    if not milliseconds:
        return
    with store.write():
        bucket = models.Bucket.objects.select_for_update().only("pk", "lateness").get(pk=bucket_id)
        histogram = Counter(bucket.lateness or {})
        for late, count in milliseconds.items():
            step = 1 if late <= 100 else 10 if late <= 1_000 else 100
            histogram[str(late // step * step)] += count
        models.Bucket.objects.filter(pk=bucket_id).update(lateness=dict(histogram))


class Lateness:
    """What a minute worker knows about late starts and hasn't stored yet, by bucket."""

    def __init__(self) -> None:
        self._by_bucket: dict[int, Counter[int]] = defaultdict(Counter)

    def count(self, tick: TickResult, results: Iterable[Result]) -> None:
        """Count what a committed tick recorded."""
        for bucket_id, milliseconds in tick.lateness.items():
            self._by_bucket[bucket_id].update(milliseconds)
        for item in results:
            if item.started_after_ms is not None:
                late_ms = item.started_after_ms - round(item.claim.offset * 1000)
                self._by_bucket[item.claim.bucket_id][max(0, late_ms)] += 1

    def store(self, monotonic: Callable[[], float], *, seconds: float = math.inf) -> None:
        """Store what is known, the bucket that waited longest first; after `seconds` none is begun."""
        until = monotonic() + seconds
        for bucket_id in list(self._by_bucket):
            if monotonic() >= until:
                break
            add(bucket_id, self._by_bucket.pop(bucket_id))
