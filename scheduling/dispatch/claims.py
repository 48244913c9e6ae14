"""A minute worker's tick in the database: buckets are sealed, results recorded, IDs claimed.

A tick is one short transaction. Locks: queues (only where a fill changes), buckets, batches, tasks, task_buckets,
each by key. Claiming an ID and recording its result both lock the bucket's row first.
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
from scheduling.dispatch import bucket_slots, shared_minutes
from scheduling.dispatch.bad_rows import MOST_ATTEMPTS
from scheduling.dispatch.messages import Claim, ClaimRequest, Result, TickResult
from scheduling.models import Group, Status
from scheduling.placement import canaries, holds, ledger, removals, reservations
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
    unsent = [result.claim for result in results if result.status == Status.WAITING]
    work = _Work(owner, requests, results, sorted(open_batches), sorted(finished_batches))
    # Where each look-up takes a round trip, repeating the tick in the rare case costs less.
    ended = set() if later.is_possible(in_transaction=False) else queues_with_freed_places(unsent)
    # The queues whose fill may change. Others stay unlocked: a worker that locks one queue's row and waits for the next
    # keeps all of them waiting.
    queue_ids, unsent_queues = ended, {keys.queue_of_bucket(claim.bucket_id) for claim in unsent}
    while True:
        tick = _Tick(work, elapsed, now)
        try:
            with store.write():
                tick.lock_targets(queue_ids)
                tick.lock_buckets()
                tick.renew_leases()
                tick.seal()
                tick.take_slots()
                tick.lock_tasks()
                tick.take_rows()
                tick.record_results()
                if {keys.queue_of_bucket(bucket_id) for bucket_id in tick.freed} - queue_ids:
                    raise _EndedMeanwhile
                tick.record_at_once()
                tick.claim()
                tick.counters.write()
                tick.move_on()
        except _EndedMeanwhile:
            if queue_ids == unsent_queues:
                raise
            queue_ids = unsent_queues
            continue
        tick.list_claims()
        return tick.result


def recorded_already(owner: int, results: Sequence[Result]) -> list[Result]:
    """Return the results that are in the database: of rows that are no longer in flight in a batch of this worker.

    Results of batches that another worker took over aren't among them.
    """
    batch_ids = {result.claim.batch_id for result in results}
    batches = models.Batch.objects.filter(pk__in=batch_ids, owner=owner)
    open_keys = {batch.pk: {key for key, _ in keys_and_slots(batch)} for batch in batches}
    rows = models.Assignment.objects.filter(
        pk__in=[result.claim.key for result in results], status=Status.IN_FLIGHT
    )
    in_flight = set(rows.values_list("pk", flat=True))
    return [
        result
        for result in results
        if (of_batch := open_keys.get(result.claim.batch_id)) is not None
        and not (result.claim.key in of_batch and result.claim.key in in_flight)
    ]


def release_unknown_batches(owner: int, bucket_ids: Sequence[int], claimed_ids: Collection[int]) -> int:
    """End the leases of batches whose claim this worker never saw confirmed; return how many.

    None of them were sent, so their recovery reports no possible repeats.
    """
    unknown = models.Batch.objects.filter(owner=owner, bucket_id__in=bucket_ids).exclude(
        pk__in=list(claimed_ids)
    )
    return unknown.update(lease_until=clock.EPOCH, may_start_until_ms=NOTHING_STARTED_MS)


def queues_with_freed_places(unsent: Sequence[Claim]) -> set[int]:
    """Return the queues of unsent IDs that won't wait again, so that their places become free.

    Looked up without a lock, since there hardly ever are any.
    """
    task_ids = {claim.task_id for claim in unsent}
    if not task_ids:
        return set()
    cancelled = models.Task.objects.filter(pk__in=task_ids, cancelled_at__isnull=False)
    ended, removed = set(cancelled.values_list("pk", flat=True)), removals.removed_in_flight(task_ids)
    return {
        keys.queue_of_bucket(claim.bucket_id)
        for claim in unsent
        if claim.task_id in ended or (claim.task_id, claim.user_id) in removed
    }


# How many IDs of a minute are searched for a probe that has attempts to spare.
PROBE_CANDIDATES = 100
# For a batch of which nothing was started: before any minute's first slot.
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
        # Places that cancelled tasks free, by bucket.
        self.freed: dict[int, int] = defaultdict(int)

    def lock_targets(self, queue_ids: Collection[int]) -> None:
        """Lock queues, and the targets with a budget whose minute is sealed: for all their queues at once."""
        sealing = {
            bucket_id: request.queue.target_id
            for bucket_id, request in self.work.requests.items()
            if request.is_unsealed and request.queue.target_id is not None
        }
        self.targets = set(sealing.values())
        reservations.lock_queues(queue_ids, target_ids=self.targets)
        self.shared: set[int] = set()
        for number in set(map(keys.minute_number_of_bucket, sealing)):
            self.shared.update(shared_minutes.buckets_of(self.targets, number))

    def lock_buckets(self) -> None:
        buckets = {
            *self.shared,
            *self.work.requests,
            *(result.claim.bucket_id for result in self.work.results),
        }
        rows = models.Bucket.objects.select_for_update().filter(pk__in=sorted(buckets)).order_by("pk")
        self.buckets = {row.pk: row for row in rows}
        # Only now: a time read before waiting for a lock would allow starts that lie in the past.
        self.at, self.elapsed = self._now(), self._elapsed()
        self.may_start_until_ms = round(self.elapsed * 1000) + limits.UNCOMMITTED_MS
        self.result.may_start_until = self.may_start_until_ms / 1000

    def renew_leases(self) -> None:
        work = self.work
        if work.finished_batches:
            later.delete(models.Batch.objects.filter(pk__in=work.finished_batches, owner=work.owner))
        # Including batches that were lost a few ticks ago: their results may come only now.
        self._wanted_batches = {*work.open_batches, *(result.claim.batch_id for result in work.results)}
        self._living_batches: set[int] = set()
        if self._wanted_batches:
            store.renew_batches(
                sorted(self._wanted_batches),
                owner=work.owner,
                lease_until=self.at + limits.LEASE,
                may_start_until_ms=self.may_start_until_ms,
                then=self._living_batches.update,
            )

    def seal(self) -> None:
        """Seal the buckets that nobody has sealed yet; keep those whose requests may be made."""
        self.sendable: dict[int, ClaimRequest] = {}
        for bucket_id, request in sorted(self.work.requests.items()):
            bucket, queue = self.buckets.get(bucket_id), request.queue
            if bucket is None:
                continue
            if bucket.sealed_at is None and queue.target_id is not None:
                # Without the target's row the next tick does it.
                may_send = queue.target_id in self.targets and shared_minutes.seal(
                    bucket, queue, self.buckets, self.at
                )
            else:
                is_sealed = bucket_slots.seal_alone(bucket, queue, self.at)
                may_send = is_sealed and bucket_slots.may_send(bucket, queue)
            if may_send:
                self.sendable[bucket_id] = request

    def take_slots(self) -> None:
        """Take the slots of each bucket whose minute may go on, and look for the rows that wait for them."""
        self.slots: dict[int, pacing.Slots] = {}
        for bucket_id, request in self.sendable.items():
            self.slots[bucket_id] = bucket_slots.next_slots(
                self.buckets[bucket_id], elapsed=self.elapsed, until=request.until, at_most=request.at_most
            )
        unclaimed = _unclaimed_keys(self.buckets, self.slots)
        self._ranges = {
            b: (*unclaimed[b], PROBE_CANDIDATES if self._is_choosy(b) else len(self.slots[b]))
            for b in unclaimed
        }
        self._waiting_rows: list[_Row] = []
        # The same rows counted by task, for those that need not be looked at one by one.
        self.counted: dict[int, list[recording.Waiting]] = {}
        sent = [key_range for b, key_range in self._ranges.items() if not self.work.requests[b].immediate]
        store.read_waiting_rows(sent, lambda rows: self._waiting_rows.extend(map(_Row._make, rows)))
        for bucket_id, (first, last, at_most) in self._ranges.items():
            if self.work.requests[bucket_id].immediate:
                take = partial(self.counted.__setitem__, bucket_id)
                recording.waiting_tasks(first, last, at_most=at_most, then=take)

    def lock_tasks(self) -> None:
        """Lock all of them at once, in order: another worker may lock the same tasks in another minute."""
        task_ids = {result.claim.task_id for result in self.work.results}
        self.tasks: dict[int, models.Task] = {}
        if self._ranges and later.is_possible():
            ledger.lock_tasks_and_waiting(task_ids, list(self._ranges.values()), self._take_tasks)
        else:
            task_ids.update(row.task_id for row in self._waiting_rows)
            task_ids.update(waiting.task_id for counted in self.counted.values() for waiting in counted)
            later.read(ledger.locked_tasks(task_ids), self._take_tasks)
        self._read_unsent()

    def _take_tasks(self, tasks: Iterable[models.Task]) -> None:
        self.tasks.update((task.pk, task) for task in tasks)

    def _read_unsent(self) -> None:
        """Read, with the tasks, what it takes to return IDs that were claimed and not sent."""
        self._removed: set[tuple[int, int]] = set()
        self._unsent_batches: list[models.Batch] = []
        unsent = [result.claim for result in self.work.results if result.status == Status.WAITING]
        if unsent:
            # What an edit has removed meanwhile isn't sent again.
            removals.read_removed_in_flight({claim.task_id for claim in unsent}, self._removed.update)
            batches = models.Batch.objects.filter(pk__in={claim.batch_id for claim in unsent})
            later.read(batches, self._unsent_batches.extend)

    def take_rows(self) -> None:
        """Look at what was read: the batches that this worker still owns, and the rows; move the cursors past them."""
        later.wait()
        lost = self.result.lost_batches = self._wanted_batches - self._living_batches
        self.results = [result for result in self.work.results if result.claim.batch_id not in lost]
        self.rows: dict[int, list[_Row]] = defaultdict(list)
        for row in self._waiting_rows:
            self.rows[keys.bucket_of_assignment(row.key)].append(row)
        # One that was put on hold between the two statements, so that the second one passed it over.
        task_ids = {row.task_id for row in self._waiting_rows}
        task_ids.update(waiting.task_id for counted in self.counted.values() for waiting in counted)
        if missing := task_ids - self.tasks.keys():
            self.tasks |= ledger.lock_tasks(missing)
        self._move_cursors()
        self.rows = {bucket_id: rows for bucket_id, rows in self.rows.items() if rows}
        self.counted = {bucket_id: counted for bucket_id, counted in self.counted.items() if counted}
        for result in self.results:
            # Only now: the unsent rows aren't written yet, and would have been passed over.
            if result.status == Status.WAITING:
                bucket_slots.return_to_waiting(self.buckets[result.claim.bucket_id], result.claim.key)

    def _move_cursors(self) -> None:
        """Move each bucket's cursor past the rows that were found."""
        for bucket_id, (_, _, at_most) in self._ranges.items():
            if self._is_choosy(bucket_id):
                self._choose_probe(bucket_id)
                continue
            if self.work.requests[bucket_id].immediate:
                counted = self.counted[bucket_id]
                last, count = (
                    max((waiting.last for waiting in counted), default=0),
                    sum(waiting.count for waiting in counted),
                )
            else:
                rows = self.rows[bucket_id]
                last, count = rows[-1].key if rows else 0, len(rows)
            _move_past(self.buckets[bucket_id], last, short=count < at_most)

    def _is_choosy(self, bucket_id: int) -> bool:
        return self.work.requests[bucket_id].attempts_below is not None

    def _choose_probe(self, bucket_id: int) -> None:
        """Take the first row of a bucket that has attempts to spare; the others go on waiting."""
        rows, bucket = self.rows[bucket_id], self.buckets[bucket_id]
        below = self.work.requests[bucket_id].attempts_below
        self.rows[bucket_id] = [row for row in rows if below is None or row.attempts < below][:1]
        if not rows:
            _move_past(bucket, 0, short=True)
        elif not self.rows[bucket_id]:
            # Its slot is over.
            bucket.leftover_count += 1
        elif self.rows[bucket_id][0] is rows[0]:
            _move_past(bucket, rows[0].key, short=False)

    def record_results(self) -> None:
        if not self.results:
            return
        unsent = [result.claim for result in self.results if result.status == Status.WAITING]
        rows = []
        for result in self.results:
            claim, status, sent = result.claim, result.status, result.started_after_ms is not None
            if status == Status.WAITING and self._has_ended(claim):
                # What was sent counts as sent, whatever it would have been sent again for.
                status = Status.FAILED if sent else Status.CANCELLED
                if not sent:
                    self.freed[claim.bucket_id] += 1
            rows.append((claim.key, status, claim.attempts + sent, result.started_after_ms))
            self.counters.change(claim.task_id, claim.bucket_id, Status.IN_FLIGHT, status)
            if sent:
                self.counters.started(claim.bucket_id)
        store.set_outcomes(rows, was=Status.IN_FLIGHT)
        later.insert(result.attempt for result in self.results if result.attempt is not None)
        _remove_from_batches(self._unsent_batches, unsent)
        for bucket_id, count in self.freed.items():
            # log_release takes the places from what waits, and keeps the log.
            self.counters.buckets[bucket_id]["waiting_count"] += count

    def _has_ended(self, claim: Claim) -> bool:
        cancelled = self.tasks[claim.task_id].cancelled_at is not None
        return cancelled or (claim.task_id, claim.user_id) in self._removed

    def _last_start(self, bucket_id: int) -> datetime:
        """Return when the last of a bucket's claimed IDs may start: a list that expires before isn't sent."""
        ahead = self.work.requests[bucket_id].until - self.elapsed
        return self.at + timedelta(seconds=max(0.0, min(ahead, 2)))

    def record_at_once(self) -> None:
        """Record rows as succeeded as they are claimed, by one statement a bucket: their handler makes no request."""
        for bucket_id, counted in self.counted.items():
            first, last = min(waiting.first for waiting in counted), max(waiting.last for waiting in counted)
            ends = self._last_start(bucket_id)
            # What was cancelled since it was counted is handled by its cancel; what was put on hold becomes late.
            active_tasks = {
                waiting.task_id for waiting in counted if not self.tasks[waiting.task_id].is_stopped
            }
            alive = {
                waiting.task_id: waiting.count
                for waiting in counted
                if waiting.task_id in active_tasks and not self.tasks[waiting.task_id].ended_by(ends)
            }
            for waiting in counted:
                if waiting.task_id in active_tasks - set(alive):
                    recording.expire(
                        first, last, task_id=waiting.task_id, count=waiting.count, is_canary=waiting.is_canary
                    )
                    self.counters.change(
                        waiting.task_id, bucket_id, Status.WAITING, Status.EXPIRED, waiting.count
                    )
            slots, now_ms = self.slots[bucket_id], max(0, round(self.elapsed * 1000))
            in_canary = [waiting.task_id for waiting in counted if waiting.is_canary]
            recording.succeed(first, last, of_tasks=alive, canaries=in_canary, slots=slots, now_ms=now_ms)
            count = sum(alive.values())
            self.result.lateness[bucket_id].update(slots.lateness_ms(count, now_ms))
            for task_id, of_task in alive.items():
                self.counters.change(task_id, bucket_id, Status.WAITING, Status.SUCCEEDED, of_task)
            self.counters.started(bucket_id, count)
            self.result.recorded_count += count

    def claim(self) -> None:
        """Mark the rows as in flight, in batches that this worker owns."""
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

    def move_on(self) -> None:
        """Write the cursors of the buckets, and decide on canaries, tasks that are done, and error budgets."""
        moved = {result.claim.bucket_id for result in self.results if result.status == Status.WAITING}
        cursors = {b: bucket_slots.cursors_of(self.buckets[b]) for b in moved | set(self.slots)}
        store.set_on_buckets(cursors)
        for bucket_id, count in self.freed.items():
            ledger.log_release(bucket_id, count, at=self.at)
        # Before a list ends: it may be its canary alone.
        counted = [task.pk for task in self.tasks.values() if self._has_canary_results(task)]
        if counted:
            canaries.decide(counted, at=self.at)
        ledger.finish_locked((task for task in self.tasks.values() if self._may_be_done(task)), at=self.at)
        failing = [task.pk for task in self.tasks.values() if self._is_over_its_budget(task)]
        if failing:
            holds.stop_over_budget(failing, at=self.at)

    def _is_over_its_budget(self, task: models.Task) -> bool:
        """Whether more of its IDs have failed than its error budget allows, now that some of them have ended.

        A success may be the one that completes the number of IDs for which the budget waits.
        """
        deltas = self.counters.tasks.get(task.pk, {})
        succeeded, failed = deltas.get(Status.SUCCEEDED.counter, 0), deltas.get(Status.FAILED.counter, 0)
        has_ended = succeeded > 0 or failed > 0
        return has_ended and bool(holds.reason_over_budget(task, succeeded=succeeded, failed=failed))

    def _has_canary_results(self, task: models.Task) -> bool:
        """Whether its canary runs, and IDs of it have ended just now."""
        deltas = self.counters.tasks.get(task.pk, {})
        has_ended = any(
            deltas.get(status.counter) for status in set(Status) - set(Status.of(Group.UNFINISHED))
        )
        return has_ended and task.canary_state == models.CanaryState.RUNNING

    def list_claims(self) -> None:
        """List what was claimed, now that it is committed and the batches have their keys."""
        self.result.tasks = self.tasks
        for share, batch in zip(self._shares, self._batches, strict=True):
            for row, slot in zip(share.rows, share.slots, strict=True):
                offset, tolerance = share.plan.offset_of(slot), share.plan.tolerance_of(slot)
                self.result.claims.append(Claim(batch.pk, *row, share.bucket_id, slot, offset, tolerance))

    def _may_be_done(self, task: models.Task) -> bool:
        """Whether none of it remains, according to its locked row and what has changed since."""
        deltas = self.counters.tasks.get(task.pk, {})
        remaining = task.waiting_count + task.in_flight_count
        return remaining + deltas.get("waiting_count", 0) + deltas.get("in_flight_count", 0) == 0


