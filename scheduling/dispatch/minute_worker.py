"""A minute worker: one job that serves all queues during one minute.

It starts a little before the minute and seals its buckets. From then on it ticks: each tick claims the next slots,
hands the claimed IDs to the sender, and records the results of earlier requests, in one short transaction.
Workers of one minute share it by claiming what is next. One that dies costs its batches, until their lease ends.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q, Value
from django.db.models.functions import Coalesce

from scheduling import models, store
from scheduling.core import clock, limits
from scheduling.dispatch import bad_rows, claims, credentials, overdue, recovery, results
from scheduling.dispatch.lateness import Lateness
from scheduling.dispatch.messages import ClaimRequest, RequestResult, Result, TickResult
from scheduling.dispatch.minute_clock import Clocks, MinuteClock
from scheduling.dispatch.minute_view import MINUTE_SECONDS, MinuteView, windows_of
from scheduling.dispatch.open_work import OpenWork
from scheduling.dispatch.sender import Sender, SenderThread
from scheduling.handlers import factory
from scheduling.jobqueue import host_watch, minute_jobs
from scheduling.store import later

log = structlog.get_logger(__name__)

# A tick comes this often; each allows the starts of the next limits.UNCOMMITTED_MS.
TICK_SECONDS = 0.15
FIRST_TICK_SECONDS = 0.02
# Between the end of a tick and the next one, so that a slow database isn't kept busy by one worker.
PAUSE_SECONDS = 0.01
# After an error of the database.
RECONNECT_SECONDS = 0.2
# What a worker does beside claiming and sending must not delay that, however many queues there are. For this long, it
# begins more of each: once a second, what dead workers had claimed and how late requests were; in each tick, retries.
RECOVERY_SECONDS = 0.02
LATENESS_SECONDS = 0.03
RETRIES_SECONDS = 0.05
# After its minute a worker waits this long for responses: as long as a call may take, and a little more.
GRACE_SECONDS = limits.WEBHOOK_SECONDS + 1
STOPPING_SECONDS = 10.0
# A worker says this often that its minute is served; see limits.MINUTE_SILENT.
SEEN_SECONDS = 0.5
# How long a process takes no job after it left a minute to another host.
DECLINED_SECONDS = 1.0

_process: tuple[int, int] = (0, 0)


def owner_of_process() -> int:
    """Return a random number for this process: host name and PID repeat in containers."""
    global _process
    if _process[0] != os.getpid():
        _process = (os.getpid(), secrets.randbits(62))
    return _process[1]


def is_stopping() -> bool:
    """Whether this cluster is being stopped: its runner leaves a file that long jobs look for."""
    signs = os.environ.get("QUARTERDECK_SIGNS")
    return bool(signs) and (Path(signs or "") / "stopping").exists()


def start_sender(minute_clock: MinuteClock) -> Sender:
    """Return a sender that runs in a thread of its own."""
    sender = SenderThread(minute_clock, factory.make_handler)
    sender.start()
    return sender


def serve_minute(number: int, index: int, clocks: Clocks) -> None:
    """Serve a minute (in minutes since 1970) until it is over and its responses are there.

    index: of this worker among those of its minute. A minute that is over is left to `overdue`. A host whose clock
    is off, or that is far from the database, takes none: another worker is queued in its place.
    """
    at = clocks.now()
    if at < clock.minute_of(number) + clock.MINUTE:
        worker = MinuteWorker(number, index, clocks)
        if host_watch.is_off(worker.clock.host_offset):
            offset_ms = round(worker.clock.host_offset.total_seconds() * 1000)
            log.error("minute_not_taken_since_clock_is_off", host_ahead_ms=offset_ms)
            decline(number, clocks)
            return
        is_far = host_watch.is_far(worker.clock.round_trip)
        if is_far and host_watch.is_far(worker.clock.measure_distance(host_watch.READINGS)):
            round_trip_ms = round(worker.clock.round_trip.total_seconds() * 1000)
            log.error("minute_not_taken_since_database_is_far", round_trip_ms=round_trip_ms)
            decline(number, clocks)
            return
        worker.serve()
    overdue.wake(at=clocks.now())


def decline(number: int, clocks: Clocks, *, not_on: str = "") -> None:
    """Leave a minute to another worker, which is queued, unless it is over."""
    if clocks.now() < clock.minute_of(number) + clock.MINUTE:
        minute_jobs.enqueue_workers(number, 1, not_on=not_on)
    # This process takes no other job meanwhile, so that a host whose clock is right is there first.
    clocks.sleep(DECLINED_SECONDS)


def wake(*, at: datetime) -> bool:
    """Queue a worker for a minute that runs, or is about to, without one; return whether.

    What counts is what waits, not what was armed: jobs are hints.
    """
    number = clock.minute_number(clock.minute_start(at + minute_jobs.WORKER_AHEAD))
    if at < clock.minute_of(number) - timedelta(seconds=clock.SEAL_SECONDS - 1):
        return False
    windows = windows_of(number).values_list("pk", flat=True)
    if not claims.active_buckets(number, windows).filter(window__queue__paused_at=None).exists():
        return False
    # A worker that was queued a moment ago is on its way.
    called = at - limits.MINUTE_CALLED
    unseen = Q(seen_at=None) | Q(seen_at__lt=at - limits.MINUTE_SILENT)
    uncalled = Q(called_at=None) | Q(called_at__lt=called)
    with store.write():
        if minute_jobs.arm_at_once(number, at=at):
            return True
        silent = models.Minute.objects.filter(unseen, uncalled, pk=number, armed_at__lt=called)
        if not silent.update(called_at=at):
            return False
        minute_jobs.enqueue_workers(number, 1)
    log.warning("minute_worker_queued_again", minute=clock.minute_of(number).isoformat())
    return True


class MinuteWorker:
    """One worker's minute.

    `serve` runs it. To drive it on simulated time, give it clocks, and a sender on an event loop of that time, and
    call `tick` until it returns None; each time it returns when the next tick is due, in seconds after the minute's
    start. Then call `finish`. A worker that is no longer ticked is one that died or froze: stop its sender.
    Between ticks the loop of its sender has to run up to the simulated time.
    """

    def __init__(
        self,
        number: int,
        index: int,
        clocks: Clocks,
        *,
        owner: int | None = None,
        make_sender: Callable[[MinuteClock], Sender] = start_sender,
        is_stopping: Callable[[], bool] = is_stopping,
    ) -> None:
        self.number, self.index = number, index
        self.minute = clock.minute_of(number)
        self.clocks, self.clock = clocks, MinuteClock(self.minute, clocks)
        self.owner = owner_of_process() if owner is None else owner
        self.view = MinuteView(number, self.clock.now)
        self.work = OpenWork()
        self.lateness = Lateness()
        self.sender: Sender | None = None
        self._make_sender, self._is_stopping = make_sender, is_stopping
        self._next_tick = -float(clock.SEAL_SECONDS)
        self._stopping_at: float | None = None
        self._housekeeping_at = self._lateness_at = self._seen_at = float("-inf")
        # Whether the last tick did nothing else.
        self._kept_house = False
        # Whether nobody knows if the last tick was committed.
        self._in_doubt = False
        # Whether another host was asked to serve what this one doesn't reach.
        self._called_others = False
        # For the log: how many IDs got their result from this worker, and how long a tick took at most.
        self._recorded_count, self._longest_tick = 0, 0.0

    def serve(self) -> None:
        """Tick until the minute is served."""
        due: float | None = self._next_tick
        try:
            while due is not None:
                while (remaining := due - self.clock.elapsed()) > 0:
                    self.clocks.sleep(min(remaining, 0.5))
                due = self.tick()
        finally:
            if self.sender:
                self.sender.stop()
            store.end_short_waits()
        self.finish()

    def tick(self) -> float | None:
        """Claim, send and record; return when the next tick is due, or None when the minute is served.

        Both in seconds after the minute's start.
        """
        began, ready_at, pause = self.clocks.monotonic(), float("-inf"), TICK_SECONDS
        try:
            store.keep_waits_short()
            # From far away each takes long enough. But however long it takes, the next one claims.
            is_apart = later.is_possible(in_transaction=False)
            self._kept_house = not (is_apart and self._kept_house) and self._keep_house()
            if is_apart and self._kept_house:
                pause = 0.0
            else:
                self._tick()
            self._longest_tick = max(self._longest_tick, self.clocks.monotonic() - began)
        except (DatabaseError, InterfaceError) as error:
            if not store.is_unavailable(error):
                raise
            # Locked or gone. Nothing starts meanwhile, since no tick is committed; results wait for the next one.
            self._in_doubt = True
            log.warning("tick_failed", minute=self.minute.isoformat(), exc_info=True)
            connection.close()
            ready_at = self.clock.elapsed() + RECONNECT_SECONDS
        elapsed = self.clock.elapsed()
        if self._is_served(elapsed):
            return None
        following = max(self._next_tick + pause, elapsed + PAUSE_SECONDS, ready_at)
        # The first one of the minute right after its first slots, which don't have to share the processor.
        before_first = elapsed < 0 and following > -FIRST_TICK_SECONDS
        self._next_tick = FIRST_TICK_SECONDS if before_first else following
        return self._next_tick

    def finish(self) -> None:
        """Store what is known of the minute once it is served."""
        self.lateness.store(self.clocks.monotonic)
        log.info(
            "minute_served",
            minute=self.minute.isoformat(),
            worker=self.index,
            ids=self._recorded_count,
            longest_tick_ms=round(self._longest_tick * 1000),
            not_started=dict(self.sender.not_started) if self.sender else {},
        )
        with store.write():
            models.Minute.objects.filter(pk=self.number, ended_at=None).update(ended_at=self.clocks.now())

    def _is_served(self, elapsed: float) -> bool:
        if self._stopping_at is None and self._is_stopping():
            self._stopping_at = elapsed
            self._hand_over(elapsed)
        if self._in_doubt and self._stopping_at is None:
            # What the last tick claimed isn't known to be claimed, nor what it recorded to be recorded.
            return elapsed > MINUTE_SECONDS + GRACE_SECONDS
        busy = bool((self.sender and self.sender.pending_count) or self.work)
        if self._stopping_at is not None:
            return not busy or elapsed > self._stopping_at + STOPPING_SECONDS
        if busy:
            return elapsed > MINUTE_SECONDS + GRACE_SECONDS
        return elapsed >= 1 and (elapsed > MINUTE_SECONDS or self.view.is_empty)

    def _hand_over(self, elapsed: float) -> None:
        """Queue another worker in place of one that is told to stop: nobody waits until this one is missed."""
        if self.sender:
            self.sender.withdraw()
        if elapsed < MINUTE_SECONDS and not self.view.is_empty:
            try:
                minute_jobs.enqueue_workers(self.number, 1)
            except DatabaseError:
                log.warning("minute_not_handed_over", minute=self.minute.isoformat(), exc_info=True)

    # --- A tick ---

    def _tick(self) -> None:
        elapsed = self.clock.elapsed()
        if self._in_doubt:
            self._resolve_doubt()
        requests = self._claim_requests(elapsed)
        answered = self.sender.take() if self.sender else []
        if self._stopping_at is not None and self.sender:
            self.sender.blocked_queues = frozenset(self.view.queues)
        is_far = later.is_possible(in_transaction=False)
        if not (requests or answered or self.work):
            if is_far:
                self._refresh(elapsed)
            return
        if is_far:
            # With the tick's first statement; the next tick claims by it.
            self.view.read(elapsed)
        answered, unreached = self.view.reach.take_unreached(answered)
        self._classify(answered)
        try:
            self._commit(requests, self.work.results)
        except Exception as error:
            if store.is_unavailable(error):
                raise
            # A bad row stops no other bucket.
            log.exception("tick_failed_for_all", minute=self.minute.isoformat())
            self._commit_each(requests)
        self.work.results = []
        if self.sender and self._stopping_at is None:
            self._configure(self.sender)
        self._place_retries()
        self._tell_targets(answered)
        self._leave_to_others(unreached, answered)

    def _classify(self, answered: Sequence[RequestResult]) -> None:
        classified = results.classify(answered, self.view.queues, minute=self.minute, at=self.clock.now())
        self.work.retries.extend(classified.retries)
        self.work.results.extend(classified.results)

    def _resolve_doubt(self) -> None:
        """Look up what the last tick had done: where a COMMIT's answer was lost, all of it is in the database."""
        recorded = claims.recorded_already(self.owner, self.work.results)
        self.work.settle(result.claim for result in recorded)
        self.work.results = [result for result in self.work.results if result not in recorded]
        unknown = claims.release_unknown_batches(self.owner, self.view.bucket_ids(), self.work.batches)
        if recorded or unknown:
            log.warning("commit_was_lost_on_its_way", results=len(recorded), batches=unknown)
        self._in_doubt = False

    def _keep_house(self) -> bool:
        """Do what isn't needed in each tick, in parts; return whether there was any."""
        elapsed = self.clock.elapsed()
        if elapsed - self._housekeeping_at >= 1:
            self._look_around(elapsed)
        elif self.lateness and elapsed - self._lateness_at >= 1:
            self._lateness_at = elapsed
            self.lateness.store(self.clocks.monotonic, seconds=LATENESS_SECONDS)
        elif elapsed - self._seen_at >= SEEN_SECONDS:
            self._say_seen(elapsed)
        else:
            return False
        return True

    def _look_around(self, elapsed: float) -> None:
        """Look at the clocks, at which queues there are and at what dead workers had claimed; say who is alive."""
        self._housekeeping_at = elapsed
        self._watch_clocks()
        self.view.read_windows()
        self._say_seen(elapsed)
        if not self._called_others and self._stopping_at is None and self.view.has_left():
            self._called_others = True
            minute_jobs.enqueue_workers(self.number, 1, not_on=self.view.reach.host)
        # In its own minute some of that is still in time. What takes longer is a job's (overdue.run).
        with self._isolated("batches_not_recovered"):
            recovery.recover(self.clock.now, seconds=RECOVERY_SECONDS, monotonic=self.clocks.monotonic)

    def _say_seen(self, elapsed: float) -> None:
        self._seen_at = elapsed
        at = self.clock.now()
        with store.write():
            minute = models.Minute.objects.filter(pk=self.number)
            later.update(minute, seen_at=at, started_at=Coalesce("started_at", Value(at)))

    def _watch_clocks(self) -> None:
        if not self.clock.synchronize():
            # This minute is served as it began: to stop would leave the rest of it to the clock as it is now.
            log.error("database_clock_jumped", minute=self.minute.isoformat())
        offset = self.clock.host_offset
        if abs(offset) > limits.CLOCK_OFFSET_REPORTED:
            log.warning("clocks_apart", host_ahead_ms=round(offset.total_seconds() * 1000))

    def _claim_requests(self, elapsed: float) -> dict[int, ClaimRequest]:
        if elapsed >= MINUTE_SECONDS or self._stopping_at is not None:
            return {}
        if not later.is_possible(in_transaction=False):
            self._refresh(elapsed)
        return self.view.claim_requests(elapsed)

    def _refresh(self, elapsed: float) -> None:
        if self.view.refresh(elapsed) and self.sender and self._stopping_at is None:
            self._configure(self.sender)

    def _configure(self, sender: Sender) -> None:
        sender.blocked_queues = self.view.blocked_queues()
        sender.tasks_on_hold = self.view.tasks_on_hold
        sender.most_connections = {pk: queue.max_connections for pk, queue in self.view.queues.items()}

    def _commit_each(self, requests: Mapping[int, ClaimRequest]) -> None:
        # What is still to be recorded after an error of the database in between.
        remaining = self.work.results
        for bucket_id in sorted({*requests, *(result.claim.bucket_id for result in remaining)}):
            of_bucket = [result for result in remaining if result.claim.bucket_id == bucket_id]
            request = {b: claim_request for b, claim_request in requests.items() if b == bucket_id}
            try:
                self._commit(request, of_bucket)
            except Exception as error:
                if store.is_unavailable(error):
                    raise
                self._end_bad_rows(bucket_id, request, of_bucket)
            remaining = [result for result in remaining if result.claim.bucket_id != bucket_id]
            self.work.results = remaining

    def _end_bad_rows(
        self, bucket_id: int, request: Mapping[int, ClaimRequest], of_bucket: Sequence[Result]
    ) -> None:
        """Let the rows of a bucket end that make its ticks fail, and do the tick again for the others."""
        log.warning("bad_rows_looked_for", bucket=bucket_id, exc_info=True)
        bad = bad_rows.end_bad_rows(bucket_id, self.clock.now)
        self.work.settle(result.claim for result in of_bucket if result.claim.key in bad)
        try:
            self._commit(request, [result for result in of_bucket if result.claim.key not in bad])
        except Exception as error:
            if store.is_unavailable(error):
                raise
            # The recovery of the batch records the results: as possible repeats.
            log.exception("bucket_excluded", bucket=bucket_id)
            self.view.exclude(bucket_id, self.clock.elapsed())

    def _commit(self, requests: Mapping[int, ClaimRequest], recorded: Sequence[Result]) -> None:
        finished = self.work.finished_batches
        tick = claims.commit_tick(
            owner=self.owner,
            elapsed=self.clock.elapsed,
            requests=requests,
            results=recorded,
            open_batches=self.work.open_batches,
            finished_batches=finished,
            now=self.clock.now,
        )
        self.work.forget(finished)
        try:
            self._after_commit(tick, recorded)
        except Exception:
            # Committed: no reason to do it again. What it claimed is recovered once its lease has ended.
            log.exception("not_sent", minute=self.minute.isoformat(), ids=len(tick.claims))
            self.work.forget({claim.batch_id for claim in tick.claims})

    def _after_commit(self, tick: TickResult, recorded: Sequence[Result]) -> None:
        recorded = [result for result in recorded if result.claim.batch_id not in tick.lost_batches]
        self.lateness.count(tick, recorded)
        sent_count = sum(result.started_after_ms is not None for result in recorded)
        self._recorded_count += tick.recorded_count + sent_count
        if tick.lost_batches:
            self.work.forget(tick.lost_batches)
            log.warning("lease_lost", minute=self.minute.isoformat(), batches=len(tick.lost_batches))
        self.work.settle(result.claim for result in recorded)
        self.work.add(tick.claims)
        if self.sender:
            self.sender.lost_batches |= tick.lost_batches
            self.sender.may_start_until = tick.may_start_until
        if tick.claims:
            self._send(tick)

    def _send(self, tick: TickResult) -> None:
        if self.sender is None:
            self.sender = self._make_sender(self.clock)
            self._configure(self.sender)
            self.sender.may_start_until = tick.may_start_until
        scheduled = self.view.scheduled_requests(tick.claims, tick.tasks)
        self.sender.probes.update(
            request.claim.key for request in scheduled if request.queue_id in self.sender.blocked_queues
        )
        self.sender.send(scheduled)

    def _place_retries(self) -> None:
        """Give retries a minute, queue by queue: they have time, and what is due now has not."""
        by_queue, until = self.work.retries_by_queue(), self.clocks.monotonic() + RETRIES_SECONDS
        while by_queue:
            queue_id = next(iter(by_queue))
            with self._isolated("retries_not_placed"):
                results.place_retries(queue_id, by_queue[queue_id], self.owner, self.clock.now)
                self.work.settle(retry.claim for retry in by_queue[queue_id])
            # What could not be placed is in flight until its batch is recovered.
            del by_queue[queue_id]
            self.work.retries = [retry for retries in by_queue.values() for retry in retries]
            if self.clocks.monotonic() >= until:
                break

    def _tell_targets(self, answered: Sequence[RequestResult]) -> None:
        with self._isolated("target_not_updated"):
            targets = self.view.targets
            changed = targets.record(answered, self.view.queues, minute=self.minute, now=self.clock.now)
            # A target, or a queue, may be blocked from now on.
            if credentials.record(answered, now=self.clock.now) or changed:
                self.view.expire()

    def _leave_to_others(self, unreached: Mapping[str, str], answered: Sequence[RequestResult]) -> None:
        """Store which targets this host doesn't reach, and leaves to others."""
        with self._isolated("reach_not_recorded"):
            if self.view.reach.record(unreached, answered, at=self.clock.now()):
                self.view.expire()

    @contextmanager
    def _isolated(self, event: str) -> Iterator[None]:
        """Log what is wrong with some rows, so that all others are served."""
        try:
            yield
        except Exception as error:
            if store.is_unavailable(error):
                raise
            log.exception(event, minute=self.minute.isoformat())
