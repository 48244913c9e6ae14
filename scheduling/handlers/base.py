"""What goes into a handler, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from scheduling.core.retry import Verdict

ANSWER_CHARACTERS = 500
ERROR_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Request:
    """One request for one ID. attempt: from 1. planned_at: start of the minute in which it runs."""

    user_id: int
    task_id: int
    task_name: str
    queue: str
    planned_at: datetime
    attempt: int

    @property
    def key(self) -> str:
        """The same for every attempt at one ID of one task, whatever minute it runs in."""
        return f"msg_{self.task_id}_{self.user_id}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: a verdict, and what is kept of the answer.

    status: of an HTTP answer. error: what went wrong, in words. retry_after: the header, as it came. started:
    False when nothing went out, so that it was no attempt. in_this_minute: an attempt that failed by no fault
    of the target, so that it needn't wait for a minute of its own: it takes the next slot there is.
    """

    verdict: Verdict
    status: int | None = None
    error: str = ""
    answer: str = ""
    duration_ms: int = 0
    retry_after: str | None = None
    started: bool = True
    in_this_minute: bool = False


class Handler(Protocol):
    """Makes the requests of one queue during one minute."""

    # Requests whose slots lie within this many seconds go in together.
    together_seconds: float

    def prepare(self) -> None:
        """Make ready what the first request would have to wait for. Called in the loop, a second ahead."""
        ...

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        """Make the requests; one outcome for each, in their order. Raises nothing that can be expected."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def cut(text: Any, most: int = ANSWER_CHARACTERS) -> str:
    """As much of a text as is kept, and nothing that a database doesn't take: NUL, halves of characters.

    The latter stand for bytes of a header, or of a file's name, that are no UTF-8.
    """
    whole = str(text).encode("utf-8", "replace").decode()
    return whole.replace("\0", "�")[:most]


class Fail(Exception):
    """What a callable answers, or raises, for what must not be tried again."""
