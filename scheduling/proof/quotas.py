"""Checks of quotas: no hour, day or month of a queue has had more starts than its quota allows.

Checked are the periods that began after the quotas of a queue were last changed.
"""

from collections.abc import Iterator
from datetime import datetime

from scheduling import models
from scheduling.core import capacity, clock, keys
from scheduling.placement import quotas, shapes

from .base import Cursor, Difference, Piece, retained_since


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the periods of the next queue, in the order of their keys."""
    rows = models.Queue.objects.filter(pk__gt=cursor[0]).exclude(quotas=[]).order_by("pk")[:2]
    queues = list(rows)
    if not queues:
        return Piece(checked={"period": 0})
    differences, count = _used_up(queues[0], at)
    next_cursor = (queues[0].pk, 0) if len(queues) > 1 else None
    return Piece(differences, next_cursor, checked={"period": count})


def _used_up(queue: models.Queue, at: datetime) -> tuple[list[Difference], int]:
    """Return the differences of a queue's periods, and how many periods were checked."""
    # The first windows that are kept are deleted bit by bit.
    first = keys.window_id(queue.pk, clock.quarter_start(retained_since(at)) + clock.QUARTER)
    started = quotas.booked(queue, first, quotas.STARTED)
    changed_at = max(_changes(queue), default=clock.EPOCH)
    parts = shapes.of(queue).quotas
    differences = []
    for key, count in sorted(started.items(), key=str):
        assert isinstance(key, tuple)
        number, begins_at = key
        if number >= len(queue.quotas):
            # Of the target's budget.
            continue
        quota: capacity.Quota = parts[number]
        # In a period in which the quota was set, what had started before stays started.
        if count > quota.limit and begins_at >= changed_at:
            of = f"{queue.name}, {quota.limit} per {quota.per} from {clock.iso(begins_at)}"
            differences.append(Difference("no period is past its quota", of, quota.limit, count))
    return differences, len(started)


def _changes(queue: models.Queue) -> Iterator[datetime]:
    """Yield when the quotas of a queue were changed, as the log says."""
    log = models.Activity.objects.filter(object_kind="queue", object_id=queue.pk, verb="changed")
    for at, after in log.order_by("pk").values_list("at", "after"):
        if "quotas" in (after or {}):
            yield at
