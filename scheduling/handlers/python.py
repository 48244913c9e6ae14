"""`python`: a callable of the deployment, from an allow-list, given a batch, answering for each ID.

    def send(requests):                     # scheduling.handlers.base.Request, some
        return [None for request in requests]

For each request, in their order: None or True: done. Fail("why"): failed for good; False is the same without
words. Anything else, an exception or a text, is a failure that is tried again. An exception that is raised,
of whatever kind (sys.exit() raises one), counts for the whole batch and ends nothing else.

Each queue has `max_connections` threads. A call that is given up after its time-out goes on in its thread, for
Python has no way to end one; it takes that place until it ends, in later minutes too. Without a free place a
request isn't made, and that is no attempt.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from scheduling.core.retry import Verdict

from .base import Fail, Outcome, Request, cut


class Places:
    """How many calls of each queue are in a thread of this process: minutes come and go, calls may hang on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, queue: str, most: int) -> bool:
        """Take a place, if fewer than `most` are taken."""
        with self._lock:
            if self._taken[queue] >= most:
                return False
            self._taken[queue] += 1
            return True

    def give_back(self, queue: str) -> None:
        with self._lock:
            self._taken[queue] -= 1


_places = Places()


@dataclass
class Python:
    """The calls of one queue during one minute. seconds: from when a call has begun."""

    path: str
    seconds: float = 10
    threads: int = 50
    queue: str = ""
    # At high rates a batch: so many slots share a call that none starts later than its tolerance.
    together_seconds: float = 0.03

    @classmethod
    def of(cls, queue: Any) -> "Python":
        """queue: an object with the columns of one."""
        return cls(queue.python_callable, queue.read_timeout_seconds, queue.max_connections, queue.name)

    def __post_init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def prepare(self) -> None:
        self._pool = self._pool or ThreadPoolExecutor(self.threads, thread_name_prefix="python-handler")
        # Imports may take seconds. What is wrong with it is said of each ID.
        with suppress(Exception, SystemExit):
            callable_at(self.path)

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        began = time.monotonic()
        try:
            call = callable_at(self.path)
        except (Exception, SystemExit) as error:
            return [_outcome(error, _since(began)) for _ in batch]
        if not _places.take(self.queue, self.threads):
            words = f"all of {self.threads} threads are taken"
            return [Outcome(Verdict.RETRY, error=words, started=False) for _ in batch]
        answers, began = await self._answers(call, list(batch))
        duration = _since(began)
        if len(answers) != len(batch):
            words = f"{self.path} answered for {len(answers)} of {len(batch)} IDs"
            answers = [Fail(words)] * len(batch)
        return [_outcome(answer, duration) for answer in answers]

    async def _answers(
        self, call: Callable[[Sequence[Request]], Iterable[Any]], batch: list[Request]
    ) -> tuple[list[Any], float]:
        """Return what came of a call in a place that was taken, and when it began (monotonic seconds)."""
        self.prepare()
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def in_thread() -> list[Any]:
            loop.call_soon_threadsafe(begun.set)
            try:
                return list(call(batch))
            except BaseException as error:
                # As an answer: an event loop has its own use for StopIteration, SystemExit and CancelledError.
                return [error] * len(batch)

        began = time.monotonic()
        try:
            made = self._pool.submit(in_thread)
        except RuntimeError:
            _places.give_back(self.queue)
            raise
        made.add_done_callback(lambda _: _places.give_back(self.queue))
        try:
            await begun.wait()
            began = time.monotonic()
            async with asyncio.timeout(self.seconds) as limit:
                return await asyncio.wrap_future(made), began
        except Exception as error:
            answer = f"no answer within {self.seconds:g} s" if limit.expired() else error
            return [answer] * len(batch), began

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def callable_at(path: str) -> Callable[[Sequence[Request]], Iterable[Any]]:
    """Return the callable; raises Fail for one that the settings don't name, or that isn't there."""
    if path not in settings.PYTHON_HANDLERS:
        raise Fail(f"{path!r} is not among PYTHON_HANDLERS")
    try:
        return import_string(path)
    except ImportError as error:
        raise Fail(str(error)) from error


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _outcome(answer: Any, duration: int) -> Outcome:
    if answer is None or answer is True:
        return Outcome(Verdict.SUCCEEDED, duration_ms=duration)
    if answer is False or isinstance(answer, Fail):
        return Outcome(Verdict.FAILED, error=cut(answer or "answered False", 200), duration_ms=duration)
    words = f"{type(answer).__name__}: {answer}" if isinstance(answer, BaseException) else str(answer)
    return Outcome(Verdict.RETRY, error=cut(words, 200), duration_ms=duration)
