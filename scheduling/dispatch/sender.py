"""Requests of one minute go out at their slots, from a thread with an event loop of its own.

The thread touches no database. What is claimed comes in, what came of it is taken out; a request starts only
while its slot's tolerance lasts, its queue isn't held, and the seat's last turn is committed and recent.
"""

import asyncio
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import uvloop

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.dispatch.messages import RequestResult, ScheduledRequest
from scheduling.handlers.base import Handler, Outcome, Request

log = structlog.get_logger(__name__)

# How often a request whose turn isn't committed yet looks again, while its slot lasts.
LOOK_AGAIN_SECONDS = 0.005


@dataclass(frozen=True)
class MinuteClock:
    """Seconds since a minute's start: wall time read once, then the monotonic clock."""

    anchor: float

    @classmethod
    def of(cls, minute_timestamp: float) -> "MinuteClock":
        """minute_timestamp: the minute's start in seconds since 1970."""
        readings = []
        for _ in range(5):
            before = time.monotonic()
            wall = time.time()
            after = time.monotonic()
            readings.append((after - before, (before + after) / 2 - wall))
        # The reading that was interrupted least.
        return cls(min(readings)[1] + minute_timestamp)

    def elapsed(self) -> float:
        return time.monotonic() - self.anchor


class Sender(threading.Thread):
    """Makes requests at their slots. make_handler: gives the handler of a queue, in the loop's thread."""

    def __init__(self, clock: MinuteClock, make_handler: Callable[[models.Queue], Handler]) -> None:
        super().__init__(daemon=True, name="sender")
        self.clock = clock
        self.make_handler = make_handler
        self.came: deque[RequestResult] = deque()
        # Seconds after the minute's start up to which starts are allowed: moved on by each committed turn.
        self.may_start_until = 0.0
        # Queues whose requests may not start now: paused, held, or behind an open breaker.
        self.held: frozenset[int] = frozenset()
        self.lost: set[int] = set()
        # A queue with an open breaker sends its probe all the same: the key of that ID.
        self.probes: set[int] = set()
        self.most_connections: dict[int, int] = {}
        # How many IDs were not started, by why: for the log.
        self.not_started: Counter[str] = Counter()
        self._open: dict[int, int] = defaultdict(int)
        # By queue and version: what an edit changes is so from the next claim on, not from the next minute.
        self._handlers: dict[tuple[int, int], Handler] = {}
        self._tasks: set[asyncio.Task] = set()
        # Counted by the seat's thread alone: of two threads that add to one number, one may be lost.
        self._given = self._taken = 0
        self._told = False
        self._loop = uvloop.new_event_loop()

    # --- From the seat's thread ---

    @property
    def pending(self) -> int:
        """Claimed IDs whose outcome hasn't been taken out."""
        return self._given - self._taken

    def send(self, due: Sequence[ScheduledRequest]) -> None:
        self._given += len(due)
        self._loop.call_soon_threadsafe(self._plan, list(due))

    def take(self) -> list[RequestResult]:
        """What came since the last call."""
        taken = []
        while self.came:
            taken.append(self.came.popleft())
        self._taken += len(taken)
        return taken

    def end(self) -> None:
        """Close connections, end the thread. What is still under way gets no outcome."""
        self._told = True
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self.join(5)

    # --- In the loop's thread ---

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._run_until_told()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(self._close())
        except Exception:
            log.exception("sender_failed")
        finally:
            self._loop.close()

    def _run_until_told(self) -> None:
        while not self._told:
            try:
                self._loop.run_forever()
            except BaseException:
                # An exit, say, that code of the deployment asked for: it doesn't end what all queues share.
                log.exception("sender_interrupted")

    async def _close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
        for handler in self._handlers.values():
            await handler.close()

    def _handler(self, queue: models.Queue) -> Handler:
        key = queue.pk, queue.version
        if key not in self._handlers:
            self._handlers[key] = self.make_handler(queue)
            self._handlers[key].prepare()
        return self._handlers[key]

    def _plan(self, due: list[ScheduledRequest]) -> None:
        # What goes together is of one batch: it may start, or is lost, as a whole.
        by_batch: dict[tuple[int, int], list[ScheduledRequest]] = defaultdict(list)
        for item in due:
            by_batch[item.queue_id, item.claim.batch_id].append(item)
        for (queue_id, _), items in by_batch.items():
            try:
                together = self._handler(items[0].queue).batch_seconds
            except BaseException as error:
                # A queue whose handler can't be made fails alone.
                log.exception("handler_not_made", queue=queue_id)
                failed = Outcome(Verdict.FAILED, error=f"{type(error).__name__}: {error}")
                self.came.extend([RequestResult(item, failed, self.clock.elapsed()) for item in items])
                continue
            group: list[ScheduledRequest] = []
            for item in sorted(items, key=lambda item: item.claim.offset):
                if group and item.claim.offset - group[0].claim.offset > together:
                    self._at_slot(group)
                    group = []
                group.append(item)
            self._at_slot(group)

    def _at_slot(self, group: list[ScheduledRequest]) -> None:
        # At the last slot of the group, so that none starts before its own.
        self._loop.call_at(self.clock.anchor + group[-1].claim.offset, self._start, group)

    def _start(self, group: list[ScheduledRequest]) -> None:
        task = self._loop.create_task(self._make(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, group: list[ScheduledRequest]) -> None:
        queue, queue_id = group[0].queue, group[0].queue_id
        if not await self._may_start(group):
            self.came.extend([RequestResult(item, None, None) for item in group])
            return
        self._open[queue_id] += len(group)
        started = self.clock.elapsed()
        try:
            outcomes = await self._handle(queue, [item.request for item in group])
            self.came.extend(
                [
                    RequestResult(item, outcome, started if outcome.started else None)
                    for item, outcome in zip(group, outcomes, strict=True)
                ]
            )
        finally:
            self._open[queue_id] -= len(group)

    async def _handle(self, queue: models.Queue, batch: list[Request]) -> list[Outcome]:
        try:
            return await self._handler(queue).handle(batch)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Nobody knows what of it went out. As an attempt it comes to an end, whatever it is.
            log.exception("handler_failed", queue=queue.pk)
            words = f"{type(error).__name__}: {error}"
            return [Outcome(Verdict.RETRY, error=words) for _ in batch]

    async def _may_start(self, group: list[ScheduledRequest]) -> bool:
        queue_id, first = group[0].queue_id, group[0].claim
        until = first.offset + first.tolerance
        why = "slot_passed"
        while (elapsed := self.clock.elapsed()) <= until:
            if first.batch_id in self.lost:
                return self._not_started("lease_lost", group)
            if queue_id in self.held and first.key not in self.probes:
                return self._not_started("held", group)
            if self._open[queue_id] >= self.most_connections.get(queue_id, 1_000):
                why = "no_connection_free"
            elif elapsed > self.may_start_until:
                why = "turn_not_committed"
            else:
                return True
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return self._not_started(why, group)

    def _not_started(self, why: str, group: list[ScheduledRequest]) -> bool:
        self.not_started[why] += len(group)
        return False
