"""Requests of one minute go out at their slots, from an event loop of their own.

The loop touches no database. Scheduled requests come in, their results are taken out; a request starts only while
its slot's tolerance lasts, its queue isn't blocked, and the worker's last tick is committed and recent.
"""

import asyncio
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import structlog
import uvloop

from scheduling import models
from scheduling.core import retry
from scheduling.core.retry import Verdict
from scheduling.dispatch import block_signals, targets
from scheduling.dispatch.block_signals import BlockSignals
from scheduling.dispatch.messages import RequestResult, ScheduledRequest
from scheduling.dispatch.minute_clock import MinuteClock
from scheduling.handlers.base import Handler, Outcome, Request

log = structlog.get_logger(__name__)

# How often a request whose tick isn't committed yet looks again, while its slot lasts.
POLL_SECONDS = 0.005
# A timer may fire this much before its time.
EARLY_SECONDS = 0.001


class _Group(NamedTuple):
    """Requests of one batch that a handler makes together."""

    requests: list[ScheduledRequest]
    queue: models.Queue
    queue_id: int
    # Of the target; None without one.
    origin: str | None
    handler: Handler


class Sender:
    """Makes requests at their slots, on an event loop that somebody else runs: see SenderThread.

    The loop's time and the clock's must be the same. make_handler: gives the handler of a queue, in the loop.
    """

    def __init__(
        self,
        clock: MinuteClock,
        make_handler: Callable[[models.Queue], Handler],
        loop: asyncio.AbstractEventLoop,
        signals: BlockSignals,
    ) -> None:
        self.clock = clock
        self.make_handler = make_handler
        self.loop = loop
        self.signals = signals
        # Seconds after the minute's start up to which starts are allowed: each committed tick moves it on.
        self.may_start_until = 0.0
        # Queues whose requests may not start now: paused, or behind a blocked target.
        self.blocked_queues: frozenset[int] = frozenset()
        self.tasks_on_hold: frozenset[int] = frozenset()
        self.lost_batches: set[int] = set()
        # Keys of IDs that are sent although their queue is blocked, to see how its target is.
        self.probes: set[int] = set()
        self.most_connections: dict[int, int] = {}
        # How many IDs were not started, by reason: for the log.
        self.not_started: Counter[str] = Counter()
        self._results: deque[RequestResult] = deque()
        self._open: dict[int, int] = defaultdict(int)
        # By queue and version: an edit applies from the next claim on, not from the next minute.
        self._handlers: dict[tuple[int, int], Handler] = {}
        self._not_made: set[tuple[int, int]] = set()
        # What waits for its slot.
        self._timers: dict[int, tuple[asyncio.TimerHandle, _Group]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Changed by the worker's thread alone: of two threads that add to one number, one may be lost.
        self._given_count = self._taken_count = 0

    # --- From the worker ---

    @property
    def pending_count(self) -> int:
        """How many scheduled requests have no result that was taken."""
        return self._given_count - self._taken_count

    def send(self, scheduled: Sequence[ScheduledRequest]) -> None:
        self._given_count += len(scheduled)
        self.loop.call_soon_threadsafe(self._schedule, list(scheduled))

    def take(self) -> list[RequestResult]:
        """Return the results since the last call."""
        results = []
        while self._results:
            results.append(self._results.popleft())
        self._taken_count += len(results)
        return results

    def withdraw(self) -> None:
        """Return at once what waits for its slot: others may send it in time."""
        self.loop.call_soon_threadsafe(self._withdraw)

    def stop(self) -> None:
        """Close connections. Requests that are under way get no result."""
        self.loop.run_until_complete(self.close())

    async def close(self) -> None:
        """Cancel what is under way and close the handlers."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
        for handler in self._handlers.values():
            await handler.close()

    # --- In the loop ---

    def _schedule(self, scheduled: list[ScheduledRequest]) -> None:
        # What goes together is of one batch: it may start, or is lost, as a whole.
        by_batch: dict[tuple[int, int], list[ScheduledRequest]] = defaultdict(list)
        for request in scheduled:
            by_batch[request.queue_id, request.claim.batch_id].append(request)
        for (queue_id, _), requests in by_batch.items():
            queue = requests[0].queue
            try:
                handler = self._handler(queue)
                together = handler.batch_seconds
            except BaseException as error:
                # A queue whose handler can't be made fails alone. It is logged once for each minute and worker.
                if (queue.pk, queue.version) not in self._not_made:
                    self._not_made.add((queue.pk, queue.version))
                    log.exception("handler_not_made", queue=queue.pk)
                failed = Outcome(Verdict.FAILED, error=f"{type(error).__name__}: {error}")
                self._results.extend(
                    [RequestResult(request, failed, self.clock.elapsed()) for request in requests]
                )
                continue
            origin = targets.origin_of_queue(queue)
            for group in _grouped(requests, together):
                self._start_at_slot(_Group(group, queue, queue_id, origin, handler))

    def _handler(self, queue: models.Queue) -> Handler:
        key = queue.pk, queue.version
        if key not in self._handlers:
            self._handlers[key] = self.make_handler(queue)
            self._handlers[key].prepare()
        return self._handlers[key]

    def _start_at_slot(self, group: _Group) -> None:
        # At the last slot of the group, so that none starts before its own.
        at = self.clock.anchor + group.requests[-1].claim.offset
        timer = self.loop.call_at(at, self._start, group)
        self._timers[id(group)] = timer, group

    def _withdraw(self) -> None:
        for timer, group in self._timers.values():
            timer.cancel()
            self._return_unmade(group.requests)
        self._timers.clear()

    def _return_unmade(self, requests: Sequence[ScheduledRequest]) -> None:
        self._results.extend([RequestResult(request, None, None) for request in requests])

    def _start(self, group: _Group) -> None:
        del self._timers[id(group)]
        task = self.loop.create_task(self._make_requests(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_requests(self, group: _Group) -> None:
        if not await self._may_start(group):
            self._return_unmade(group.requests)
            return
        requests = group.requests
        if self.tasks_on_hold and not (requests := self._without_tasks_on_hold(requests)):
            return
        queue, queue_id = group.queue, group.queue_id
        self._open[queue_id] += len(requests)
        started = self.clock.elapsed()
        try:
            outcomes = await self._handle(group, [scheduled.request for scheduled in requests])
            self._block_where_asked(group, outcomes)
            self._results.extend(
                [
                    RequestResult(request, outcome, started if _counts(outcome, queue) else None)
                    for request, outcome in zip(requests, outcomes, strict=True)
                ]
            )
        finally:
            self._open[queue_id] -= len(requests)

    async def _handle(self, group: _Group, batch: list[Request]) -> list[Outcome]:
        try:
            return await group.handler.handle(batch)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Nobody knows how much of it was sent. It counts as an attempt, so that the ID ends, whatever the cause.
            log.exception("handler_failed", queue=group.queue_id)
            reason = f"{type(error).__name__}: {error}"
            return [Outcome(Verdict.RETRY, error=reason) for _ in batch]

    def _block_where_asked(self, group: _Group, outcomes: Sequence[Outcome]) -> None:
        # Now, in the loop: until the worker's next tick, requests would start that the target asked not to get.
        for outcome in outcomes:
            if outcome.retry_after is not None and group.origin is not None:
                at = self.clock.now()
                seconds = retry.retry_after_seconds(outcome.status, outcome.retry_after, at=at)
                if seconds:
                    self.signals.block(group.origin, seconds)

    async def _may_start(self, group: _Group) -> bool:
        queue_id, first = group.queue_id, group.requests[0].claim
        until = first.offset + first.tolerance
        # The clock may have been set back since the timer was.
        while (early := group.requests[-1].claim.offset - self.clock.elapsed()) > EARLY_SECONDS:
            await asyncio.sleep(early)
        reason = "slot_passed"
        while (elapsed := self.clock.elapsed()) <= until:
            if first.batch_id in self.lost_batches:
                return self._not_started("lease_lost", group.requests)
            if queue_id in self.blocked_queues and first.key not in self.probes:
                return self._not_started("blocked", group.requests)
            if group.origin is not None and self.signals.is_blocked(group.origin):
                return self._not_started("target_asked_to_wait", group.requests)
            if self._open[queue_id] >= self.most_connections.get(queue_id, 1_000):
                reason = "no_connection_free"
            elif elapsed > self.may_start_until:
                reason = "tick_not_committed"
            elif not group.handler.is_ready():
                reason = "no_token"
            else:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return self._not_started(reason, group.requests)

    def _without_tasks_on_hold(self, requests: list[ScheduledRequest]) -> list[ScheduledRequest]:
        on_hold = [request for request in requests if request.claim.task_id in self.tasks_on_hold]
        if not on_hold:
            return requests
        self._not_started("on_hold", on_hold)
        self._return_unmade(on_hold)
        return [request for request in requests if request.claim.task_id not in self.tasks_on_hold]

    def _not_started(self, reason: str, requests: list[ScheduledRequest]) -> bool:
        self.not_started[reason] += len(requests)
        return False


def _grouped(requests: Sequence[ScheduledRequest], together: float) -> Iterator[list[ScheduledRequest]]:
    """Yield requests in the order of their slots, those together that are within this many seconds."""
    group: list[ScheduledRequest] = []
    for request in sorted(requests, key=lambda request: request.claim.offset):
        if group and request.claim.offset - group[0].claim.offset > together:
            yield group
            group = []
        group.append(request)
    yield group


def _counts(outcome: Outcome, queue: models.Queue) -> bool:
    """Whether a request uses up an attempt. With a quota each one that was made has to be booked."""
    return outcome.started or (outcome.status is not None and bool(queue.quotas))


class SenderThread(Sender):
    """A sender whose event loop runs in a thread of its own."""

    def __init__(self, clock: MinuteClock, make_handler: Callable[[models.Queue], Handler]) -> None:
        super().__init__(clock, make_handler, uvloop.new_event_loop(), block_signals.of_this_host())
        self.thread = threading.Thread(target=self._run, daemon=True, name="sender")
        self._is_stopped = False

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self._is_stopped = True
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._run_until_stopped()
            self.loop.run_until_complete(self.close())
        except Exception:
            log.exception("sender_failed")
        finally:
            self.loop.close()

    def _run_until_stopped(self) -> None:
        while not self._is_stopped:
            try:
                self.loop.run_forever()
            except BaseException:
                # An exit, say, that code of the deployment asked for: it doesn't end what all queues share.
                log.exception("sender_interrupted")
