"""A minute worker's tick in the database: buckets are sealed, results recorded, IDs claimed.

A tick is one short transaction. Locks: queues (only where a fill changes), buckets, batches, tasks, task_buckets,
each by key. Whoever claims an ID or records its result has locked the bucket's row.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from django.db.models import Q, QuerySet

from scheduling import models, store
from scheduling.core import clock, keys, limits, pacing
from scheduling.dispatch import bucket_slots
from scheduling.dispatch.bad_rows import MOST_ATTEMPTS
from scheduling.dispatch.messages import Claim, ClaimRequest, Result, TickResult
from scheduling.models import Status
from scheduling.placement import holds, ledger, reservations
from scheduling.placement.removals import removed_in_flight
from scheduling.store import later, recording


def active_buckets(number: int, window_ids: Iterable[int]) -> QuerySet[models.Bucket]:
    """Return the buckets of a minute (in minutes since 1970) in which something waits or is in flight."""
    index = number % clock.BUCKETS
    return models.Bucket.objects.filter(
        pk__in=[keys.bucket_id(window_id, index) for window_id in window_ids]
    ).filter(Q(waiting_count__gt=0) | Q(in_flight_count__gt=0))


def keys_and_slots(batch: models.Batch) -> list[tuple[int, int]]:
    """Return the key and the slot of each of the batch's IDs."""
    return list(zip(array("q", bytes(batch.ids)), array("I", bytes(batch.slots)), strict=True))


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
    """Record results, renew leases and claim what is due next: one short transaction for all queues.

    elapsed: seconds since the minute's start, read once the locks are taken. requests: by bucket. open_batches:
    those that this worker owns; finished_batches: those of them whose IDs all have their result, which are
    deleted. now: the database's clock.
    """
    unsent = [item.claim for item in results if item.status == Status.WAITING]
    work = _Work(owner, requests, results, sorted(open_batches), sorted(finished_batches))
    try:
        return _Tick(work, elapsed, now).commit(queues_of_ended(unsent))
    except _EndedMeanwhile:
        return _Tick(work, elapsed, now).commit({keys.queue_of_bucket(claim.bucket_id) for claim in unsent})


def recorded_already(owner: int, results: Sequence[Result]) -> list[Result]:
    """Return the results that are in the database: of rows that are no longer in flight in a batch of this worker.

    Results of batches that another worker took over aren't among them.
    """
    batch_ids = {item.claim.batch_id for item in results}
    batches = models.Batch.objects.filter(pk__in=batch_ids, owner=owner)
    open_keys = {batch.pk: {key for key, _ in keys_and_slots(batch)} for batch in batches}
    rows = models.Assignment.objects.filter(
        pk__in=[item.claim.key for item in results], status=Status.IN_FLIGHT
    )
    in_flight = set(rows.values_list("pk", flat=True))
    return [
        item
        for item in results
        if (of_batch := open_keys.get(item.claim.batch_id)) is not None
        and not (item.claim.key in of_batch and item.claim.key in in_flight)
    ]


def release_unknown_batches(owner: int, bucket_ids: Sequence[int], known: Collection[int]) -> int:
    """End the leases of batches that this worker took and never heard of; return how many.

    Nothing of them was sent: whoever recovers them names no repeats.
    """
    unknown = models.Batch.objects.filter(owner=owner, bucket_id__in=bucket_ids).exclude(pk__in=list(known))
    return unknown.update(lease_until=clock.EPOCH, may_start_until_ms=NOTHING_STARTED_MS)


def queues_of_ended(unsent: Sequence[Claim]) -> set[int]:
    """Return the queues of unsent IDs that won't wait again, so that their places become free.

    Looked up without a lock, since there hardly ever are any.
    """
    task_ids = {claim.task_id for claim in unsent}
    if not task_ids:
        return set()
    cancelled = models.Task.objects.filter(pk__in=task_ids, cancelled_at__isnull=False)
    ended, removed = set(cancelled.values_list("pk", flat=True)), removed_in_flight(task_ids)
    return {
        keys.queue_of_bucket(claim.bucket_id)
        for claim in unsent
        if claim.task_id in ended or (claim.task_id, claim.user_id) in removed
    }


