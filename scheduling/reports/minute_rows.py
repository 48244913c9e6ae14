"""The IDs of a minute one by one: when each was planned to start, when it started, and how late it was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from django.db.models import Count, Q, QuerySet

from scheduling import models
from scheduling.core import keys, pacing
from scheduling.dispatch import bucket_slots
from scheduling.models import Group, Status
from scheduling.placement import late_ids
from scheduling.reports import id_history
from scheduling.store.blocks import in_blocks

BLOCK_ROWS = 500


class Row(NamedTuple):
    """One ID in a minute. planned_at: its slot, if it is known. started_at: None before its request.

    late_seconds: counted from the end of the minute in which it was planned, as everywhere.
    """

    key: int
    user_id: int
    task: models.Task
    status: Status
    attempts: int
    planned_at: datetime | None
    started_at: datetime | None
    late_seconds: float


@dataclass
class _Plan:
    """A bucket's slots, given to its rows in the order of the keys. rank: how many rows precede the next one.

    is_whole: no row that had a slot has left the bucket. If one has, only a row's start tells its slot.
    """

    slots: pacing.MinutePlan
    with_cancelled: bool
    is_whole: bool = True
    rank: int = 0

    def next(self, status: Status, started_ms: int | None) -> float | None:
        """Return the offset of the next row's slot, in seconds."""
        if not self.is_whole:
            return None if started_ms is None else self._last_before(started_ms)
        if status == Status.CANCELLED and not self.with_cancelled:
            return None
        j, self.rank = self.rank, self.rank + 1
        return self.slots.offset_of(self.slots.slot_of(j)) if j < self.slots.n else None

    def _last_before(self, started_ms: int) -> float | None:
        """Return the last slot before a start: it is at most one slot, or 50 ms, after its own."""
        begun = self.slots.slots_between(0, (started_ms + 1) / 1000).stop
        return self.slots.offset_of(self.slots.slot_of(begun - 1)) if begun else None


def rows(
    bucket_ids: Sequence[int], *, at: datetime, after: int | None = None, at_most: int | None = None
) -> Iterator[Row]:
    """Yield the rows of buckets by key, after a key."""
    assignments = _within(bucket_ids).select_related("task").defer("task__payload").order_by("pk")
    if after is not None:
        assignments = assignments.filter(pk__gt=after)
    read = iter(assignments[:at_most] if at_most is not None else in_blocks(assignments, BLOCK_ROWS))
    plans: dict[int, _Plan | None] = {}
    while block := list(islice(read, BLOCK_ROWS)):
        plans |= _plans({row.bucket_id for row in block} - plans.keys(), first_key=block[0].pk)
        tasks, users = {row.task_id for row in block}, {row.user_id for row in block}
        late_since = late_ids.late_since(tasks, users)
        for row in block:
            yield _row(row, plans[row.bucket_id], late_since.get((row.task_id, row.user_id)), at)


def _row(row: models.Assignment, plan: _Plan | None, late_since: int | None, at: datetime) -> Row:
    status = row.effective_status
    offset = plan.next(status, row.started_after_ms) if plan else None
    minute = row.minute_at
    started = None
    if row.started_after_ms is not None:
        started = minute + timedelta(milliseconds=row.started_after_ms)
    late = id_history.lateness(row, row.bucket_id, status, late_since, at, {})
    planned = None if offset is None else minute + timedelta(seconds=offset)
    return Row(row.pk, row.user_id, row.task, status, row.attempts, planned, started, late)


def _within(bucket_ids: Sequence[int]) -> QuerySet[models.Assignment]:
    places = Q(pk__in=[])
    for bucket in bucket_ids:
        first, last = keys.range_of_bucket(bucket)
        places |= Q(pk__gte=first, pk__lte=last)
    return models.Assignment.objects.filter(places)


def _plans(bucket_ids: set[int], *, first_key: int) -> dict[int, _Plan | None]:
    """Return the plans of buckets from their first rows on, or from `first_key` on for its bucket."""
    if not bucket_ids:
        return {}
    buckets = models.Bucket.objects.in_bulk(bucket_ids)
    within = _within(sorted(bucket_ids)).order_by()
    counted = within.annotate(bucket=models.BUCKET_OF_ROW).values_list("bucket")
    written = dict(counted.annotate(Count("pk")))
    plans = {pk: _plan(buckets.get(pk), written.get(pk, 0)) for pk in bucket_ids}
    plan = plans.get(keys.bucket_of_assignment(first_key))
    if plan is not None:
        first, _ = keys.range_of_bucket(keys.bucket_of_assignment(first_key))
        before = models.Assignment.objects.filter(pk__gte=first, pk__lt=first_key)
        if not plan.with_cancelled and buckets[keys.bucket_of_assignment(first)].cancelled_count:
            before = before.with_status(*Status.of(Group.PLACED))
        plan.rank = before.count()
    return plans


def _plan(bucket: models.Bucket | None, written: int) -> _Plan | None:
    """Return a bucket's plan; None if it isn't known, since some rows aren't written yet."""
    if bucket is None or written != bucket.filled_count + bucket.cancelled_count:
        return None
    if bucket.sealed_at is None:
        return _Plan(pacing.MinutePlan(max(1, bucket.capacity), bucket.filled_count), with_cancelled=False)
    if not bucket.slot_count:
        return None
    return _Plan(
        bucket_slots.plan_of(bucket),
        with_cancelled=bucket.sealed_count != bucket.filled_count,
        is_whole=bucket.sealed_count in (bucket.filled_count, written),
    )
