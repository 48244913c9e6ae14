"""The contract of a handler: the requests that it is given, and the outcome that it returns for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from scheduling.core.limits import ANSWER_CHARACTERS
from scheduling.core.retry import Verdict


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt at one ID.

    planned_at: start of the minute in which it runs. attempt: 1 for the first. key_part: the random part that
    the installation gives to its keys. external_id: of an ID that is text. data: the columns that travel with it.
    """

    user_id: int
    task_id: int
    task_name: str
    queue: str
    planned_at: datetime
    attempt: int
    key_part: str = ""
    external_id: str | None = None
    data: Mapping[str, Any] | None = None

    @property
    def idempotency_key(self) -> str:
        """Stays the same for every attempt at one ID of one task, whatever minute it runs in."""
        return message_key(self.key_part, self.task_id, self.user_id)


def message_key(key_part: str, *facts: int | str) -> str:
    """Return a `webhook-id`. key_part: the installation's, empty for tasks that are older than it."""
    # Of an ID that is text, the number that stands for it: x in place of the sign.
    words = [f"x{-fact}" if isinstance(fact, int) and fact < 0 else str(fact) for fact in facts]
    return "_".join(["msg", *([key_part] if key_part else []), *words])


class Outcome(NamedTuple):
    """The result of one request: a verdict, and what is kept of the response.

    status: the HTTP status, if there was a response.
    error: what went wrong, in words.
    answer: the beginning of the response's body.
    retry_after: the Retry-After header as received.
    started: False if nothing was sent, so that it doesn't count as an attempt.
    retry_in_this_minute: the attempt failed through no fault of the target, so it takes the next free slot
    instead of waiting for a later minute.
    keep_answer: the answer is stored although the request succeeded as expected.
    unreached: no connection came about, so that another host may have to make the request.
    block_seconds: the queue's credentials can't be used, so nothing was sent; how long to wait before the next try.
    """

    verdict: Verdict
    status: int | None = None
    error: str = ""
    answer: str = ""
    duration_ms: int = 0
    retry_after: str | None = None
    started: bool = True
    retry_in_this_minute: bool = False
    keep_answer: bool = False
    unreached: bool = False
    block_seconds: float = 0.0


class Handler(Protocol):
    """Makes the requests of one queue during one minute."""

    @property
    def batch_seconds(self) -> float:
        """Requests whose slots are within this many seconds of each other are given to `handle` together."""
        ...

    def prepare(self) -> None:
        """Do what the first request would otherwise wait for. Called in the event loop, a second ahead."""
        ...

    def is_ready(self) -> bool:
        """Whether `handle` could begin at once. Until then requests wait, as long as their slots last."""
        ...

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        """Make the requests; return an outcome for each, in the same order. Expected failures are outcomes."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class Fail(Exception):
    """Returned or raised by a callable for an ID that must not be retried."""


def truncate(text: Any, length: int = ANSWER_CHARACTERS) -> str:
    """Return the beginning of a text in a form that any database stores.

    NUL and lone surrogates (bytes of a header or a file name that aren't UTF-8) are replaced.
    """
    written = str(text)
    storable = written if written.isascii() else written.encode("utf-8", "replace").decode()
    return storable.replace("\0", "\N{REPLACEMENT CHARACTER}")[:length]
