"""The handler `python`: a callable of the deployment, from an allow-list, that is given a batch of requests.

    def send(requests):                     # a list of scheduling.handlers.base.Request
        return [None for request in requests]

It returns a result for each request, in the same order. None or True: succeeded. Fail("why"): failed, not
retried; False is the same without a reason. Anything else, such as an exception or a text, is retried. An
exception that it raises, of any kind (sys.exit() raises one), applies to the whole batch and to nothing else.

Each queue has `max_connections` threads. A call that is given up after its time limit goes on in its thread,
since Python can't stop a thread, and occupies that thread until it ends, even in later minutes. While no thread
is free, a request isn't made, which doesn't count as an attempt.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from django.conf import settings
from django.utils.module_loading import import_string

from scheduling.core import exact_json
from scheduling.core.limits import ERROR_CHARACTERS
from scheduling.core.retry import Verdict

from .base import Fail, Outcome, Request, truncate

PythonCallable = Callable[[Sequence[Request]], Iterable[Any]]


class Threads:
    """How many threads of this process each queue occupies, across minutes: a call can outlive its minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._occupied: Counter[str] = Counter()

    def occupy(self, queue: str, limit: int) -> bool:
        """Occupy a thread of the queue and return True, unless `limit` threads are occupied."""
        with self._lock:
            if self._occupied[queue] >= limit:
                return False
            self._occupied[queue] += 1
            return True

    def release(self, queue: str) -> None:
        with self._lock:
            self._occupied[queue] -= 1


_threads = Threads()


@dataclass
class Python:
    """The calls of one queue during one minute. seconds: the time limit of a call, from its start."""

    path: str
    seconds: float = 10
    threads: int = 50
    queue: str = ""
    # At high rates a call takes a batch, of as many slots as fit without a start beyond its tolerance.
    batch_seconds: float = 0.03

    @classmethod
    def of(cls, queue: Any) -> "Python":
        """queue: an object with a queue's columns."""
        return cls(queue.python_callable, queue.read_timeout_seconds, queue.max_connections, queue.name)

    def __post_init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    def prepare(self) -> None:
        self._pool()
        # An import can take seconds. If it fails, each ID reports why.
        with suppress(Exception, SystemExit):
            callable_at(self.path)

    def is_ready(self) -> bool:
        return True

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        began = time.monotonic()
        try:
            call = callable_at(self.path)
        except (Exception, SystemExit) as error:
            return [_outcome(error, _milliseconds_since(began)) for _ in batch]
        if not _threads.occupy(self.queue, self.threads):
            busy = f"all {self.threads} threads of the queue are busy"
            return [Outcome(Verdict.RETRY, error=busy, started=False) for _ in batch]
        results, began = await self._results(call, list(map(_with_plain_numbers, batch)))
        duration = _milliseconds_since(began)
        if len(results) != len(batch):
            mismatch = Fail(f"{self.path} returned {len(results)} results for {len(batch)} IDs")
            results = [mismatch] * len(batch)
        return [_outcome(result, duration) for result in results]

    async def _results(self, call: PythonCallable, batch: list[Request]) -> tuple[list[Any], float]:
        """Run a call in the thread that was occupied for it; return its results and when it began (monotonic)."""
        loop, began_event = asyncio.get_running_loop(), asyncio.Event()

        def run() -> list[Any]:
            loop.call_soon_threadsafe(began_event.set)
            try:
                return list(call(batch))
            except BaseException as error:
                # Returned, since an event loop treats StopIteration, SystemExit and CancelledError specially.
                return [error] * len(batch)

        began = time.monotonic()
        try:
            future = self._pool().submit(run)
        except RuntimeError:
            _threads.release(self.queue)
            raise
        future.add_done_callback(lambda _: _threads.release(self.queue))
        try:
            await began_event.wait()
            began = time.monotonic()
            async with asyncio.timeout(self.seconds) as limit:
                return await asyncio.wrap_future(future), began
        except Exception as error:
            result = f"the callable did not return within {self.seconds:g} s" if limit.expired() else error
            return [result] * len(batch), began

    def _pool(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="python-handler")
        return self._executor

    async def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def callable_at(path: str) -> PythonCallable:
    """Return the callable at a dotted path. Raises Fail if the settings don't allow it or it can't be imported."""
    if path not in settings.PYTHON_HANDLERS:
        raise Fail(f"{path!r} is not in the setting PYTHON_HANDLERS")
    try:
        return cast(PythonCallable, import_string(path))
    except ImportError as error:
        raise Fail(str(error)) from error


def _milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _with_plain_numbers(request: Request) -> Request:
    """Return a request for a callable, whose data have Python's numbers."""
    return request if request.data is None else replace(request, data=exact_json.plain(request.data))


def _outcome(result: Any, duration_ms: int) -> Outcome:
    if result is None or result is True:
        return Outcome(Verdict.SUCCEEDED, duration_ms=duration_ms)
    failed = result is False or isinstance(result, Fail)
    if result is False:
        error = "the callable returned False"
    elif isinstance(result, BaseException) and not failed:
        error = f"{type(result).__name__}: {result}"
    else:
        error = str(result)
    verdict = Verdict.FAILED if failed else Verdict.RETRY
    return Outcome(verdict, error=truncate(error, ERROR_CHARACTERS), duration_ms=duration_ms)
