"""A seat: one job that serves all queues during one minute.

It comes a little before the minute, seals its buckets, and then takes turns: each a short transaction that
keeps what came back, renews the leases and claims the next slots. Seats of one minute share it by taking what
is next; one that dies costs its batches, and those only until their lease is over.
"""

import math
import os
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Q

from scheduling import models, store
from scheduling.core import clock, keys, limits
from scheduling.dispatch import bucket_slots, claims, lateness, messages, overdue, recovery, results, targets
from scheduling.dispatch.sender import MinuteClock, Sender
from scheduling.handlers import factory
from scheduling.handlers.base import Request
from scheduling.jobqueue import minute_jobs
from scheduling.models import HandlerKind

log = structlog.get_logger(__name__)

# A turn comes this often; each allows the starts of the next limits.UNCOMMITTED_MS.
TURN_SECONDS = 0.15
FIRST_TURN_SECONDS = 0.02
# Queues, their targets and what waits in the minute are read no more often than this.
LOOK_SECONDS = 0.3
# Slots this far ahead are claimed for queues that send something.
AHEAD_SECONDS = 1.0
# Rows of `record` succeed up to this long before their slot, but never before their minute.
TOGETHER_SECONDS = 0.5
# What a seat does beside claiming and sending must not keep it from that, however many queues there are. So
# long it may be at each, and then ends what it has begun: of each second, at what dead seats had and at what
# it knows of lateness; of each turn, at what is tried again.
RESCUE_SECONDS = 0.02
LATENESS_SECONDS = 0.03
RETRIES_SECONDS = 0.05
# After its minute a seat waits this long for answers: as long as a call may take, and some.
GRACE_SECONDS = limits.WEBHOOK_SECONDS + 1
STOPPING_SECONDS = 10.0
_process: tuple[int, int] = (0, 0)


def owner() -> int:
    """A random number for this process: host and PID come back in containers."""
    global _process
    if _process[0] != os.getpid():
        _process = (os.getpid(), secrets.randbits(62))
    return _process[1]


def serve_minute(number: int, seat: int, now: Callable[[], datetime]) -> None:
    """Serve a minute (in minutes since 1970) until it is over and its answers are there.

    now: the database's clock. A minute that is over is left to `late`.
    """
    minute = minute_jobs.minute_of(number)
    if now() >= minute + clock.MINUTE:
        overdue.wake(at=now())
        return
    MinuteWorker(number, seat, now).serve()
    overdue.wake(at=now())


def wake(*, at: datetime) -> bool:
    """Call a seat for a minute that runs, or is about to, without one; return whether.

    What counts is what waits, not what was armed: jobs are hints.
    """
    number = minute_jobs.minute_number(clock.minute_start(at + minute_jobs.WORKER_AHEAD))
    if at < minute_jobs.minute_of(number) - timedelta(seconds=clock.SEAL_SECONDS - 1):
        return False
    if not claims.active_buckets(number, windows_of(number)).filter(window__queue__paused_at=None).exists():
        return False
    # Who was called a moment ago is on the way.
    quiet = at - timedelta(seconds=4)
    silent = Q(seen_at=None) | Q(seen_at__lt=quiet), Q(called_at=None) | Q(called_at__lt=quiet)
    with store.write():
        if minute_jobs.arm_at_once(number, at=at):
            return True
        if not models.Minute.objects.filter(*silent, pk=number, armed_at__lt=quiet).update(called_at=at):
            return False
        minute_jobs.enqueue_workers(number, 1)
    log.warning("seat_called_again", minute=minute_jobs.minute_of(number).isoformat())
    return True


def windows_of(number: int) -> list[int]:
    """The windows that have a bucket in a minute, of all queues."""
    starts_at = clock.running_window_start(minute_jobs.minute_of(number))
    return list(models.Window.objects.filter(starts_at=starts_at).values_list("pk", flat=True))


