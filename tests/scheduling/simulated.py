"""Time that only moves when a test says so: minute workers and senders run on it in milliseconds."""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from scheduling import models
from scheduling.core import clock
from scheduling.core.retry import Verdict
from scheduling.dispatch.block_signals import SIZE, BlockSignals
from scheduling.dispatch.minute_clock import Clocks, MinuteClock
from scheduling.dispatch.minute_worker import MinuteWorker
from scheduling.dispatch.sender import Sender
from scheduling.handlers import factory
from scheduling.handlers.base import Handler, Outcome, Request


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a simulation's. Its timers run when `SimulatedTime` moves."""

    def __init__(self, time: "SimulatedTime") -> None:
        super().__init__()
        self._simulated = time

    def time(self) -> float:
        return self._simulated.seconds

    def run_ready(self) -> None:
        """Run what is ready, and what that makes ready, without any time passing."""
        self.call_soon(self.stop)
        self.run_forever()
        while self._ready:
            self.call_soon(self.stop)
            self.run_forever()

    def next_timer(self) -> float | None:
        """When the next timer is due."""
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        return self._scheduled[0].when() if self._scheduled else None


class SimulatedHandler:
    """Answers each request as a test says, `seconds` later. `seen`: the requests, in order."""

    def __init__(
        self,
        answer: Callable[[Request], Outcome] = lambda request: Outcome(Verdict.SUCCEEDED, status=200),
        *,
        seconds: float = 0.02,
        batch_seconds: float = 0.0,
    ) -> None:
        self.answer, self.seconds, self.batch_seconds = answer, seconds, batch_seconds
        self.requests: list[Request] = []
        self.batches: list[list[int]] = []
        self.is_prepared = self.is_closed = False

    def prepare(self) -> None:
        self.is_prepared = True

    def is_ready(self) -> bool:
        return True

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        self.requests += batch
        self.batches.append([request.user_id for request in batch])
        await asyncio.sleep(self.seconds)
        return [self.answer(request) for request in batch]

    async def close(self) -> None:
        self.is_closed = True


class SimulatedTime:
    """A world's time: `seconds` since `start`, the same for the database's clock and everybody's."""

    def __init__(self, start: datetime) -> None:
        self.start, self.seconds = start, 0.0
        # How far the database's clock is ahead.
        self.database_offset = timedelta()
        self.loop = SimulatedLoop(self)
        self.signals = BlockSignals(bytearray(SIZE), lambda: self.seconds)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds) + self.database_offset

    def sleep(self, seconds: float) -> None:
        """Let time pass; whatever the event loop has to do meanwhile is done at its time."""
        # Not less than what a float can tell apart.
        until = self.seconds + max(seconds, 1e-6)
        self.loop.run_ready()
        while (due := self.loop.next_timer()) is not None and due <= until:
            self.seconds = max(self.seconds, due)
            self.loop.run_ready()
        self.seconds = until
        self.loop.run_ready()

    def clocks(self, host_offset: timedelta = timedelta()) -> Clocks:
        return Clocks(
            now=self.now,
            host=lambda: self.start + timedelta(seconds=self.seconds) + host_offset,
            monotonic=lambda: self.seconds,
            sleep=self.sleep,
        )

    def sender(self, make_handler: Callable[[models.Queue], Handler]) -> Callable[[MinuteClock], Sender]:
        """Return what makes a worker's sender, on this time's event loop."""
        return lambda minute_clock: Sender(minute_clock, make_handler, self.loop, self.signals)

    def worker(
        self,
        minute: datetime,
        *,
        owner: int = 1,
        host_offset: timedelta = timedelta(),
        make_handler: Callable[[models.Queue], Handler] = factory.make_handler,
        **options,
    ) -> MinuteWorker:
        return MinuteWorker(
            clock.minute_number(minute),
            0,
            self.clocks(host_offset),
            owner=owner,
            make_sender=self.sender(make_handler),
            **options,
        )

    def tick_to_the_end(self, worker: MinuteWorker) -> None:
        """Do what a worker's `serve` does, but keep the connection, whose transaction is the test's."""
        while (due := worker.tick()) is not None:
            self.sleep(due - worker.clock.elapsed())
        worker.finish()
