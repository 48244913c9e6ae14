"""Checks of work in progress: no ID waits in a past minute, and every claim has an owner."""

from array import array
from collections.abc import Iterator
from datetime import datetime

from scheduling import models, store
from scheduling.core import keys, limits
from scheduling.dispatch import overdue, recovery
from scheduling.models import Status
from scheduling.store import blocks

from .base import Cursor, Difference, Piece


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check all work in progress in one piece."""
    claims = models.Batch.objects.count()
    differences = [*_left_behind(at), *_old_claims(at), *_in_flight_is_claimed()]
    return Piece(differences, checked={"claim": claims})


def _left_behind(at: datetime) -> Iterator[Difference]:
    """Check that no ID waits in a minute that ended two leases ago, unless its queue is paused or its target
    fails.
    """
    for bucket_id in overdue.overdue_buckets(at - 2 * limits.LEASE):
        if overdue.movable_count(keys.queue_of_bucket(bucket_id), at) < overdue.SLICE_IDS:
            continue
        waiting = len(store.waiting_rows([(*keys.range_of_bucket(bucket_id), 1_000)]))
        if waiting:
            yield Difference("nothing is left behind", f"bucket {bucket_id}", 0, waiting)


def _old_claims(at: datetime) -> Iterator[Difference]:
    """Check that every claim has a living owner, or had one until a lease ago, and that none is leased for
    longer.
    """
    old = models.Batch.objects.filter(lease_until__lt=at - limits.LEASE)
    for batch in old.order_by("pk"):
        age = round((at - batch.lease_until).total_seconds() + limits.LEASE.total_seconds())
        of = f"batch {batch.pk}, seconds"
        yield Difference("no claim is older than two leases", of, 30, age, by_clock=True)
    # Leases and `at` are both of the database's clock. One more lease is allowed, since `at` is when the check began.
    ahead = models.Batch.objects.filter(lease_until__gt=at + 2 * limits.LEASE)
    for batch in ahead.order_by("pk"):
        seconds_left = round((batch.lease_until - at).total_seconds())
        of = f"batch {batch.pk}, seconds"
        yield Difference("no claim is leased for longer than a lease", of, 15, seconds_left, by_clock=True)


def _in_flight_is_claimed() -> Iterator[Difference]:
    claimed: set[int] = set()
    for _, ids in blocks.values_in_blocks(models.Batch.objects.all(), "ids", size=500):
        claimed.update(array("q", bytes(ids)))
    # Rows that the counters don't know of are found where counters and rows are compared: see `minutes`.
    for bucket_id in recovery.buckets_in_flight():
        first, last = keys.range_of_bucket(bucket_id)
        rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, status=Status.IN_FLIGHT)
        for key in rows.order_by("pk").values_list("pk", flat=True):
            if key not in claimed:
                yield Difference("what is in flight is claimed", f"row {key}", 1, 0)
