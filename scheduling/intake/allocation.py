"""Write the rows of accepted lists: slices sorted by ID, each in a transaction of its own.

The place of an ID is a function of its position and the reservation, so any worker may write a slice at any time. The
segment's `written_count` moves by compare-and-set in the transaction that writes the rows, so each slice is written
once.
"""

import secrets
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet

from scheduling import models, store
from scheduling.core import clock, keys, limits
from scheduling.core.batches import batches
from scheduling.core.time_limit import TimeLimit
from scheduling.intake import late_slices
from scheduling.intake.late_slices import Placed
from scheduling.jobqueue import cluster
from scheduling.lists import record_lists, stored_lists
from scheduling.models import Status
from scheduling.placement import ledger, reservations

# IDs that one transaction writes: some 30 ms, so that nobody waits long behind it.
SLICE_IDS = 10_000
# A segment that is one slice goes before the next slice of a long one: small lists don't wait.
SMALL_IDS = SLICE_IDS
# A job ends after this long, so that other jobs of the cluster get their turn.
JOB_SECONDS = 5.0
# How long a database may be locked or gone before a job gives up (it must stay below the cluster's own
# time-out); the sweep then goes on.
PATIENCE_SECONDS = 45.0
# A slice with a bucket that seals sooner than this looks at the seal under the lock of its row.
NEAR = timedelta(seconds=60)

# A segment that can't be written (because of a malformed row, say) is marked with a number that no worker has, and
# is tried again after this long.
SET_ASIDE, SET_ASIDE_FOR = -1, timedelta(minutes=10)

log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """Another worker has taken the segment over: this transaction is rolled back."""


@dataclass(frozen=True)
class Group:
    """IDs of a segment in one bucket, ascending. offset: how many of the segment's IDs come before them there."""

    bucket_id: int
    ids: Sequence[int]
    offset: int = 0

    def between(self, first: int, last: int) -> "Group":
        """The IDs from `first` to `last`."""
        start = bisect_left(self.ids, first)
        return Group(self.bucket_id, self.ids[start : bisect_right(self.ids, last)], start)


