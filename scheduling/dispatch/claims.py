"""What changes in the database while a minute runs: its buckets are sealed, its IDs claimed, outcomes kept.

Each function is one short transaction. Locks: queues (only where a fill changes), buckets, batches, tasks,
task_buckets, each by key. Whoever claims or keeps an outcome holds the bucket's row.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

from django.db.models import Q, QuerySet

from scheduling import models, store
from scheduling.core import clock, keys, limits, pacing
from scheduling.dispatch import bucket_slots
from scheduling.dispatch.messages import Claim, ClaimRequest, Result, TickResult
from scheduling.models import Status
from scheduling.placement import ledger, reservations
from scheduling.placement.removals import have_left
from scheduling.store import recording


def active_buckets(number: int, window_ids: Iterable[int]) -> QuerySet:
    """The buckets of a minute (in minutes since 1970) in which something waits or is under way."""
    index = number % clock.BUCKETS
    return models.Bucket.objects.filter(
        pk__in=[keys.bucket_id(window, index) for window in window_ids]
    ).filter(Q(waiting_count__gt=0) | Q(in_flight_count__gt=0))


def commit_tick(
    *,
    owner: int,
    elapsed: Callable[[], float],
    requests: Mapping[int, ClaimRequest],
    results: Sequence[Result] = (),
    open_batches: Iterable[int] = (),
    finished_batches: Iterable[int] = (),
    now: Callable[[], datetime],
) -> TickResult:
    """Keep outcomes, renew leases and claim what is due next: one short transaction for all queues.

    elapsed: seconds since the minute's start, read once the locks are taken. requests: by bucket. open_batches:
    those that this worker owns; finished_batches: those of them whose IDs all have their result, which are
    deleted. now: the database's clock.
    """
    returned = [item for item in results if item.status == Status.WAITING]
    given = (owner, elapsed, requests, results, sorted(open_batches), list(finished_batches), now)
    try:
        return _turn(*given, queue_ids=_that_give_back(returned))
    except _EndedMeanwhile:
        return _turn(*given, queue_ids={keys.queue_of_bucket(item.claim.bucket_id) for item in returned})


class _EndedMeanwhile(Exception):
    """What comes back belongs to a task that ended since that was looked up: its queue's fill changes."""


def _turn(
    owner: int,
    offset: Callable[[], float],
    wants: Mapping[int, ClaimRequest],
    kept: Sequence[Result],
    batch_ids: Sequence[int],
    settled: Sequence[int],
    now: Callable[[], datetime],
    *,
    queue_ids: Collection[int],
) -> TickResult:
    """queue_ids: of those whose fill may change. Raises _EndedMeanwhile where another one's does."""
    result = TickResult()
    with store.write():
        # No others: whoever holds one queue's row and waits for the next keeps all of them waiting.
        for queue_id in sorted(queue_ids):
            reservations.lock_queue(queue_id)
        buckets = _lock_buckets({*wants, *(item.claim.bucket_id for item in kept)})
        at, elapsed = now(), offset()
        may_start_until = round(elapsed * 1000) + limits.UNCOMMITTED_MS
        counters = ledger.Counters()
        result.may_start_until = may_start_until / 1000
        if settled:
            models.Batch.objects.filter(pk__in=sorted(settled), owner=owner).delete()
        # Also of what was lost some turns ago: its answers may come only now, and it is another's.
        held_ids = sorted({*batch_ids, *(item.claim.batch_id for item in kept)})
        if held_ids:
            result.lost_batches = set(held_ids) - _renew(held_ids, owner, at, may_start_until)
        mine = [item for item in kept if item.claim.batch_id not in result.lost_batches]
        slots = _slots_for(wants, buckets, at, elapsed)
        to_record = {bucket_id: taken for bucket_id, taken in slots.items() if wants[bucket_id].immediate}
        found = _waiting_rows(buckets, {b: taken for b, taken in slots.items() if b not in to_record})
        held = _waiting_tasks(buckets, to_record)
        for item in mine:
            # Only now: what comes back isn't written yet, and would have been passed by.
            if item.status == Status.WAITING:
                bucket_slots.come_back(buckets[item.claim.bucket_id], item.claim.key)
        # All of them at once, in order: another seat may be at the same tasks in another minute.
        task_ids = {item.claim.task_id for item in mine}
        task_ids.update(*(map(itemgetter(2), rows) for rows in found.values()))
        task_ids.update(some.task_id for there in held.values() for some in there)
        tasks = ledger.lock_tasks(task_ids)
        cancelled = _keep(mine, tasks, counters)
        if {keys.queue_of_bucket(bucket_id) for bucket_id in cancelled} - set(queue_ids):
            raise _EndedMeanwhile
        # What is claimed starts until then: by its list's end nothing may.
        last = {
            b: at + timedelta(seconds=max(0.0, min(want.until - elapsed, 2))) for b, want in wants.items()
        }
        for b, there in held.items():
            _record(buckets[b], there, to_record[b], tasks, result, counters, last[b], elapsed)
        shares = [
            _Share(buckets[b], _alive(b, rows, tasks, counters, last[b]), slots[b])
            for b, rows in found.items()
        ]
        _take([share for share in shares if share.rows], result, counters, owner, at, may_start_until)
        counters.write()
        moved = {item.claim.bucket_id for item in mine if item.status == Status.WAITING} | set(slots)
        store.set_on_buckets({bucket_id: bucket_slots.cursors_of(buckets[bucket_id]) for bucket_id in moved})
        for bucket_id, count in cancelled.items():
            ledger.give_back(bucket_id, count, at=at)
        ledger.finish((task_id for task_id, task in tasks.items() if _may_be_done(task, counters)), at=at)
    return result