class MinuteWorker:
    """One seat's minute."""

    def __init__(self, number: int, seat: int, now: Callable[[], datetime]) -> None:
        self.number = number
        self.seat = seat
        self.minute = minute_jobs.minute_of(number)
        self.now = now
        self.owner = owner()
        self.clock = MinuteClock.of(self.minute.timestamp())
        self.queues: dict[int, models.Queue] = {}
        self.targets = targets.Targets()
        self.tasks: dict[int, models.Task] = {}
        self.batches: dict[int, int] = {}
        self.lateness: dict[int, Counter[int]] = defaultdict(Counter)
        self.sender: Sender | None = None
        # What came back and isn't in the database, since that was locked or gone.
        self.unkept: list[messages.Result] = []
        self.retries: list[results.Retry] = []
        # Buckets that fail: left alone for the rest of this minute.
        self.poisoned: set[int] = set()
        self.windows: list[int] = []
        self.slow_turn_at = self.looked_at = -1e9
        self.buckets: list[models.Bucket] = []
        self.clocks_apart = False
        # For the log: IDs that got their outcome from this seat, and how long a turn took at most.
        self.served = 0
        self.longest_turn = 0.0
        self.ends_at = clock.MINUTE.total_seconds()
        self.stopping_at: float | None = None

    def serve(self) -> None:
        self._sleep_until(-clock.SEAL_SECONDS)
        try:
            next_turn = -float(clock.SEAL_SECONDS)
            while True:
                self._turn_patiently()
                if self._over():
                    break
                next_turn = self._next_turn(next_turn)
                self._sleep_until(next_turn)
        finally:
            if self.sender:
                self.sender.end()
        self._keep_lateness()
        log.info(
            "minute_served",
            minute=self.minute.isoformat(),
            seat=self.seat,
            ids=self.served,
            longest_turn_ms=round(self.longest_turn * 1000),
            not_started=dict(self.sender.not_started) if self.sender else {},
        )
        with store.write():
            models.Minute.objects.filter(pk=self.number, ended_at=None).update(ended_at=self.now())

    # --- Time ---

    def _next_turn(self, last: float) -> float:
        elapsed = self.clock.elapsed()
        following = max(last + TURN_SECONDS, elapsed + 0.01)
        # The first one of the minute right after its first slots, which don't have to share the processor.
        return FIRST_TURN_SECONDS if elapsed < 0 and following > -FIRST_TURN_SECONDS else following

    def _sleep_until(self, offset: float) -> None:
        while (left := offset - self.clock.elapsed()) > 0:
            time.sleep(min(left, 0.5))

    def _over(self) -> bool:
        elapsed = self.clock.elapsed()
        busy = bool((self.sender and self.sender.pending) or self.batches or self.unkept or self.retries)
        if self.stopping_at is None and stopping():
            self.stopping_at = elapsed
        if self.stopping_at is not None:
            return not busy or elapsed > self.stopping_at + STOPPING_SECONDS
        if busy:
            return elapsed > self.ends_at + GRACE_SECONDS
        if elapsed < 1:
            return False
        return elapsed > self.ends_at or self._nothing_left()

    def _nothing_left(self) -> bool:
        try:
            return not claims.active_buckets(self.number, self.windows).exists()
        except (OperationalError, InterfaceError):
            # The next turn waits for the database.
            return False

    # --- A turn ---

    def _turn_patiently(self) -> None:
        began = time.monotonic()
        try:
            self._turn()
            self.longest_turn = max(self.longest_turn, time.monotonic() - began)
        except (OperationalError, InterfaceError):
            # Locked or gone. Nothing starts meanwhile, since no turn is committed; what comes back waits.
            log.warning("turn_failed", minute=self.minute.isoformat(), exc_info=True)
            connection.close()
            time.sleep(0.2)

    def _turn(self) -> None:
        elapsed = self.clock.elapsed()
        if elapsed - self.slow_turn_at >= 1:
            self._slow_turn(elapsed)
        open_for_claims = elapsed < self.ends_at and self.stopping_at is None and not self.clocks_apart
        wants = self._wants(elapsed) if open_for_claims else {}
        # The clock first: where the database is gone, nothing that came back is taken out and lost.
        at = self.now()
        came = self.sender.take() if self.sender else []
        if self.stopping_at is not None and self.sender:
            self.sender.held = frozenset(self.queues)
        if not (wants or came or self.batches or self.unkept or self.retries):
            return
        kept = results.classify(came, self.queues, minute=self.minute, at=at)
        self.retries.extend(kept.retries)
        try:
            self._claim_and_keep(wants, kept.results)
        except BaseException:
            # Nothing of it is in the database: the next turn tries again.
            self.unkept.extend(kept.results)
            raise
        self._place_retries()
        with self._alone("target_not_kept"):
            if self.targets.keep(came, self.queues, minute=self.minute, now=self.now):
                # A target may be held from now on.
                self.looked_at = -1e9

    def _place_retries(self) -> None:
        """Those of some queues, first come first: they have a minute, and what is due now has not."""
        by_queue: dict[int, list[results.Retry]] = defaultdict(list)
        for item in self.retries:
            by_queue[keys.queue_of_bucket(item.claim.bucket_id)].append(item)
        until = time.monotonic() + RETRIES_SECONDS
        while by_queue:
            queue_id = next(iter(by_queue))
            with self._alone("retries_not_placed"):
                results.place_retries(queue_id, by_queue[queue_id], self.owner, self.now)
                self._settled(item.claim.batch_id for item in by_queue[queue_id])
            # What could not be placed is in flight, until its batch is taken up.
            del by_queue[queue_id]
            self.retries = [item for items in by_queue.values() for item in items]
            if time.monotonic() >= until:
                break

    @contextmanager
    def _alone(self, event: str) -> Iterator[None]:
        """What is wrong with some rows ends here: the seat serves all the others."""
        try:
            yield
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception(event, minute=self.minute.isoformat())

    def _claim_and_keep(
        self, wants: Mapping[int, messages.ClaimRequest], kept: Sequence[messages.Result]
    ) -> None:
        """One turn for all queues; where that fails, one for each: a poisoned row stops nobody else."""
        kept = [*self.unkept, *kept]
        try:
            self._one_turn(wants, kept)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("turn_failed_for_all", minute=self.minute.isoformat())
            for bucket_id in sorted({*wants, *(item.claim.bucket_id for item in kept)}):
                try:
                    self._one_turn(
                        {bucket_id: wants[bucket_id]} if bucket_id in wants else {},
                        [item for item in kept if item.claim.bucket_id == bucket_id],
                    )
                except (OperationalError, InterfaceError):
                    raise
                except Exception:
                    log.exception("turn_failed", bucket=bucket_id)
                    self.poisoned.add(bucket_id)
        self.unkept = []

    def _one_turn(self, wants: Mapping[int, messages.ClaimRequest], kept: Sequence[messages.Result]) -> None:
        settled = [batch_id for batch_id, left in self.batches.items() if left <= 0]
        turn = claims.commit_tick(
            owner=self.owner,
            elapsed=self.clock.elapsed,
            requests=wants,
            results=kept,
            open_batches=[batch_id for batch_id, left in self.batches.items() if left > 0],
            finished_batches=settled,
            now=self.now,
        )
        for batch_id in settled:
            del self.batches[batch_id]
        try:
            self._took(turn, kept)
        except Exception:
            # Committed: no reason to do the turn again. What it claimed is taken up once its lease is over.
            log.exception("not_sent", minute=self.minute.isoformat(), ids=len(turn.claims))
            for claimed in turn.claims:
                self.batches.pop(claimed.batch_id, None)

    def _slow_turn(self, elapsed: float) -> None:
        """What needs no more than a look each second."""
        self.slow_turn_at = elapsed
        self.windows = windows_of(self.number)
        at = self.now()
        apart = abs(datetime.now(UTC) - at)
        self.clocks_apart = apart > limits.CLOCK_OFFSET_ALLOWED
        if apart > limits.CLOCK_OFFSET_REPORTED:
            apart_ms = round(apart.total_seconds() * 1000)
            log.error("clocks_apart", milliseconds=apart_ms, sending=not self.clocks_apart)
        with store.write():
            seen = models.Minute.objects.filter(pk=self.number)
            seen.update(seen_at=at)
            seen.filter(started_at=None).update(started_at=at)
        # In its own minute something of that is in time. What takes longer is a job's (late.run).
        with self._alone("not_taken_up"):
            recovery.recover(self.now, seconds=RESCUE_SECONDS)
        self._keep_lateness(seconds=LATENESS_SECONDS)

    def _wants(self, elapsed: float) -> dict[int, messages.ClaimRequest]:
        """What to claim of which bucket now."""
        if elapsed - self.looked_at >= LOOK_SECONDS or elapsed < LOOK_SECONDS:
            self._look(elapsed)
        wants = {}
        for bucket in self.buckets:
            queue = self.queues[keys.queue_of_bucket(bucket.pk)]
            if queue.paused or not bucket.waiting_count or bucket.pk in self.poisoned:
                continue
            immediate = queue.handler == HandlerKind.RECORD
            if immediate and elapsed < 0 and bucket.sealed_at is not None:
                continue
            until = min(self.ends_at, elapsed + (TOGETHER_SECONDS if immediate else AHEAD_SECONDS))
            at_most, held = None, queue.pk in self.targets.held
            if (immediate and elapsed < 0) or (held and bucket.sealed_at is None):
                until = elapsed - 1  # seals, and claims nothing
            elif held:
                # A probe goes at once, so that the next can't come sooner than half a minute after it.
                if not _something_due(bucket, elapsed, until) or not self.targets.probe(queue, now=self.now):
                    continue
                at_most = 1
            if bucket.sealed_at is None or at_most or _something_due(bucket, elapsed, until):
                wants[bucket.pk] = messages.ClaimRequest(
                    queue=queue, until=until, immediate=immediate, at_most=at_most
                )
        return wants

    def _look(self, elapsed: float) -> None:
        """Read what waits in this minute, of which queues, and which of them are paused or held."""
        self.looked_at = elapsed
        self.buckets = list(claims.active_buckets(self.number, self.windows))
        ids = [keys.queue_of_bucket(bucket.pk) for bucket in self.buckets]
        self.queues.update(models.Queue.objects.in_bulk(ids))
        self.targets.look([self.queues[queue_id] for queue_id in ids], at=self.now())
        if self.sender:
            paused = {queue_id for queue_id in ids if self.queues[queue_id].paused}
            self.sender.held = frozenset(paused | self.targets.held)
            self.sender.most_connections = {q.pk: q.max_connections for q in self.queues.values()}

    def _took(self, turn: messages.TickResult, kept: Sequence[messages.Result]) -> None:
        for bucket_id, milliseconds in turn.lateness.items():
            self.lateness[bucket_id].update(milliseconds)
        kept = [item for item in kept if item.claim.batch_id not in turn.lost_batches]
        for item in kept:
            if item.started_after_ms is not None:
                late_ms = item.started_after_ms - round(item.claim.offset * 1000)
                self.lateness[item.claim.bucket_id][max(0, late_ms)] += 1
        self.served += turn.recorded_count + sum(item.started_after_ms is not None for item in kept)
        for batch_id in turn.lost_batches:
            self.batches.pop(batch_id, None)
        if turn.lost_batches:
            log.warning("lease_lost", minute=self.minute.isoformat(), batches=len(turn.lost_batches))
        self._settled(item.claim.batch_id for item in kept)
        for claimed in turn.claims:
            self.batches[claimed.batch_id] = self.batches.get(claimed.batch_id, 0) + 1
        if self.sender:
            self.sender.lost |= turn.lost_batches
            self.sender.may_start_until = turn.may_start_until
        if turn.claims:
            self._send(turn)

    def _send(self, turn: messages.TickResult) -> None:
        if self.sender is None:
            self.installation = models.Installation.current()
            self.sender = Sender(self.clock, factory.make_handler)
            self.sender.held = self.targets.held
            self.sender.most_connections = {q.pk: q.max_connections for q in self.queues.values()}
            self.sender.may_start_until = turn.may_start_until
            self.sender.start()
        unknown = {claimed.task_id for claimed in turn.claims} - self.tasks.keys()
        if unknown:
            self.tasks.update(models.Task.objects.only("pk", "name").in_bulk(unknown))
        due = []
        for claimed in turn.claims:
            queue = self.queues[keys.queue_of_bucket(claimed.bucket_id)]
            request = Request(
                user_id=claimed.user_id,
                task_id=claimed.task_id,
                task_name=self.tasks[claimed.task_id].name,
                queue=queue.name,
                planned_at=self.minute,
                attempt=claimed.attempts + 1,
                key_part=self.installation.key_part_of(claimed.task_id),
            )
            if queue.pk in self.sender.held:
                self.sender.probes.add(claimed.key)
            due.append(messages.ScheduledRequest(claimed, request, queue))
        self.sender.send(due)

    def _settled(self, batch_ids: Iterable[int]) -> None:
        for batch_id in batch_ids:
            if batch_id in self.batches:
                self.batches[batch_id] -= 1

    def _keep_lateness(self, *, seconds: float = math.inf) -> None:
        """Of some buckets, in turn; the one that was kept comes last again. seconds: none is begun after them."""
        until = time.monotonic() + seconds
        for bucket_id in list(self.lateness):
            if time.monotonic() >= until:
                break
            lateness.add(bucket_id, self.lateness.pop(bucket_id))


def _something_due(bucket: models.Bucket, elapsed: float, until: float) -> bool:
    """Whether a claim up to `until` would find slots: most turns of a slow queue don't."""
    plan = bucket_slots.plan_of(bucket)
    if bucket.claimed_to_id == keys.range_of_bucket(bucket.pk)[1]:
        return False
    if plan.slots_between(0, until).stop > bucket.planned_cursor:
        return True
    return bucket.leftover_count > 0 and bool(plan.free_between(max(0.0, elapsed), until, bucket.cursor))


def stopping() -> bool:
    """Whether this cluster is being stopped: whoever runs it leaves a file for jobs that take long."""
    signs = os.environ.get("QUARTERDECK_SIGNS")
    return bool(signs) and (Path(signs) / "stopping").exists()
