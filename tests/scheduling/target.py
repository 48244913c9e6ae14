"""A web server that records when each request starts, and responds, or doesn't, as a test wants."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class ReceivedRequest:
    """One request as the target saw it. at: wall time of its first line. n: from 0, in that order."""

    n: int
    at: float
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def user_id(self) -> int:
        return json.loads(self.body)["user_id"]


Answer = bytes | None | Callable[[asyncio.StreamWriter], Awaitable[None]]


def status(code: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a whole response. Headers: `Retry_After="20"`."""
    lines = [f"HTTP/1.1 {code} Words", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Target:
    """answer: what a request gets: bytes; None to close the connection; or a coroutine function that writes.

    close_after: whether each response is the connection's last, without saying so. stay: whether a connection
    remains open after a coroutine function. tls: with the certificate of the target.
    """

    answer: Callable[[ReceivedRequest], Answer] = lambda request: status(200, b"ok")
    close_after: bool = False
    stay: bool = False
    tls: ssl.SSLContext | None = None
    requests: list[ReceivedRequest] = field(default_factory=list)

    def __enter__(self) -> "Target":
        ready = threading.Event()
        self.connections = 0

        def run() -> None:
            asyncio.run(self._serve(ready))

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(120)
        return self

    def __exit__(self, *exception) -> None:
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(120)

    @property
    def url(self) -> str:
        return f"{self.origin}/in"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, ready: threading.Event) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.stopped.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # The test may be over before the exchange is.
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._exchanges(reader, writer, self.connections)
        writer.close()

    async def _exchanges(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while line := await reader.readline():
            at = time.time()
            method, path, _ = line.decode().split(" ", 2)
            headers = {}
            while (header := await reader.readline()).strip():
                name, _, value = header.decode().partition(":")
                headers[name.strip().lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            request = ReceivedRequest(len(self.requests), at, connection, method, path, headers, body)
            self.requests.append(request)
            answer = self.answer(request)
            if answer is None:
                return
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
                if self.close_after:
                    return
            else:
                await answer(writer)
                if not self.stay:
                    return
