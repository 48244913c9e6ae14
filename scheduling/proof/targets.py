"""Checks of targets with a budget: no 60 seconds saw more starts than it allows, by the receipts of its queues."""

from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import datetime

from scheduling import models
from scheduling.core import clock, pacing, receipt_chain

from .base import Cursor, Difference, Piece, retained_since

QUARTERS_AT_A_TIME = 50
MINUTE_MS = 60_000
# Of each target, in milliseconds since 1970: when requests started, and the slots of the minute that each was in.
Starts = dict[int, list[tuple[int, int]]]


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the next quarter-hours in which queues shared a budget. cursor: the quarter of the last one."""
    since = max(retained_since(at), clock.EPOCH + cursor[0] * clock.QUARTER)
    windows = models.Window.objects.filter(
        queue__target__isnull=False, totalled_at__isnull=False, starts_at__gt=since
    )
    quarters = list(
        windows.order_by("starts_at").values_list("starts_at", flat=True).distinct()[:QUARTERS_AT_A_TIME]
    )
    differences = [difference for starts_at in quarters for difference in _of_quarter(starts_at)]
    last = quarters[-1] if len(quarters) == QUARTERS_AT_A_TIME else None
    following = ((last - clock.EPOCH) // clock.QUARTER, 0) if last else None
    return Piece(differences, following, checked={"quarter-hour": len(quarters)})


def _of_quarter(starts_at: datetime) -> Iterator[Difference]:
    """Check the intervals that end in the minutes of a quarter-hour's windows."""
    starts: Starts = defaultdict(list)
    for quarter in (starts_at - clock.QUARTER, starts_at):
        for target_id, times_of_target in _starts(quarter).items():
            starts[target_id] += times_of_target
    begins_ms = clock.epoch_microseconds(clock.runs_at(starts_at)) // 1_000
    for target_id, times in sorted(starts.items()):
        most, allowed = _busiest(sorted(times), begins_ms)
        if most > allowed:
            of = f"target {target_id}, quarter-hour {starts_at:%Y-%m-%d %H:%M}"
            yield Difference("60 seconds of a target are within its budget", of, allowed, most)


def _starts(starts_at: datetime) -> Starts:
    """Return the starts of a quarter-hour's windows in minutes whose slots were shared, by target."""
    chained = models.ChainedReceipt.objects.filter(pk__in=_windows(starts_at)).values_list("pk", "starts")
    texts = dict(chained)
    shared: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    buckets = models.Bucket.objects.filter(window_id__in=texts, target_slots__isnull=False)
    for bucket in buckets.only("pk", "window_id", "target_id", "target_slots"):
        if bucket.target_id is not None and bucket.target_slots is not None:
            shared[bucket.window_id][bucket.index] = bucket.target_id, bucket.target_slots["slots"]
    begins_ms = clock.epoch_microseconds(clock.runs_at(starts_at)) // 1_000
    result: Starts = defaultdict(list)
    for window_id, of_minute in shared.items():
        for after_ms in receipt_chain.read_starts(texts[window_id]):
            if place := of_minute.get(after_ms // MINUTE_MS):
                result[place[0]].append((begins_ms + after_ms, place[1]))
    return result


def _windows(starts_at: datetime) -> list[int]:
    return list(models.Window.objects.filter(starts_at=starts_at).values_list("pk", flat=True))


def _busiest(times: list[tuple[int, int]], begins_ms: int) -> tuple[int, int]:
    """Return the interval that comes closest to its limit, or passes it furthest: its starts, and how many may be.

    Of those that end from `begins_ms` on. Where the budget changed, the larger one counts.
    """
    recent: deque[tuple[int, int]] = deque()
    worst = (0, 0)
    for time, slots in times:
        recent.append((time, slots))
        while recent[0][0] <= time - receipt_chain.WITHIN_MS:
            recent.popleft()
        allowed = pacing.most_starts_in_60_seconds(max(recent[0][1], slots))
        if time >= begins_ms and (worst == (0, 0) or len(recent) - allowed > worst[0] - worst[1]):
            worst = len(recent), allowed
    return worst