def _remove_from_batches(batches: Iterable[models.Batch], unsent: Sequence[Claim]) -> None:
    """Take unsent IDs out of their batches: somebody else may claim them, whatever becomes of the batch."""
    by_batch: dict[int, set[int]] = defaultdict(set)
    for claim in unsent:
        by_batch[claim.batch_id].add(claim.key)
    # What came back in a batch that another worker took over is that one's.
    for batch in (batch for batch in batches if batch.pk in by_batch):
        before = keys_and_slots(batch)
        after = [(key, slot) for key, slot in before if key not in by_batch[batch.pk]]
        # An ID that is returned a second time may be somebody else's by now.
        later.must_be(len(by_batch[batch.pk]), len(before) - len(after))
        later.update(
            models.Batch.objects.filter(pk=batch.pk),
            ids=array("q", [key for key, _ in after]).tobytes(),
            slots=array("I", [slot for _, slot in after]).tobytes(),
            ids_count=len(after),
        )


# --- What waits for the slots ---


def _unclaimed_keys(
    buckets: Mapping[int, models.Bucket], slots: Mapping[int, pacing.Slots]
) -> dict[int, tuple[int, int]]:
    """Return the range of each bucket's keys that haven't been claimed, where there are slots for them."""
    unclaimed = {}
    for bucket_id, free_slots in slots.items():
        first, last = keys.range_of_bucket(bucket_id)
        claimed_to = buckets[bucket_id].claimed_to_id
        first = first if claimed_to is None else claimed_to + 1
        if free_slots and first <= last:
            unclaimed[bucket_id] = first, last
    return unclaimed


def _move_past(bucket: models.Bucket, last: int, *, short: bool) -> None:
    # Nothing is written into a sealed bucket, so a short answer says that there is no more.
    bucket.claimed_to_id = keys.range_of_bucket(bucket.pk)[1] if short else last
    if short:
        bucket.leftover_count = 0