# Of a batch: before any minute's first slot.
NOTHING_STARTED_MS = -120_000


class _EndedMeanwhile(Exception):
    """An unsent ID belongs to a task that ended since that was looked up: its queue's fill changes."""


class _Work(NamedTuple):
    """What a tick is to do: see commit_tick."""

    owner: int
    requests: Mapping[int, ClaimRequest]
    results: Sequence[Result]
    open_batches: Sequence[int]
    finished_batches: Sequence[int]


class _Row(NamedTuple):
    """A waiting assignment."""

    key: int
    user_id: int
    task_id: int
    attempts: int


@dataclass(frozen=True)
class _Share:
    """The rows of one bucket that a tick claims, and their slots."""

    bucket_id: int
    rows: Sequence[_Row]
    plan: pacing.MinutePlan
    slots: Sequence[int]


class _Tick:
    """The transaction of one tick. Its methods run in the order in which they are defined."""

    def __init__(self, work: _Work, elapsed: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.work, self._elapsed, self._now = work, elapsed, now
        self.result = TickResult()
        self.counters = ledger.Counters()
        # Places that cancelled tasks give back, by bucket.
        self.freed: dict[int, int] = defaultdict(int)

    def commit(self, queue_ids: Collection[int]) -> TickResult:
        """queue_ids: of those whose fill may change. Raises _EndedMeanwhile where another one's does."""
        with store.write():
            # No others: whoever locks one queue's row and waits for the next keeps all of them waiting.
            for queue_id in sorted(queue_ids):
                reservations.lock_queue(queue_id)
            self._lock_buckets()
            self._renew_leases()
            self._take_slots()
            self._lock_tasks()
            self._take_rows()
            self._record_results()
            if {keys.queue_of_bucket(bucket_id) for bucket_id in self.freed} - set(queue_ids):
                raise _EndedMeanwhile
            self._record_at_once()
            self._claim()
            self._write_counters()
        self._list_claims()
        return self.result

    def _lock_buckets(self) -> None:
        wanted = {*self.work.requests, *(item.claim.bucket_id for item in self.work.results)}
        rows = models.Bucket.objects.select_for_update().filter(pk__in=sorted(wanted)).order_by("pk")
        self.buckets = {row.pk: row for row in rows}
        # Only now: a time read before waiting for a lock would allow starts that lie in the past.
        self.at, self.elapsed = self._now(), self._elapsed()
        self.may_start_until_ms = round(self.elapsed * 1000) + limits.UNCOMMITTED_MS
        self.result.may_start_until = self.may_start_until_ms / 1000

    def _renew_leases(self) -> None:
        work = self.work
        if work.finished_batches:
            later.delete(models.Batch.objects.filter(pk__in=work.finished_batches, owner=work.owner))
        # Also of batches that were lost some ticks ago: their results may come only now.
        self._wanted_batches = {*work.open_batches, *(item.claim.batch_id for item in work.results)}
        self._living_batches: set[int] = set()
        if self._wanted_batches:
            store.renew_batches(
                sorted(self._wanted_batches),
                owner=work.owner,
                lease_until=self.at + limits.LEASE,
                may_start_until_ms=self.may_start_until_ms,
                then=self._living_batches.update,
            )

    def _take_slots(self) -> None:
        """Take the slots of each bucket whose minute may go on, and look for the rows that wait for them."""
        self.slots: dict[int, pacing.Slots] = {}
        for bucket_id, request in sorted(self.work.requests.items()):
            bucket = self.buckets.get(bucket_id)
            if bucket is not None and bucket_slots.seal(bucket, request.queue, self.at):
                self.slots[bucket_id] = bucket_slots.next_slots(
                    bucket, elapsed=self.elapsed, until=request.until, at_most=request.at_most
                )
        unclaimed = _unclaimed_keys(self.buckets, self.slots)
        self._ranges = {b: (*unclaimed[b], len(self.slots[b])) for b in unclaimed}
        self._found: list[_Row] = []
        # The same rows counted by task, for those that need not be looked at one by one.
        self.counted: dict[int, list[recording.Waiting]] = {}
        sent = [one for b, one in self._ranges.items() if not self.work.requests[b].immediate]
        store.read_waiting_rows(sent, lambda rows: self._found.extend(map(_Row._make, rows)))
        for bucket_id, (first, last, at_most) in self._ranges.items():
            if self.work.requests[bucket_id].immediate:
                take = partial(self.counted.__setitem__, bucket_id)
                recording.waiting_tasks(first, last, at_most=at_most, then=take)

    def _lock_tasks(self) -> None:
        """Lock all of them at once, in order: another worker may lock the same tasks in another minute."""
        task_ids = {item.claim.task_id for item in self.work.results}
        if self._ranges and later.is_possible():
            self.tasks = ledger.lock_tasks_and_waiting(task_ids, list(self._ranges.values()))
            return
        task_ids.update(row.task_id for row in self._found)
        task_ids.update(waiting.task_id for counted in self.counted.values() for waiting in counted)
        self.tasks = ledger.lock_tasks(task_ids)

    def _take_rows(self) -> None:
        """Look at what was found: the batches that this worker still owns, and the rows; move the cursors past them."""
        later.wait()
        lost = self.result.lost_batches = self._wanted_batches - self._living_batches
        self.results = [item for item in self.work.results if item.claim.batch_id not in lost]
        self.rows: dict[int, list[_Row]] = defaultdict(list)
        for row in self._found:
            self.rows[keys.bucket_of_assignment(row.key)].append(row)
        # One that was put on hold between the two statements, so that the second one passed it over.
        found = {row.task_id for row in self._found}
        found.update(waiting.task_id for counted in self.counted.values() for waiting in counted)
        if missing := found - self.tasks.keys():
            self.tasks |= ledger.lock_tasks(missing)
        for bucket_id, (_, _, at_most) in self._ranges.items():
            if self.work.requests[bucket_id].immediate:
                counted = self.counted[bucket_id]
                last, count = max((one.last for one in counted), default=0), sum(one.count for one in counted)
            else:
                rows = self.rows[bucket_id]
                last, count = rows[-1].key if rows else 0, len(rows)
            _move_past(self.buckets[bucket_id], last, short=count < at_most)
        self.rows = {bucket_id: rows for bucket_id, rows in self.rows.items() if rows}
        self.counted = {bucket_id: counted for bucket_id, counted in self.counted.items() if counted}
        for item in self.results:
            # Only now: the unsent rows aren't written yet, and would have been passed over.
            if item.status == Status.WAITING:
                bucket_slots.return_to_waiting(self.buckets[item.claim.bucket_id], item.claim.key)

    def _record_results(self) -> None:
        if not self.results:
            return
        unsent = [item.claim for item in self.results if item.status == Status.WAITING]
        # What an edit has removed meanwhile isn't sent again: see scheduling.placement.removals.
        removed = removed_in_flight(claim.task_id for claim in unsent)
        rows = []
        for item in self.results:
            claim, status, sent = item.claim, item.status, item.started_after_ms is not None
            if status == Status.WAITING and self._has_ended(claim, removed):
                # What was sent counts as sent, whatever it would have been sent again for.
                status = Status.FAILED if sent else Status.CANCELLED
                if not sent:
                    self.freed[claim.bucket_id] += 1
            rows.append((claim.key, status, claim.attempts + sent, item.started_after_ms))
            self.counters.change(claim.task_id, claim.bucket_id, Status.IN_FLIGHT, status)
            if sent:
                self.counters.started(claim.bucket_id)
        store.set_outcomes(rows, was=Status.IN_FLIGHT)
        later.insert(item.attempt for item in self.results if item.attempt is not None)
        _remove_from_batches(unsent)
        for bucket_id, count in self.freed.items():
            # log_release takes the places from what waits, and keeps the log.
            self.counters.buckets[bucket_id]["waiting_count"] += count

    def _has_ended(self, claim: Claim, removed: Collection[tuple[int, int]]) -> bool:
        cancelled = self.tasks[claim.task_id].cancelled_at is not None
        return cancelled or (claim.task_id, claim.user_id) in removed

    def _last_start(self, bucket_id: int) -> datetime:
        """Return when the last of a bucket's claimed IDs may start: a list that expires before isn't sent."""
        ahead = self.work.requests[bucket_id].until - self.elapsed
        return self.at + timedelta(seconds=max(0.0, min(ahead, 2)))

    def _record_at_once(self) -> None:
        """Let rows succeed as they are claimed, by one statement a bucket: their request is nothing else."""
        for bucket_id, counted in self.counted.items():
            first, last = min(one.first for one in counted), max(one.last for one in counted)
            ends = self._last_start(bucket_id)
            # What was cancelled since it was counted is handled by its cancel; what was put on hold becomes late.
            active_tasks = {one.task_id for one in counted if not self.tasks[one.task_id].is_stopped}
            alive = {
                one.task_id: one.count
                for one in counted
                if one.task_id in active_tasks and not self.tasks[one.task_id].ended_by(ends)
            }
            for one in counted:
                if one.task_id in active_tasks - set(alive):
                    recording.expire(first, last, task_id=one.task_id, count=one.count)
                    self.counters.change(one.task_id, bucket_id, Status.WAITING, Status.EXPIRED, one.count)
            slots, now_ms = self.slots[bucket_id], max(0, round(self.elapsed * 1000))
            recording.succeed(first, last, of_tasks=alive, slots=slots, now_ms=now_ms)
            count = sum(alive.values())
            self.result.lateness[bucket_id].update(slots.lateness_ms(count, now_ms))
            for task_id, of_task in alive.items():
                self.counters.change(task_id, bucket_id, Status.WAITING, Status.SUCCEEDED, of_task)
            self.counters.started(bucket_id, count)
            self.result.recorded_count += count

    def _claim(self) -> None:
        """Take the rows into flight, as batches that this worker owns."""
        self._shares = [share for bucket_id in self.rows if (share := self._share(bucket_id)).rows]
        claimed = [row.key for share in self._shares for row in share.rows]
        store.set_status_of_all(claimed, Status.IN_FLIGHT, was=Status.WAITING)
        self._batches = [self._batch(share) for share in self._shares]
        later.insert(self._batches)
        for share in self._shares:
            for row in share.rows:
                self.counters.change(row.task_id, share.bucket_id, Status.WAITING, Status.IN_FLIGHT)

    def _refuse_uncountable(self, rows: Sequence[_Row]) -> None:
        """Raise where a request could not be counted once it is made."""
        if any(row.attempts >= MOST_ATTEMPTS for row in rows):
            raise ValueError("a row has had more attempts than can be counted")

    def _share(self, bucket_id: int) -> _Share:
        rows, slots = self._sendable(bucket_id, self.rows[bucket_id]), self.slots[bucket_id]
        self._refuse_uncountable(rows)
        return _Share(bucket_id, rows, slots.plan, slots.ascending()[: len(rows)])

    def _sendable(self, bucket_id: int, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return the rows that may be sent: those of stopped tasks are passed over, expired ones end here."""
        ends = self._last_start(bucket_id)
        stopped = {row.task_id for row in rows if self.tasks[row.task_id].is_stopped}
        ended = stopped | {row.task_id for row in rows if self.tasks[row.task_id].ended_by(ends)}
        if not ended:
            return rows
        expired = [row for row in rows if row.task_id in ended - stopped]
        expired_keys = [row.key for row in expired]
        store.set_status_of_all(expired_keys, Status.EXPIRED, was=Status.WAITING)
        for row in expired:
            self.counters.change(row.task_id, bucket_id, Status.WAITING, Status.EXPIRED)
        return [row for row in rows if row.task_id not in ended]

    def _batch(self, share: _Share) -> models.Batch:
        return models.Batch(
            bucket_id=share.bucket_id,
            ids=array("q", [row.key for row in share.rows]).tobytes(),
            slots=array("I", share.slots).tobytes(),
            ids_count=len(share.rows),
            owner=self.work.owner,
            lease_until=self.at + limits.LEASE,
            may_start_until_ms=self.may_start_until_ms,
        )

    def _write_counters(self) -> None:
        self.counters.write()
        moved = {item.claim.bucket_id for item in self.results if item.status == Status.WAITING}
        cursors = {b: bucket_slots.cursors_of(self.buckets[b]) for b in moved | set(self.slots)}
        store.set_on_buckets(cursors)
        for bucket_id, count in self.freed.items():
            ledger.log_release(bucket_id, count, at=self.at)
        ledger.finish_locked((task for task in self.tasks.values() if self._may_be_done(task)), at=self.at)
        failing = [task.pk for task in self.tasks.values() if self._has_failed_by_its_budget(task)]
        if failing:
            holds.stop_over_budget(failing, at=self.at)

    def _has_failed_by_its_budget(self, task: models.Task) -> bool:
        """Whether IDs of it have failed just now, and it has an error budget."""
        failed = self.counters.tasks.get(task.pk, {}).get(Status.FAILED.counter, 0)
        return failed > 0 and task.max_failed_percent is not None

    def _list_claims(self) -> None:
        """List what was claimed, now that it is committed and the batches have their keys."""
        self.result.tasks = self.tasks
        for share, batch in zip(self._shares, self._batches, strict=True):
            tolerance = share.plan.tolerance_seconds
            for row, slot in zip(share.rows, share.slots, strict=True):
                offset = share.plan.offset_of(slot)
                self.result.claims.append(Claim(batch.pk, *row, share.bucket_id, slot, offset, tolerance))

    def _may_be_done(self, task: models.Task) -> bool:
        """Whether nothing of it remains, by what its locked row said and what has changed since."""
        deltas = self.counters.tasks.get(task.pk, {})
        remaining = task.waiting_count + task.in_flight_count
        return remaining + deltas.get("waiting_count", 0) + deltas.get("in_flight_count", 0) == 0


def _remove_from_batches(unsent: Sequence[Claim]) -> None:
    """Take unsent IDs out of their batches: somebody else may claim them, whatever becomes of the batch."""
    by_batch: dict[int, set[int]] = defaultdict(set)
    for claim in unsent:
        by_batch[claim.batch_id].add(claim.key)
    for batch in models.Batch.objects.filter(pk__in=by_batch):
        before = keys_and_slots(batch)
        after = [(key, slot) for key, slot in before if key not in by_batch[batch.pk]]
        # An ID that is returned a second time may be somebody else's by now.
        later.must_be(len(by_batch[batch.pk]), len(before) - len(after))
        batch.ids = array("q", [key for key, _ in after]).tobytes()
        batch.slots = array("I", [slot for _, slot in after]).tobytes()
        batch.ids_count = len(after)
        batch.save(update_fields=["ids", "slots", "ids_count"])


# --- What waits for the slots ---


def _unclaimed_keys(
    buckets: Mapping[int, models.Bucket], slots: Mapping[int, pacing.Slots]
) -> dict[int, tuple[int, int]]:
    """Return the range of each bucket's keys that haven't been claimed, where there are slots for them."""
    unclaimed = {}
    for bucket_id, wanted in slots.items():
        first, last = keys.range_of_bucket(bucket_id)
        claimed_to = buckets[bucket_id].claimed_to_id
        first = first if claimed_to is None else claimed_to + 1
        if wanted and first <= last:
            unclaimed[bucket_id] = first, last
    return unclaimed


def _move_past(bucket: models.Bucket, last: int, *, short: bool) -> None:
    # Nothing is written into a sealed bucket, so a short answer says that there is no more.
    bucket.claimed_to_id = keys.range_of_bucket(bucket.pk)[1] if short else last
    if short:
        bucket.leftover_count = 0