def write_segments(now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> None:
    """Write segments until none remains or the time is up; then queue a job that continues.

    Waits while the database is locked or unreachable. now: the database's clock.
    """
    owner = secrets.randbits(63)
    limit, patience = TimeLimit(seconds), TimeLimit(PATIENCE_SECONDS)
    while True:
        try:
            while not limit.is_over and (segment := _claim(owner, now())):
                with _alone(segment, owner, now):
                    _write_segment(segment, owner, now, limit)
            if models.Segment.objects.unwritten().filter(_free(now())).exists():
                cluster.enqueue("scheduling.jobs.allocate")
            return
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block or patience.is_over:
                raise
            connection.close()
            time.sleep(0.5)
            limit.extend_to(1)


def may_write_at_once(id_list: models.IdList, plan: reservations.Plan, *, at: datetime) -> bool:
    """Whether the transaction that accepts a list may write its rows: it is short, and none of its minutes is near."""
    first_at = plan.first_at
    # Parts and data are moved to where they belong as the rows are written.
    is_plain = not id_list.about.get("ranges") and not record_lists.has_data(id_list)
    is_short = is_plain and 0 < plan.ids_count <= settings.WRITE_AT_ONCE_IDS
    return is_short and first_at is not None and clock.sealed_at(first_at) > at + NEAR


def write_at_once(
    segments: Sequence[models.Segment], log: Iterable[models.Reservation], *, at: datetime
) -> None:
    """Write the rows of segments that aren't stored yet, in the transaction that reserved their places.

    Each becomes what it is once a worker has written it. log: the reservations. The caller holds the queue's row, and
    no minute of theirs is near.
    """
    log = list(log)
    for segment in segments:
        assert segment.first_position is not None
        groups = _grouped(_by_log(log, segment.list_id, segment.first_position, segment.ids_count))
        first = store.take_ordinals({group.bucket_id: len(group.ids) for group in groups})
        segment.first_ordinals = {str(bucket): ordinal for bucket, ordinal in first.items()}
        segment.written_count = segment.ids_count
        placed = [_with_keys(group, segment.first_ordinals) for group in groups]
        rows = [(part.first_key, part.ids) for part in placed]
        store.insert_assignments(segment.task_id, rows, status=Status.WAITING)
        store.insert_users(sorted(user for group in groups for user in group.ids), at=at)


def wake(*, at: datetime) -> bool:
    """Queue a job if there are segments without a live owner and without a job. Returns whether it did."""
    orphans = models.Segment.objects.unwritten().filter(_orphaned(at))
    # Compare-and-set: of many processes that look at the same time, one queues the job.
    if not orphans.exists() or not orphans.update(lease_until=at + limits.SEGMENT_LEASE, owner=None):
        return False
    cluster.enqueue("scheduling.jobs.allocate")
    return True


def _free(at: datetime) -> Q:
    return Q(owner=None) | Q(lease_until__lt=at)


def _orphaned(at: datetime) -> Q:
    return Q(lease_until=None) | Q(lease_until__lt=at)


def _claim(owner: int, at: datetime, *, at_most: int | None = None) -> models.Segment | None:
    """Claim the next segment without a live owner: short ones first, then in the order of arrival.

    One of the owner's own is left from before its connection was lost.
    """
    claimable = _free(at) | Q(owner=owner)
    free = models.Segment.objects.unwritten().filter(claimable)
    if at_most is not None:
        free = free.filter(ids_count__lte=at_most)
    is_long = ExpressionWrapper(Q(ids_count__gt=SMALL_IDS), output_field=BooleanField())
    # Joined: whether its IDs have data.
    candidates = free.select_related("list").order_by(is_long, "id")
    for segment in candidates[:8]:
        if (
            models.Segment.objects.unwritten()
            .filter(claimable, pk=segment.pk)
            .update(owner=owner, lease_until=at + limits.SEGMENT_LEASE)
        ):
            segment.refresh_from_db(fields=["written_count"])
            return segment
    return None


@contextmanager
def _alone(segment: models.Segment, owner: int, now: Callable[[], datetime]) -> Iterator[None]:
    """Write a segment so that one that can't be written is left alone for a while, and the others go on."""
    try:
        yield
    except LeaseLost:
        return
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("segment_not_written", segment=segment.pk, task=segment.task_id)
        segment_row = models.Segment.objects.unwritten().filter(pk=segment.pk, owner=owner)
        segment_row.update(owner=SET_ASIDE, lease_until=now() + SET_ASIDE_FOR)


def _write_segment(
    segment: models.Segment, owner: int, now: Callable[[], datetime], limit: TimeLimit
) -> None:
    groups = prepare(segment)
    first_ordinals = take_ordinals(segment, groups)
    in_order = sorted(user for group in groups for user in group.ids)
    data = data_of(segment)
    for start in range(segment.written_count, segment.ids_count, SLICE_IDS):
        users = in_order[start : start + SLICE_IDS]
        part = [piece for group in groups if (piece := group.between(users[0], users[-1])).ids]
        _write_slice(segment, owner, start, users, part, first_ordinals, now, data)
        if start + SLICE_IDS < segment.ids_count:
            _write_small_ones(owner, now)
            # The worker that has prepared a segment writes it, within reason.
            if limit.is_over_by(2):
                models.Segment.objects.unwritten().filter(pk=segment.pk, owner=owner).update(
                    owner=None, lease_until=now() + limits.SEGMENT_LEASE
                )
                return


def _write_small_ones(owner: int, now: Callable[[], datetime]) -> None:
    while small := _claim(owner, now(), at_most=SMALL_IDS):
        with _alone(small, owner, now):
            groups = prepare(small)
            first_ordinals = take_ordinals(small, groups)
            users = sorted(user for group in groups for user in group.ids)
            start = small.written_count
            _write_slice(small, owner, start, users[start:], groups, first_ordinals, now, data_of(small))


def data_of(segment: models.Segment) -> dict[int, str] | None:
    """Return the data of the segment's IDs as JSON, by ID; None where the list has none."""
    if not record_lists.has_data(segment.list) or segment.first_position is None:
        return None
    return record_lists.unwritten(segment.list_id, segment.first_position, segment.ids_count)


def prepare(segment: models.Segment) -> list[Group]:
    """Return the segment's IDs by bucket: the same result in any process at any time."""
    if segment.first_position is not None:
        blocks = _by_position(segment.list_id, segment.first_position, segment.ids_count)
    else:
        blocks = _by_range(segment.list_id, segment.number)
    return _grouped(blocks)


def _grouped(blocks: "Iterable[Block]") -> list[Group]:
    by_bucket: dict[int, list[int]] = {}
    for buckets, users, indexes in blocks:
        add = [by_bucket.setdefault(bucket, []).append for bucket in buckets]
        for user, number in zip(users, indexes, strict=False):
            add[number](user)
    return [Group(bucket, sorted(users)) for bucket, users in sorted(by_bucket.items()) if users]


def buckets_of(list_id: int, first_position: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield (user ID, bucket ID) as reserved for the IDs at `count` positions, in the order of the list."""
    for buckets, users, indexes in _by_position(list_id, first_position, count):
        yield from ((user, buckets[number]) for user, number in zip(users, indexes, strict=False))


def reserved_places(user_id: int, tasks: Iterable[models.Task]) -> dict[int, int]:
    """Return the buckets reserved for an ID, by task, in tasks whose lists are still being written."""
    unwritten = models.Segment.objects.unwritten().filter(task__in=list(tasks))
    # An edit has a list of its own, with the IDs that it adds.
    positions = stored_lists.positions_of(user_id, unwritten.order_by().values("list_id"))
    if not positions:
        return {}
    covering = Q()
    for list_id, position in positions.items():
        covering |= Q(
            list_id=list_id, first_position__lte=position, first_position__gt=position - F("ids_count")
        )
    reservations = models.Reservation.objects.filter(covering, kind=models.ReservationKind.RESERVE)
    bucket_by_task: dict[int, int] = {}
    for reservation in reservations.order_by("pk"):
        list_id = reservation.list_id or 0
        offset = positions[list_id] - reservation.first_position
        assert reservation.task_id is not None
        bucket_by_task[reservation.task_id] = _buckets(reservation)[next(reservation.places(offset))]
    return bucket_by_task


# Some IDs, and for each of them which of `buckets` it goes to.
Block = tuple[Sequence[int], Iterable[int], Iterable[int]]


def _by_position(list_id: int, first_position: int, count: int) -> Iterator[Block]:
    return _by_log(_reservations(list_id, first_position, count), list_id, first_position, count)


def _by_log(
    log: Iterable[models.Reservation], list_id: int, first_position: int, count: int
) -> Iterator[Block]:
    for reservation in log:
        first = max(first_position, reservation.first_position)
        last = min(first_position + count, reservation.first_position + reservation.ids_count)
        if first < last:
            ids = stored_lists.ids_of(list_id, first, last - first)
            yield _buckets(reservation), ids, reservation.places(first - reservation.first_position)


def _by_range(list_id: int, segment_number: int) -> Iterator[Block]:
    log = list(_reservations(list_id, 0, 2**62))
    for ids, positions in stored_lists.parts_of(list_id, segment_number):
        for reservation in log:
            first = bisect_left(positions, reservation.first_position)
            last = bisect_left(positions, reservation.first_position + reservation.ids_count, first)
            if first < last:
                yield _buckets(reservation), ids[first:last], reservation.places_of(positions[first:last])


def _reservations(list_id: int, first_position: int, count: int) -> QuerySet[models.Reservation]:
    """What was reserved for these positions; it never changes."""
    return models.Reservation.objects.filter(
        list_id=list_id,
        kind=models.ReservationKind.RESERVE,
        first_position__lt=first_position + count,
        first_position__gt=first_position - F("ids_count"),
    ).order_by("first_position")


def _buckets(reservation: models.Reservation) -> list[int]:
    return list(keys.buckets_of_window(reservation.window_id))


def _write_slice(
    segment: models.Segment,
    owner: int,
    start: int,
    users: Sequence[int],
    groups: Sequence[Group],
    first_ordinals: Mapping[str, int],
    now: Callable[[], datetime],
    data: Mapping[int, str] | None = None,
) -> None:
    """Write the rows of `users`, whose groups are these, and the users. Raises LeaseLost.

    data: of the segment's IDs, by ID; None where they have none.
    """
    soonest = min(keys.minute_of_bucket(group.bucket_id) for group in groups)
    near = clock.sealed_at(soonest) <= now() + NEAR
    end = start + len(users)
    whole = end == segment.ids_count

    def change() -> None:
        queue = reservations.lock_queue(_queue_id(segment)) if near else None
        at = now()
        _advance(segment, owner, start, end, at)
        if near:
            _lock_near_buckets(groups, at)
        placed = [_with_keys(group, first_ordinals) for group in groups]
        tasks = models.Task.objects
        # Locked where its counters may move, or where this may be its last slice.
        task = (tasks.select_for_update() if near or whole else tasks).get(pk=segment.task_id)
        by_status = {task.meaning_of(Status.WAITING): placed}
        waits = task.is_stopped or task.waits_for_canary
        if queue is not None and not waits and not queue.paused:
            by_status = late_slices.settle(queue, task, placed, at)
        for status, rows in by_status.items():
            store.insert_assignments(task.pk, [(part.first_key, part.ids) for part in rows], status=status)
        store.insert_users(users, at=at)
        if data is not None:
            # An edit may have brought an ID back that has been written before.
            with_data = list(zip(users, map(data.__getitem__, users), strict=True))
            store.insert_data(task.pk, with_data, replace=task.version > 1)
        _give_attempts(task, users)
        if whole:
            _end_placing(task, at)

    def is_there(_: None) -> bool:
        return models.Segment.objects.filter(pk=segment.pk, written_count__gte=end).exists()

    store.write_and_recognise(change, is_there, bulk=True)
    if (
        whole
        and data is not None
        and not models.Segment.objects.unwritten().filter(list=segment.list_id).exists()
    ):
        record_lists.delete_chunks([segment.list_id])
    if whole and segment.first_position is None:
        models.SegmentPart.objects.filter(list=segment.list_id, segment_number=segment.number).delete()


def _end_placing(task: models.Task, at: datetime) -> None:
    """Mark the task as placed if this was the last slice of its list."""
    if models.Segment.objects.unwritten().filter(task=task).exists():
        return
    models.Task.objects.filter(pk=task.pk).update(placed_at=at)
    ledger.finish([task.pk], at=at)
    if task.cancelled_at:
        cluster.enqueue("scheduling.jobs.follow_cancel", task.pk)


def _with_keys(group: Group, first_ordinals: Mapping[str, int]) -> Placed:
    first = first_ordinals[str(group.bucket_id)] + group.offset
    return Placed(group.bucket_id, keys.assignment_id(group.bucket_id, first), group.ids)


def take_ordinals(segment: models.Segment, groups: Sequence[Group]) -> dict[str, int]:
    """Return the first ordinal of the segment in each bucket, taken once: its keys don't depend on who writes it."""
    with store.write():
        locked = models.Segment.objects.select_for_update().get(pk=segment.pk)
        if locked.first_ordinals is None:
            first = store.take_ordinals({group.bucket_id: len(group.ids) for group in groups})
            locked.first_ordinals = {str(bucket): ordinal for bucket, ordinal in first.items()}
            locked.save(update_fields=["first_ordinals"])
    first_ordinals: dict[str, int] = locked.first_ordinals
    return first_ordinals


def _queue_id(segment: models.Segment) -> int:
    return models.Task.objects.values_list("queue_id", flat=True).get(pk=segment.task_id)


def _advance(segment: models.Segment, owner: int, start: int, end: int, at: datetime) -> None:
    owned = models.Segment.objects.filter(pk=segment.pk, owner=owner, written_count=start)
    if not owned.update(written_count=end, lease_until=at + limits.SEGMENT_LEASE):
        raise LeaseLost


def _lock_near_buckets(groups: Sequence[Group], at: datetime) -> None:
    """Lock the buckets that are about to be sealed: their seal is checked under their lock."""
    near = [g.bucket_id for g in groups if clock.sealed_at(keys.minute_of_bucket(g.bucket_id)) <= at + NEAR]
    list(models.Bucket.objects.select_for_update().filter(pk__in=near).order_by("pk").values_list("pk"))


def _give_attempts(task: models.Task, users: Sequence[int]) -> None:
    """Restore the attempts of IDs that an edit has brought back. users: just written, ascending."""
    earlier = models.EarlierAttempts.objects.filter(task=task, user_id__gte=users[0], user_id__lte=users[-1])
    attempts_by_user = dict(earlier.values_list("user_id", "attempts"))
    # Segments by position have their IDs between each other's.
    by_attempts: dict[int, list[int]] = {}
    for user in attempts_by_user and set(attempts_by_user).intersection(users):
        by_attempts.setdefault(attempts_by_user[user], []).append(user)
    for attempts, user_ids in by_attempts.items():
        for batch in batches(user_ids):
            models.Assignment.objects.filter(task=task, user_id__in=batch).update(attempts=attempts)
            earlier.filter(user_id__in=batch).delete()
