"""How late the requests of a bucket started: kept with the bucket as a histogram."""

from collections import Counter
from collections.abc import Mapping

from scheduling import models, store


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
