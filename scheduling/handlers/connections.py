"""Kept connections, and what became of a request on one that its other end closed.

A server that closes an idle connection and our next request may pass each other. Such a request was not made:
nobody read it, and it goes again at once on a connection of its own. One that the server did read, and closed
in place of an answer, was.
"""

import asyncio
import os
import select
import socket
import struct
from typing import Any

import aiohttp

# So long the other end's kernel has to say whether it took what we sent: some round trips.
ACKNOWLEDGED_SECONDS = 0.2
_LOOK_AGAIN_SECONDS = 0.005
# Where Linux keeps what it knows of a connection: its state, and how much of ours isn't acknowledged.
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_CLOSE_WAIT, _UNACKNOWLEDGED_AT = 8, 24


class Connector(aiohttp.TCPConnector):
    """Gives no connection that the other end has closed, and remembers how each request got its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Requests with a new connection: a reset of those is a real failure.
        self._fresh: set[asyncio.Task | None] = set()
        # What is left of a kept connection once it is closed: a descriptor of ours.
        self._kept: dict[asyncio.Task | None, int] = {}

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        task = asyncio.current_task()
        if task in self._fresh or task in self._kept:
            # aiohttp itself would send a PUT or a DELETE again: a start beside the plan, and counted by nobody.
            raise aiohttp.ServerDisconnectedError()
        while True:
            connection = await super().connect(*arguments, **options)
            if task in self._fresh:
                return connection
            descriptor = connection.transport.get_extra_info("socket").fileno()
            if not _hung_up(descriptor):
                self._kept[task] = os.dup(descriptor)
                return connection
            connection.close()

    async def _create_connection(self, *arguments: Any, **options: Any) -> Any:
        # aiohttp has no other hook but tracing, and that costs each request a tenth of its time.
        self._fresh.add(asyncio.current_task())
        return await super()._create_connection(*arguments, **options)

    def was_kept(self) -> bool:
        """Whether this task's request went out on a connection that had served another."""
        return asyncio.current_task() in self._kept

    async def was_read(self) -> bool:
        """Whether the other end took the request that this task sent on a kept connection, and closed then.

        False too where nobody can tell.
        """
        if _TCP_INFO is None:
            return False
        until = asyncio.get_running_loop().time() + ACKNOWLEDGED_SECONDS
        with socket.socket(fileno=os.dup(self._kept[asyncio.current_task()])) as ours:
            while asyncio.get_running_loop().time() < until:
                # A kernel whose program has closed, or left something unread, answers with a reset.
                if ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return False
                info = ours.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
                if info[0] != _CLOSE_WAIT:
                    return False
                if not struct.unpack_from("=I", info, _UNACKNOWLEDGED_AT)[0]:
                    return True
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return False

    def forget(self) -> None:
        """This task's request has ended."""
        task = asyncio.current_task()
        self._fresh.discard(task)
        if (descriptor := self._kept.pop(task, None)) is not None:
            os.close(descriptor)


def _hung_up(descriptor: int) -> bool:
    # The event loop may not have come to it yet. Nothing is to be read on an idle connection but its end.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