def _may_be_done(task: models.Task, counters: ledger.Counters) -> bool:
    """Whether nothing of it is left, by what its locked row said and what has changed since."""
    deltas = counters.tasks.get(task.pk, {})
    left = task.waiting_count + task.in_flight_count
    return left + deltas.get("waiting_count", 0) + deltas.get("in_flight_count", 0) == 0


# --- Outcomes ---


def _that_give_back(returned: Sequence[Result]) -> set[int]:
    """The queues of IDs that come back unsent and will not wait again: their places become free.

    Looked up without a lock, since hardly ever there are any.
    """
    task_ids = {item.claim.task_id for item in returned}
    if not task_ids:
        return set()
    cancelled = models.Task.objects.filter(pk__in=task_ids, cancelled_at__isnull=False)
    ended, left = set(cancelled.values_list("pk", flat=True)), have_left(task_ids)
    gone = (
        item.claim
        for item in returned
        if item.claim.task_id in ended or (item.claim.task_id, item.claim.user_id) in left
    )
    return {keys.queue_of_bucket(claimed.bucket_id) for claimed in gone}


def _lock_buckets(bucket_ids: Iterable[int]) -> dict[int, models.Bucket]:
    rows = models.Bucket.objects.select_for_update().filter(pk__in=sorted(bucket_ids)).order_by("pk")
    return {row.pk: row for row in rows}


def _renew(batch_ids: Sequence[int], owner: int, at: datetime, may_start_until: int) -> set[int]:
    mine = models.Batch.objects.filter(pk__in=batch_ids, owner=owner)
    living = set(mine.select_for_update().order_by("pk").values_list("pk", flat=True))
    mine.update(lease_until=at + limits.LEASE, may_start_until_ms=may_start_until)
    return living


def _keep(
    kept: Sequence[Result], tasks: Mapping[int, models.Task], counters: ledger.Counters
) -> dict[int, int]:
    """Write outcomes; return how many places of which bucket cancelled tasks give back."""
    if not kept:
        return {}
    given_back: dict[int, int] = defaultdict(int)
    rows, attempts = [], []
    # What an edit has left out meanwhile isn't sent again: see scheduling.placement.removals.
    left = have_left(item.claim.task_id for item in kept if item.status == Status.WAITING)
    for item in kept:
        claimed, status, sent = item.claim, item.status, item.started_after_ms is not None
        gone = tasks[claimed.task_id].cancelled_at is not None or (claimed.task_id, claimed.user_id) in left
        if status == Status.WAITING and gone:
            # What was sent counts as sent, whatever it would have been tried again for.
            status = Status.FAILED if sent else Status.CANCELLED
            given_back[claimed.bucket_id] += not sent
        rows.append((claimed.key, status, claimed.attempts + sent, item.started_after_ms))
        counters.change(claimed.task_id, claimed.bucket_id, Status.IN_FLIGHT, status)
        if sent:
            counters.started(claimed.bucket_id)
        if item.attempt is not None:
            attempts.append(item.attempt)
    ledger.must_be(len(rows), store.set_outcomes(rows, was=Status.IN_FLIGHT))
    models.Attempt.objects.bulk_create(attempts)
    _out_of_batches(item.claim for item in kept if item.status == Status.WAITING)
    given_back = {bucket_id: count for bucket_id, count in given_back.items() if count}
    for bucket_id, count in given_back.items():
        # give_back takes the places from what waits, and keeps the log.
        counters.buckets[bucket_id]["waiting_count"] += count
    return given_back


