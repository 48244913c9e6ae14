"""Requests that wait for outcomes: none has a thread meanwhile, and one look at the database serves all of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from django.db import close_old_connections

from scheduling.reports.outcomes import Awaited, newest_entries

# How often is looked for what has arrived, while somebody waits.
LOOK_SECONDS = 0.25
# Of one client, and of all. A request that waits costs some kilobytes.
WAITING_OF_CLIENT, WAITING = 50, 2_000

# Returns the newest entry of each queue that has one newer than the given one.
Look = Callable[[int], Awaitable[dict[int, int]]]


def look(after: int) -> dict[int, int]:
    """Look for entries that are newer than the given one, in a thread."""
    try:
        return newest_entries(after)
    finally:
        close_old_connections()


class TooMany(Exception):
    """The client, or all clients, have too many requests that wait."""


class Waiting:
    """The requests of one process that wait."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._waiting: dict[asyncio.Future[None], Awaited] = {}
        self._of_client: Counter[str] = Counter()
        self._watch: asyncio.Task[None] | None = None
        self._is_over = False

    async def until_arrived(
        self, awaited: Awaited, *, client: str, seconds: float, disconnect: asyncio.Future[None]
    ) -> bool:
        """Wait until what is awaited has arrived, at most until the client is gone; return whether it has.

        Raises TooMany.
        """
        if len(self._waiting) >= WAITING or self._of_client[client] >= WAITING_OF_CLIENT:
            raise TooMany
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[arrived] = awaited
        self._of_client[client] += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._tell())
        try:
            if not self._is_over:
                await asyncio.wait(
                    [arrived, disconnect], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                )
            return arrived.done() and not arrived.cancelled()
        finally:
            del self._waiting[arrived]
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def end(self) -> None:
        """Let nobody wait any more: the process is told to stop, and would wait for them."""
        self._is_over = True
        for arrived in self._waiting:
            arrived.cancel()

    async def _tell(self) -> None:
        """Tell who waits for what has arrived, until nobody waits."""
        while self._waiting:
            # Where the database can't be asked, the next look may be answered.
            with suppress(Exception):
                newest = await self._look(min(awaited.after for awaited in self._waiting.values()))
                self._tell_of(newest)
            await asyncio.sleep(LOOK_SECONDS)

    def _tell_of(self, newest: dict[int, int]) -> None:
        of_any = max(newest.values(), default=0)
        for arrived, awaited in self._waiting.items():
            newest_event = of_any if awaited.queue_id is None else newest.get(awaited.queue_id, 0)
            if newest_event > awaited.after and not arrived.done():
                arrived.set_result(None)
