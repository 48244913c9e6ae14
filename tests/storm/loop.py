"""An asyncio event loop on simulated time: it runs what is due and never waits."""

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class _NoSelector:
    def select(self, timeout: float | None = None) -> list[Any]:
        return []


class SimLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated sender. now: the simulated monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now()

    def _write_to_self(self) -> None:
        """Nothing waits that would have to be woken."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no file descriptors."""

    def next_at(self) -> float | None:
        """When the next callback is due; None if there is none."""
        if self._ready:
            return self.time()
        while self._scheduled and self._scheduled[0]._cancelled:
            # As BaseEventLoop does itself before it looks at the first timer.
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        return self._scheduled[0]._when if self._scheduled else None

    def run_due(self) -> None:
        """Run every callback that is due at this moment."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while (at := self.next_at()) is not None and at <= self.time():
                self._run_once()
        finally:
            events._set_running_loop(before)

    def discard(self) -> None:
        """Forget everything, as the end of a process does."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False
            # Now, and as a cancellation: what is collected later as garbage is told so by an error that gets logged.
            coroutine = task.get_coro()
            with suppress(asyncio.CancelledError, StopIteration):
                if coroutine.cr_frame is not None:
                    coroutine.throw(asyncio.CancelledError())
        self._ready.clear()
        self._scheduled.clear()