def _out_of_batches(returned: Iterable[Claim]) -> None:
    """Take IDs out of their batches: somebody else may claim them, and the batch's end is not theirs."""
    by_batch: dict[int, set[int]] = defaultdict(set)
    for claimed in returned:
        by_batch[claimed.batch_id].add(claimed.key)
    for batch in models.Batch.objects.filter(pk__in=by_batch):
        held = keys_and_slots(batch)
        pairs = [(key, slot) for key, slot in held if key not in by_batch[batch.pk]]
        # Whoever comes back a second time may be somebody else's by now.
        ledger.must_be(len(by_batch[batch.pk]), len(held) - len(pairs))
        batch.ids = array("q", [key for key, _ in pairs]).tobytes()
        batch.slots = array("I", [slot for _, slot in pairs]).tobytes()
        batch.ids_count = len(pairs)
        batch.save(update_fields=["ids", "slots", "ids_count"])


def keys_and_slots(batch: models.Batch) -> list[tuple[int, int]]:
    """The batch's (key, slot)."""
    return list(zip(array("q", bytes(batch.ids)), array("I", bytes(batch.slots)), strict=True))


# --- Claims ---


@dataclass(frozen=True)
class _Share:
    """The rows and slots of one bucket that a turn takes."""

    bucket: models.Bucket
    rows: list[tuple[int, int, int, int]]
    slots: pacing.Slots


def _slots_for(
    wants: Mapping[int, ClaimRequest], buckets: Mapping[int, models.Bucket], at: datetime, elapsed: float
) -> dict[int, pacing.Slots]:
    """The slots that are taken of each bucket whose minute may go on; their cursors move."""
    slots = {}
    for bucket_id, want in sorted(wants.items()):
        bucket = buckets.get(bucket_id)
        if bucket is not None and bucket_slots.seal(bucket, want.queue, at):
            slots[bucket_id] = bucket_slots.next_slots(
                bucket, elapsed=elapsed, until=want.until, at_most=want.at_most
            )
    return slots


def _waiting_rows(
    buckets: Mapping[int, models.Bucket], slots: Mapping[int, pacing.Slots]
) -> dict[int, list[tuple[int, int, int, int]]]:
    """The rows that wait for these slots, and the buckets' `claimed_to_id` moved past them."""
    ranges = [(*left, len(slots[bucket_id])) for bucket_id, left in _left_of(buckets, slots).items()]
    found: dict[int, list[tuple[int, int, int, int]]] = {keys.bucket_of_assignment(r[1]): [] for r in ranges}
    if len(ranges) == 1:
        found[keys.bucket_of_assignment(ranges[0][1])] = store.waiting_rows(ranges)
    else:
        for row in store.waiting_rows(ranges):
            found[keys.bucket_of_assignment(row[0])].append(row)
    for bucket_id, rows in found.items():
        _move_past(buckets[bucket_id], rows[-1][0] if rows else 0, short=len(rows) < len(slots[bucket_id]))
    return {bucket_id: rows for bucket_id, rows in found.items() if rows}


def _waiting_tasks(
    buckets: Mapping[int, models.Bucket], slots: Mapping[int, pacing.Slots]
) -> dict[int, list[recording.Waiting]]:
    """The same rows counted by task, for those that need not be looked at one by one."""
    found = {}
    for bucket_id, left in _left_of(buckets, slots).items():
        there = recording.waiting_tasks(*left, at_most=len(slots[bucket_id]))
        short = sum(some.count for some in there) < len(slots[bucket_id])
        _move_past(buckets[bucket_id], max((some.last for some in there), default=0), short=short)
        if there:
            found[bucket_id] = there
    return found


def _left_of(
    buckets: Mapping[int, models.Bucket], slots: Mapping[int, pacing.Slots]
) -> dict[int, tuple[int, int]]:
    """The keys of each bucket that haven't been claimed, where there are slots for them."""
    left = {}
    for bucket_id, wanted in slots.items():
        first, last = keys.range_of_bucket(bucket_id)
        claimed_to = buckets[bucket_id].claimed_to_id
        first = first if claimed_to is None else claimed_to + 1
        if wanted and first <= last:
            left[bucket_id] = first, last
    return left


