"""The receipt of a window: what was planned, what was done, how evenly and how late. It is written once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Count

from scheduling import models
from scheduling.core import clock, keys, pacing, receipt_chain
from scheduling.models import MoveReason, Status
from scheduling.store import blocks


def of_window(
    window: models.Window, buckets: Sequence[models.Bucket], starts: Counter[int]
) -> dict[str, Any]:
    """Return the receipt, as JSON. buckets: the window's, in order. starts: its `own_starts`.

    `minutes`: 15 of {minute, planned, sent, succeeded, failed, late, moved, cancelled, expired,
    possible_repeats}. `most_in_60_seconds`: the largest number of starts in any 60 s that end in the
    window, beside `allowed_in_60_seconds`. `lateness_ms`: of starts, from their slot: median, p99, largest.
    `target_allows_in_60_seconds`: to all queues of a target with a budget.
    """
    late = _late_counts(window)
    rpm = max([1, *(bucket.capacity for bucket in buckets)])
    before = models.Bucket.objects.filter(pk=_last_before(window.pk))
    fullest = max((bucket.slot_count or bucket.capacity for bucket in (*before, *buckets)), default=rpm)
    histogram: Counter[int] = Counter()
    for bucket in buckets:
        histogram.update({int(ms): count for ms, count in (bucket.lateness or {}).items()})
    return {
        "minutes": [_minute(bucket, late.get(bucket.pk, 0)) for bucket in buckets],
        **_totals(buckets),
        "late": sum(late.values()),
        "most_in_60_seconds": most_in_60_seconds(starts_before(window.pk) + starts),
        "allowed_in_60_seconds": pacing.most_starts_in_60_seconds(max(rpm, fullest)),
        "lateness_ms": lateness(histogram),
        **_shared(buckets),
    }


def _shared(buckets: Sequence[models.Bucket]) -> dict[str, int]:
    """Return what a target with a budget allows in any 60 s to all its queues together; nothing without one."""
    slots = [bucket.target_slots["slots"] for bucket in buckets if bucket.target_slots is not None]
    return {"target_allows_in_60_seconds": pacing.most_starts_in_60_seconds(max(slots))} if slots else {}


def _totals(buckets: Sequence[models.Bucket]) -> dict[str, int]:
    return {
        "planned": sum(_planned(bucket) for bucket in buckets),
        "sent": sum(bucket.started_count for bucket in buckets),
        "succeeded": sum(bucket.succeeded_count for bucket in buckets),
        "failed": sum(bucket.failed_count for bucket in buckets),
        "moved": sum(bucket.moved_count for bucket in buckets),
        "cancelled": sum(bucket.cancelled_count for bucket in buckets),
        "expired": sum(bucket.expired_count for bucket in buckets),
        "possible_repeats": sum(bucket.repeats_count for bucket in buckets),
    }


def _last_before(window_id: int) -> int:
    """Return the bucket of the minute before the window's first: a queue's windows follow each other by key."""
    return keys.range_of_window(window_id - 1)[1]


def _planned(bucket: models.Bucket) -> int:
    """Return how many IDs had a place when the bucket was sealed; without a seal, how many have or had one."""
    return bucket.filled_count + bucket.moved_count if bucket.sealed_count is None else bucket.sealed_count


def _minute(bucket: models.Bucket, late: int) -> dict[str, Any]:
    return {
        "minute": bucket.minute_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "planned": _planned(bucket),
        "sent": bucket.started_count,
        "succeeded": bucket.succeeded_count,
        "failed": bucket.failed_count,
        "late": late,
        "moved": bucket.moved_count,
        "cancelled": bucket.cancelled_count,
        "expired": bucket.expired_count,
        "possible_repeats": bucket.repeats_count,
    }


def _late_counts(window: models.Window) -> dict[int, int]:
    """Return how many IDs were late in which bucket of the window."""
    reasons = MoveReason.what_made_late()
    moves = models.Move.objects.filter(
        from_bucket_id__range=keys.range_of_window(window.pk), reason__in=reasons
    )
    return dict(moves.values_list("from_bucket_id").annotate(Count("pk")))


def own_starts(window_id: int) -> Counter[int]:
    """Return how many requests started at which millisecond after the start of the window's first minute."""
    return _starts_in(window_id, *keys.range_of_window(window_id))


def starts_before(window_id: int) -> Counter[int]:
    """Return the same for the last minute of the window before: below 0."""
    before = _last_before(window_id)
    return _starts_in(window_id, before, before)


def _starts_in(window_id: int, first_bucket: int, last_bucket: int) -> Counter[int]:
    """Count the starts of some buckets. A success is in its row; every other request left an attempt."""
    first, last = keys.range_of_buckets(first_bucket, last_bucket)
    counts: Counter[int] = Counter()
    begins_ms = {bucket: k * 60_000 for k, bucket in enumerate(keys.buckets_of_window(window_id))}
    begins_ms[_last_before(window_id)] = -60_000
    # Row by row in the order of the key: grouping by two columns would sort a million rows.
    rows = models.Assignment.objects.filter(
        pk__gte=first, pk__lte=last, status=Status.SUCCEEDED, started_after_ms__isnull=False
    )
    for key, after_ms in blocks.values_in_blocks(rows, "started_after_ms"):
        counts[begins_ms[keys.bucket_of_assignment(key)] + after_ms] += 1
    begins = clock.runs_at(keys.starts_at_of_window(window_id))
    attempts = models.Attempt.objects.filter(
        bucket_id__gte=first_bucket, bucket_id__lte=last_bucket, unknown=False
    ).exclude(http_status__range=(200, 299))
    for _, started_at in blocks.values_in_blocks(attempts, "started_at"):
        counts[_milliseconds(started_at, begins)] += 1
    return counts


def _milliseconds(at: datetime, since: datetime) -> int:
    return (clock.epoch_microseconds(at) - clock.epoch_microseconds(since)) // 1_000


def most_in_60_seconds(starts: Mapping[int, int]) -> int:
    """Return the largest number of starts in any [t, t + 60 s) whose last start is at 0 or later.

    starts: milliseconds to a count; negative ones are before the window.
    """
    busiest = receipt_chain.Busiest()
    most = 0
    for time in sorted(starts):
        busiest.add(time, starts[time])
        if time >= 0:
            most = max(most, busiest.inside)
    return most


def lateness(histogram: Mapping[int, int]) -> dict[str, int] | None:
    """Return median, p99 and largest of a histogram of milliseconds; None for an empty one."""
    total = sum(histogram.values())
    if not total:
        return None
    return {
        "median": _quantile(histogram, total, 0.5),
        "p99": _quantile(histogram, total, 0.99),
        "largest": max(histogram),
    }


def _quantile(histogram: Mapping[int, int], total: int, share: float) -> int:
    count = 0
    for milliseconds in sorted(histogram):
        count += histogram[milliseconds]
        if count >= total * share:
            return milliseconds
    return max(histogram)
