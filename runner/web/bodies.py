"""Receives a request's body in the event loop: in memory while short, in a nameless file when long."""

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

Receive = Callable[[], Awaitable[dict[str, Any]]]

MEMORY_BYTES = 1024**2
# Written at once, outside of the event loop: a disk may be slow.
WRITE_BYTES = 512 * 1024
# What a body of a form may take from its first byte to its last.
FORM_SECONDS = 10
# A list may take longer, as long as it keeps coming at this rate.
CHECKED_EVERY_SECONDS = 15
SLOWEST_BYTES_PER_SECOND = 1024
# Free space that a body must leave on its disk.
RESERVED_BYTES = 16 * 1024**2


class TooSlow(Exception):
    """The body did not arrive in time."""


class Disconnected(Exception):
    """The client has gone."""


class NoSpace(Exception):
    """The disk that bodies are kept on is full."""


class Incoming:
    """The body of one request. length: as announced; the server delivers no more."""

    def __init__(self, receive: Receive, length: int) -> None:
        self.receive = receive
        self.length = length
        self.received = 0
        self.is_complete = False
        self.parts: list[bytes] = []
        self.pump: asyncio.Task[None] | None = None

    async def short(self, seconds: float) -> IO[bytes] | None:
        """The body in memory, or None if it is not complete after `seconds`. May be called again."""
        self.pump = self.pump or asyncio.ensure_future(self._into_memory())
        await asyncio.wait({self.pump}, timeout=seconds)
        if not self.pump.done():
            return None
        self.pump.result()
        return BytesIO(b"".join(self.parts))

    async def long(self, folder: Path) -> IO[bytes]:
        """The body in a file that nobody sees. Raises TooSlow, Disconnected and NoSpace."""
        if shutil.disk_usage(folder).free < self.length + RESERVED_BYTES:
            raise NoSpace
        file = cast(IO[bytes], SpooledTemporaryFile(MEMORY_BYTES, dir=str(folder)))  # noqa: SIM115
        self.pump = asyncio.ensure_future(self._into(file))
        before = 0
        try:
            while not self.pump.done():
                await asyncio.wait({self.pump}, timeout=CHECKED_EVERY_SECONDS)
                if (
                    not self.pump.done()
                    and self.received - before < SLOWEST_BYTES_PER_SECOND * CHECKED_EVERY_SECONDS
                ):
                    raise TooSlow
                before = self.received
            self.pump.result()
        except BaseException:
            self.stop()
            file.close()
            raise
        file.seek(0)
        return file

    async def drain(self, most: int, seconds: float) -> None:
        """Throw away what still comes, so that a client that is still sending gets to read the response."""

        async def read() -> None:
            while not self.is_complete and self.received < most:
                await self._next()

        pump = self.pump if self.pump and not self.pump.done() else asyncio.ensure_future(read())
        await asyncio.wait({pump}, timeout=seconds)
        self.stop()
        if pump.done() and not pump.cancelled():
            pump.exception()
        pump.cancel()

    def stop(self) -> None:
        if self.pump:
            self.pump.cancel()

    async def _into_memory(self) -> None:
        while not self.is_complete:
            self.parts.append(await self._next())

    async def _into(self, file: IO[bytes]) -> None:
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        size = 0
        try:
            while not self.is_complete:
                part = await self._next()
                parts.append(part)
                size += len(part)
                if size >= WRITE_BYTES or self.is_complete:
                    await loop.run_in_executor(None, file.write, b"".join(parts))
                    parts, size = [], 0
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise NoSpace from None
            raise

    async def _next(self) -> bytes:
        message = await self.receive()
        if message["type"] != "http.request":
            raise Disconnected
        part: bytes = message.get("body", b"")
        self.received += len(part)
        self.is_complete = not message.get("more_body", False)
        if self.is_complete and self.received < self.length:
            raise Disconnected
        return part