def _move_past(bucket: models.Bucket, last: int, *, short: bool) -> None:
    # Nothing is written into a sealed bucket, so a short answer says that there is no more.
    bucket.claimed_to_id = keys.range_of_bucket(bucket.pk)[1] if short else last
    if short:
        bucket.leftover_count = 0


def _alive(
    bucket_id: int,
    rows: Iterable[tuple[int, int, int, int]],
    tasks: Mapping[int, models.Task],
    counters: ledger.Counters,
    at: datetime,
) -> list[tuple[int, int, int, int]]:
    """Those of the rows that may go out: cancelled ones are passed by, expired ones end here."""
    rows = list(rows)
    if not any(tasks[task_id].ended_by(at) for task_id in set(map(itemgetter(2), rows))):
        return rows
    alive = [row for row in rows if not tasks[row[2]].ended_by(at)]
    expired = [row for row in rows if tasks[row[2]].ended_by(at) and tasks[row[2]].cancelled_at is None]
    if expired:
        ended = [row[0] for row in expired]
        ledger.must_be(len(ended), store.set_status(ended, Status.EXPIRED, was=Status.WAITING))
        for row in expired:
            counters.change(row[2], bucket_id, Status.WAITING, Status.EXPIRED)
    return alive


def _take(
    shares: Sequence[_Share],
    result: TickResult,
    counters: ledger.Counters,
    owner: int,
    at: datetime,
    may_start_until: int,
) -> None:
    """Rows of these shares are in flight, as batches of ours."""
    keys_taken = [row[0] for share in shares for row in share.rows]
    ledger.must_be(len(keys_taken), store.set_status(keys_taken, Status.IN_FLIGHT, was=Status.WAITING))
    slots = [share.slots.ascending() for share in shares]
    batches = models.Batch.objects.bulk_create(
        models.Batch(
            bucket_id=share.bucket.pk,
            ids=array("q", [row[0] for row in share.rows]).tobytes(),
            slots=array("I", taken[: len(share.rows)]).tobytes(),
            ids_count=len(share.rows),
            owner=owner,
            lease_until=at + limits.LEASE,
            may_start_until_ms=may_start_until,
        )
        for share, taken in zip(shares, slots, strict=True)
    )
    for share, taken, batch in zip(shares, slots, batches, strict=True):
        plan = share.slots.plan
        tolerance = plan.tolerance_seconds
        for (key, user_id, task_id, attempts), slot in zip(share.rows, taken, strict=False):
            counters.change(task_id, share.bucket.pk, Status.WAITING, Status.IN_FLIGHT)
            offset = plan.offset_of(slot)
            result.claims.append(
                Claim(batch.pk, key, user_id, task_id, attempts, share.bucket.pk, slot, offset, tolerance)
            )


def _record(
    bucket: models.Bucket,
    there: Sequence[recording.Waiting],
    slots: pacing.Slots,
    tasks: Mapping[int, models.Task],
    result: TickResult,
    counters: ledger.Counters,
    at: datetime,
    elapsed: float,
) -> None:
    """Let rows succeed as they are claimed, by one statement: their request is nothing but that."""
    first, last = min(some.first for some in there), max(some.last for some in there)
    alive = {some.task_id: some.count for some in there if not tasks[some.task_id].ended_by(at)}
    for some in there:
        # What was cancelled since it was counted is left to its cancel.
        if some.task_id not in alive and tasks[some.task_id].cancelled_at is None:
            ledger.must_be(some.count, recording.expire(first, last, task_id=some.task_id))
            counters.change(some.task_id, bucket.pk, Status.WAITING, Status.EXPIRED, some.count)
    count, now_ms = sum(alive.values()), max(0, round(elapsed * 1000))
    ledger.must_be(count, recording.succeed(first, last, of_tasks=alive, slots=slots, now_ms=now_ms))
    result.lateness[bucket.pk].update(slots.lateness_ms(count, now_ms))
    for task_id, some in alive.items():
        counters.change(task_id, bucket.pk, Status.WAITING, Status.SUCCEEDED, some)
    counters.started(bucket.pk, count)
    result.recorded_count += count
