"""`python`: a callable of the deployment, from an allow-list, given a batch, answering for each ID.

    def send(requests):                     # scheduling.handlers.base.Request, some
        return [None for request in requests]

For each request, in their order: None or True: done. Fail("why"): failed for good; False is the same without
words. Anything else, an exception or a text, is a failure that is tried again. An exception that is raised
counts for the whole batch.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from ..retry import Verdict
from .base import Fail, Outcome, Request, cut


@dataclass
class Python:
    """The calls of one queue during one minute."""

    path: str
    seconds: float = 10
    # At high rates a batch: so many slots share a call that none starts later than its tolerance.
    together_seconds: float = 0.03

    @classmethod
    def of(cls, queue: Any) -> "Python":
        """queue: an object with the columns of one."""
        return cls(queue.python_callable, queue.read_timeout_seconds)

    def prepare(self) -> None:
        # Imports may take seconds. What is wrong with it is said of each ID.
        with suppress(Fail):
            callable_at(self.path)

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        began = time.monotonic()
        try:
            call = callable_at(self.path)
            async with asyncio.timeout(self.seconds):
                answers = await asyncio.to_thread(_call, call, list(batch))
        except TimeoutError:
            # The thread goes on: Python has no way to end one.
            answers = [f"no answer within {self.seconds:g} s"] * len(batch)
        except Exception as error:
            answers = [error] * len(batch)
        duration = round((time.monotonic() - began) * 1000)
        if len(answers) != len(batch):
            words = f"{self.path} answered for {len(answers)} of {len(batch)} IDs"
            answers = [Fail(words)] * len(batch)
        return [_outcome(answer, duration) for answer in answers]

    async def close(self) -> None:
        return None


def callable_at(path: str) -> Callable[[Sequence[Request]], Iterable[Any]]:
    """Return the callable; raises Fail for one that the settings don't name, or that isn't there."""
    if path not in settings.PYTHON_HANDLERS:
        raise Fail(f"{path!r} is not among PYTHON_HANDLERS")
    try:
        return import_string(path)
    except ImportError as error:
        raise Fail(str(error)) from error


def _call(call: Callable[[Sequence[Request]], Iterable[Any]], batch: list[Request]) -> list[Any]:
    return list(call(batch))


def _outcome(answer: Any, duration: int) -> Outcome:
    if answer is None or answer is True:
        return Outcome(Verdict.SUCCEEDED, duration_ms=duration)
    if answer is False or isinstance(answer, Fail):
        return Outcome(Verdict.FAILED, error=cut(answer or "answered False", 200), duration_ms=duration)
    words = f"{type(answer).__name__}: {answer}" if isinstance(answer, Exception) else str(answer)
    return Outcome(Verdict.RETRY, error=cut(words, 200), duration_ms=duration)
