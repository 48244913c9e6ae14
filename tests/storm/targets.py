"""The targets of requests, in trouble or not, and the record of what reached them."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduling.core import clock, retry
from scheduling.dispatch.targets import origin_of_queue
from scheduling.handlers.base import Outcome, Request

from .sometimes import reached
from .world import Process, World

# How a target behaves, and how it may change.
MODES = ("up", "up", "up", "down", "flaky", "hanging", "busy", "moved", "refusing")
# How long a call may take, by what its queue allows.
_CALL_SECONDS = (10.0, 20.0)


@dataclass(frozen=True)
class Sent:
    """One request that reached a target."""

    t: float
    queue: str
    task_id: int
    user_id: int
    minute: Any
    # Whose sender sent it, and how long after the last commit of its worker.
    process: str
    since_commit: float
    # Scheme, host and port of where it went; empty for what isn't a webhook.
    origin: str = ""


@dataclass
class Targets:
    """All targets of a storm, and what they received."""

    world: World
    dice: random.Random
    received: list[Sent] = field(default_factory=list)
    # When which request of (task, ID) was answered by a success.
    succeeded: list[tuple[float, int, int]] = field(default_factory=list)
    modes: dict[str, str] = field(default_factory=dict)
    are_well: bool = False
    # Whether all of them are down until they are well again.
    are_down: bool = False
    # When the last request of (task, ID) was answered.
    answered: dict[tuple[int, int], float] = field(default_factory=dict)
    # Whether a list is cancelled, as far as those know who cancelled it.
    is_cancelled: Callable[[int], bool] = lambda task_id: False
    # Called when a request is on the wire.
    when_sent: Callable[[Process, int], None] = lambda process, task_id: None

    def mode(self, key: str) -> str:
        if self.are_well or "targets" not in self.world.faults:
            # Single failures happen all the same.
            return "up"
        if self.are_down:
            return self.modes.setdefault(key, "down")
        return self.modes.setdefault(key, self.dice.choice(MODES))

    def change(self) -> None:
        """One of the targets begins to behave in another way."""
        if self.modes and not self.are_down:
            key = self.dice.choice(sorted(self.modes))
            self.modes[key] = self.dice.choice(MODES)
            self.world.note(f"target {key} is {self.modes[key]}")


class SimHandler:
    """A handler whose requests reach a simulated target."""

    def __init__(self, targets: Targets, queue: Any) -> None:
        self.targets, self.world, self.queue = targets, targets.world, queue
        self.key = queue.webhook_url or queue.name
        self.origin = origin_of_queue(queue) or ""
        self.batch_seconds = 0.5 if queue.handler == "python" else 0.0

    def prepare(self) -> None:
        """There is nothing to prepare."""

    async def close(self) -> None:
        """There is nothing to close."""

    def is_ready(self) -> bool:
        return True

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        process = self.world.current
        assert process is not None
        if self._meets_a_cancel(batch[0].task_id, "not made"):
            reached("a request of a cancelled list was not made")
            return [Outcome(retry.Verdict.RETRY, error="not sent", started=False) for _ in batch]
        if not self.targets.are_well and self.targets.dice.random() < 0.04:
            # No socket is free, say.
            reached("a request could not be made at all")
            block_seconds = self.targets.dice.choice((0.0, 0.0, 0.0, 4.0))
            if block_seconds:
                reached("a queue had no token")
            not_sent = Outcome(
                retry.Verdict.RETRY, error="not sent", started=False, block_seconds=block_seconds
            )
            return [not_sent for _ in batch]
        for request in batch:
            self.targets.received.append(
                Sent(
                    self.world.t,
                    request.queue,
                    request.task_id,
                    request.user_id,
                    request.planned_at,
                    process.name,
                    self.world.t - process.committed_at,
                    self.origin,
                )
            )
            self.world.note(f"{process.name}: sends {request.task_id}/{request.user_id}")
        self.targets.when_sent(process, batch[0].task_id)
        outcomes = [await self._answer(request) for request in batch]
        for request in batch:
            self.targets.answered[request.task_id, request.user_id] = self.world.t
        return outcomes

    def _meets_a_cancel(self, task_id: int, what: str) -> bool:
        """Draw whether a request of a list that has been cancelled since it was claimed comes to nothing.

        From dice of its own, so that storms without such a cancel stay as they are.
        """
        return self.targets.is_cancelled(task_id) and (
            random.Random(f"{what} {task_id} {self.world.t}").random() < 0.5
        )

    async def _answer(self, request: Request) -> Outcome:
        dice, mode = self.targets.dice, self.targets.mode(self.key)
        calm = self.targets.are_well
        began = self.world.t
        await asyncio.sleep(dice.choice([0.01, 0.05, 0.3, 1.2]))
        status, error, retry_after = 204, "", None
        if mode == "down" or (mode == "flaky" and dice.random() < 0.5):
            status = 503
        elif mode == "hanging":
            seconds = dice.choice(_CALL_SECONDS)
            await asyncio.sleep(seconds)
            status, error = None, f"no response within {seconds:.0f} s"
        elif mode == "refusing":
            status, error = None, "connection refused"
        elif mode == "busy" and dice.random() < 0.6:
            status, retry_after = 429, str(dice.choice([1, 20, 130]))
        elif mode == "moved":
            status = 302
            reached("a request answered by a redirect")
        elif not calm and dice.random() < 0.06:
            status = dice.choice([500, 404])
        elif not calm and dice.random() < 0.06:
            # Kept open by both, and closed when the request came.
            reached("a kept connection was closed instead of a response")
            return Outcome(retry.Verdict.RETRY, error="closed", retry_in_this_minute=True)
        if self._meets_a_cancel(request.task_id, "closed"):
            reached("a request of a cancelled list was to be made again")
            return Outcome(retry.Verdict.RETRY, error="closed", retry_in_this_minute=True)
        if self.world.at() > request.planned_at + clock.MINUTE:
            reached("a request was still open when its minute ended")
        verdict = retry.verdict(status, error or None)
        if verdict == retry.Verdict.SUCCEEDED:
            self.targets.succeeded.append((self.world.t, request.task_id, request.user_id))
        return Outcome(
            verdict,
            status=status,
            error=error or ("" if verdict == retry.Verdict.SUCCEEDED else f"answered {status}"),
            answer="",
            duration_ms=round((self.world.t - began) * 1000),
            retry_after=retry_after,
        )
