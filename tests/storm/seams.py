"""Where the real code meets the simulated world: clocks, sleep, randomness, and a sender on the world's event loop.

Everything else runs as it is. The patches last as long as one storm.
"""

import random as random_module
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import structlog

from scheduling import jobs, store
from scheduling.core.clock_watch import ClockWatch
from scheduling.core.time_limit import TimeLimit
from scheduling.dispatch import minute_worker
from scheduling.dispatch import sender as sender_module
from scheduling.dispatch.block_signals import BlockSignals
from scheduling.dispatch.minute_clock import Clocks, MinuteClock
from scheduling.dispatch.sender import Sender

from .loop import SimLoop
from .targets import SimHandler, Targets
from .world import World


class SimSender(Sender):
    """The real sender, on an event loop that the world runs."""

    def __init__(self, world: World, clock: MinuteClock, targets: Targets) -> None:
        assert world.current is not None
        signals = BlockSignals(world.current.host.block_signals, world.monotonic)
        super().__init__(clock, lambda queue: SimHandler(targets, queue), SimLoop(world.monotonic), signals)
        self.world = world
        world.sender_starts(self)

    @property
    def has_results(self) -> bool:
        return bool(self._results)

    @property
    def has_unstarted(self) -> bool:
        """Whether something waits for its slot, or for the next committed tick."""
        return self.pending_count > len(self._results) + sum(self._open.values())

    def stop(self) -> None:
        self.world.sender_ends(self)


def clocks_of(world: World) -> Clocks:
    """The clocks of the present process and its host."""
    return Clocks(now=world.at, host=world.host_now, monotonic=world.monotonic, sleep=world.sleep)


class SimMinuteWorker(minute_worker.MinuteWorker):
    """The real worker, with the owner and the sender of its simulated process."""

    world: World
    targets: Targets

    def __init__(self, number: int, index: int, clocks: Clocks) -> None:
        world, process = self.world, self.world.current
        assert process is not None
        super().__init__(
            number,
            index,
            clocks,
            owner=process.owner,
            make_sender=lambda clock: SimSender(world, clock, self.targets),
            is_stopping=lambda: process.is_stopping,
        )


@contextmanager
def simulated(
    world: World, targets: Targets, events: Callable[[Any, dict[str, Any]], None]
) -> Iterator[None]:
    """Run the code in this world. events: called with the name and the fields of each log event."""
    dice = world.dice

    def log(_logger: Any, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
        events(fields.get("event"), fields)
        raise structlog.DropEvent

    worker = type("Worker", (SimMinuteWorker,), {"world": world, "targets": targets})
    before = structlog.get_config()
    structlog.configure(processors=[log], cache_logger_on_first_use=False)
    with ExitStack() as stack:
        for thing, name, value in (
            (time, "monotonic", world.monotonic),
            (time, "time", world.wall),
            (time, "sleep", world.sleep),
            (TimeLimit.__init__, "__defaults__", (world.monotonic,)),
            (store, "now", world.at),
            (secrets, "randbits", dice.getrandbits),
            (secrets, "token_hex", lambda n=16: f"{dice.getrandbits(8 * n):0{2 * n}x}"),
            (random_module, "random", dice.random),
            (random_module, "shuffle", dice.shuffle),
            (jobs, "_clock_watch", ClockWatch(world.monotonic)),
            (jobs, "Clocks", lambda now: clocks_of(world)),
            (minute_worker, "MinuteWorker", worker),
            (sender_module, "POLL_SECONDS", 0.2),
        ):
            stack.enter_context(patch.object(thing, name, value))
        try:
            yield
        finally:
            structlog.configure(**before)
