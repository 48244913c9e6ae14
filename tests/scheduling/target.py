"""A web server that records when each request starts, and answers, or doesn't, as a test wants."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request as the target saw it. at: wall time when its first line came. n: from 0, in that order."""

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
    """A whole answer. Headers: `Retry_After="20"`."""
    lines = [f"HTTP/1.1 {code} Words", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Target:
    """answer: what a request gets: bytes; None to close the connection; or a coroutine that writes.

    close_after: whether each answer is the connection's last, without a word about it.
    """

    answer: Callable[[Seen], Answer] = lambda seen: status(200, b"ok")
    close_after: bool = False
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> "Target":
        ready = threading.Event()
        self.connections = 0

        def run() -> None:
            asyncio.run(self._serve(ready))

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(5)
        return self

    def __exit__(self, *exception) -> None:
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    async def _serve(self, ready: threading.Event) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.stopped.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                at = time.time()
                method, path, _ = line.decode().split(" ", 2)
                headers = {}
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    headers[name.strip().lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                seen = Seen(len(self.seen), at, number, method, path, headers, body)
                self.seen.append(seen)
                answer = self.answer(seen)
                if answer is None:
                    break
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(writer)
                    break
                if self.close_after:
                    break
        writer.close()
