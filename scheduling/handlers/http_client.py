"""An HTTP/1.1 client for one target, on asyncio's transports.

It owns its sockets, since what a webhook needs is what HTTP libraries hide: the address that was checked is the
one that is connected to; a time-out names its phase; a request that a reused connection lost unread can be told
from one that was read; and a status line counts whatever is wrong after it. Redirects are not followed, and
proxies from the environment are not used.
"""

import asyncio
import functools
import itertools
import os
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple, cast

import yarl

from . import lookup, ssrf
from .http_response import NotHttp, Part, ResponseReader

# After this, the next address of a name is tried as well (RFC 8305).
NEXT_ADDRESS_SECONDS = 0.25
# How long the target's kernel has to report whether the target read what was sent: a few round trips.
ACKNOWLEDGED_SECONDS = 0.2
_ACKNOWLEDGED_POLL_SECONDS = 0.005
# Linux keeps here what it knows of a connection: its state, and how many segments aren't acknowledged.
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_CLOSE_WAIT, _UNACKNOWLEDGED_AT = 8, 24
_PORTS = {"http": 80, "https": 443}

Phase = Literal["look-up", "connect", "TLS handshake", "first byte", "headers", "body", "free connection"]

_WORDS: dict[Phase, str] = {
    "look-up": "during the look-up of the host name",
    "connect": "while connecting",
    "TLS handshake": "during the TLS handshake",
    "first byte": "waiting for the first byte of the response",
    "headers": "in the headers of the response",
    "body": "in the body of the response",
    "free connection": "waiting for a free connection",
}


_MAY_REQUIRE = " (the target may require a client certificate)"


class CallFailed(OSError):
    """No response came; the message says why."""


class TimedOut(CallFailed):
    """A time limit ran out before a status line came."""

    def __init__(self, phase: Phase, seconds: float) -> None:
        super().__init__(f"timed out after {seconds:g} s {_WORDS[phase]}")
        self.phase = phase
        self.seconds = seconds


class NotConnected(CallFailed):
    """No address of the target accepted a connection."""


class ClosedUnread(CallFailed):
    """A reused connection was closed before the target read the request."""


class ClosedInsteadOfResponse(CallFailed):
    """The target read the request, and closed the connection. reused: whether that had carried another request."""

    def __init__(self, *, reused: bool, advice: str = "") -> None:
        super().__init__(f"the connection was closed instead of a response{advice}")
        self.reused = reused


class Url(NamedTuple):
    """The parts of a URL: where to connect, and what to ask for."""

    tls: bool
    host: str
    port: int
    host_header: str
    target: str

    @classmethod
    def of(cls, url: str) -> "Url":
        """Raises ssrf.AddressNotAllowed if the client can't read it."""
        host = ssrf.host_of(url)
        parsed = yarl.URL(url)
        if parsed.scheme not in _PORTS or not parsed.port:
            raise ssrf.AddressNotAllowed(
                "a web address begins with http:// or https:// and has a port other than 0"
            )
        name = f"[{host}]" if ":" in host else host
        port = "" if parsed.port == _PORTS[parsed.scheme] else f":{parsed.port}"
        return cls(parsed.scheme == "https", host, parsed.port, name + port, parsed.raw_path_qs)


class Limits(NamedTuple):
    """Time limits in seconds.

    connect: for the look-up, the connection and the TLS handshake together.
    read: until the first byte of a response, and from each byte to the next.
    whole: for everything.
    """

    connect: float
    read: float
    whole: float


class Connection(asyncio.Protocol):
    """One connection, for one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        # Whether it has carried a request before.
        self.reused = False
        self.closed = False
        self._error: Exception | None = None
        self._timed_out: TimedOut | None = None
        self._reader: ResponseReader | None = None
        self._waiter: asyncio.Future[None] | None = None
        # One for many exchanges: most of them are over long before it fires.
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._limits = Limits(0, 0, 0)
        self._deadline = self._heard_at = 0.0
        self._poll: select.poll | None = None
        # A duplicate of the socket, to ask the kernel about once the transport has closed its own.
        self._duplicate = -1

    # --- Called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            # Nobody asked for this.
            self.close()
            return
        self._heard_at = self._loop.time()
        try:
            self._reader.feed(data)
        except NotHttp:
            self._error = CallFailed("the response is not HTTP")
            self._wake()
        if self._reader.done:
            self._wake()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(error)

    def _ended(self, error: Exception | None) -> None:
        if not self.closed and self._reader is not None and not self._reader.done:
            self._error = self._error or error
            if error is None and self.reused and not self._reader.begun:
                self._duplicate = os.dup(self._descriptor())
            self._reader.end()
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self) -> None:
        """See to it that the timer fires once a time limit has run out."""
        until = min(self._heard_at + self._limits.read, self._deadline)
        if self._timer is not None:
            if self._fires_at <= until:
                return
            self._timer.cancel()
        self._timer, self._fires_at = self._loop.call_at(until, self._look_at_limits), until

    def _look_at_limits(self) -> None:
        """End the exchange if a time limit has run out; otherwise look again when one would."""
        self._timer = None
        if self._reader is None:
            return
        read_until = self._heard_at + self._limits.read
        if self._loop.time() < min(read_until, self._deadline) - 0.0005:
            self._watch()
            return
        phase: Phase = "body"
        if not self._reader.begun:
            phase = "first byte"
        elif self._reader.part is Part.HEAD:
            phase = "headers"
        seconds = self._limits.read if read_until <= self._deadline else self._limits.whole
        self._timed_out = TimedOut(phase, seconds)
        self._reader.end(str(self._timed_out))
        self._wake()

    # --- Called by the client ---

    async def exchange(self, request: bytes, limits: Limits, deadline: float) -> ResponseReader:
        """Send a request and read its response. Raises CallFailed if no status line came.

        deadline: of the whole call, by the loop's clock.
        """
        assert self.transport is not None
        reader = self._reader = ResponseReader(after_another=self.reused)
        self._waiter = self._loop.create_future()
        self._limits, self._deadline, self._heard_at = limits, deadline, self._loop.time()
        self._watch()
        try:
            self.transport.write(request)
            await self._waiter
            if reader.status is None:
                raise await self._why(reader)
        except BaseException:
            self.close()
            raise
        finally:
            self._reader = self._waiter = None
        if not reader.reusable:
            self.close()
        self.reused = True
        return reader

    async def _why(self, reader: ResponseReader) -> CallFailed:
        """Return the reason why there is no status line."""
        assert self.transport is not None
        if self._timed_out is not None:
            return self._timed_out
        if isinstance(self._error, CallFailed):
            return self._error
        if isinstance(self._error, ssl.SSLError):
            return CallFailed(tls_words(self._error))
        if self.reused and not reader.begun:
            read = self._error is None and await self._was_read()
            return ClosedInsteadOfResponse(reused=True) if read else ClosedUnread("the connection was closed")
        # Since TLS 1.3 a refusal comes after the handshake, and a reset may overtake it.
        refused = (
            not self.reused and not reader.begun and self.transport.get_extra_info("sslcontext") is not None
        )
        return ClosedInsteadOfResponse(reused=self.reused, advice=_MAY_REQUIRE if refused else "")

    async def _was_read(self) -> bool:
        """Whether the target read the request before it closed the connection. False if nobody can tell."""
        if _TCP_INFO is None or self._duplicate < 0:
            return False
        until = self._loop.time() + ACKNOWLEDGED_SECONDS
        duplicate, self._duplicate = self._duplicate, -1
        with socket.socket(fileno=duplicate) as copy:
            while self._loop.time() < until:
                # A kernel whose program closed the connection, or left something unread, answers with a reset.
                if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return False
                info = copy.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
                if info[0] != _CLOSE_WAIT:
                    return False
                if not struct.unpack_from("=I", info, _UNACKNOWLEDGED_AT)[0]:
                    return True
                await asyncio.sleep(_ACKNOWLEDGED_POLL_SECONDS)
        return False

    def is_usable(self) -> bool:
        """Whether another request can be sent: the target hasn't closed the connection, or written to it."""
        if self.closed:
            return False
        # The event loop may not have processed it yet.
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._descriptor(), select.POLLIN)
        return not self._poll.poll(0)

    def _descriptor(self) -> int:
        assert self.transport is not None
        return int(self.transport.get_extra_info("socket").fileno())

    def close(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._duplicate >= 0:
            os.close(self._duplicate)
            self._duplicate = -1
        if self.transport is not None:
            self.transport.abort()


class Client:
    """Connections to the target of one URL, and requests on them."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits,
        connections: int,
        allowed: Sequence[ssrf.Network],
        sources: lookup.Sources = lookup.SYSTEM,
        ca_file: str = "",
    ) -> None:
        """Raises ssrf.AddressNotAllowed for a URL that can never be called."""
        self.url = Url.of(url)
        self.limits = limits
        self._allowed = allowed
        self._sources = sources
        self._ca_file = ca_file
        # A host that is an address needs no look-up.
        self._literals = ssrf.allowed_literals(self.url.host, allowed)
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(connections)
        self._look_up: asyncio.Task[list[lookup.Address]] | None = None
        self._look_up_waiters = 0

    async def send(self, request: bytes, *, deadline: float, fresh: bool = False) -> ResponseReader:
        """Send a whole request, head and body. Raises CallFailed, or ssrf.AddressNotAllowed.

        deadline: by the loop's clock. fresh: on a connection of its own.
        """
        if self._free.locked():
            async with _phase("free connection", self.limits.whole, deadline):
                await self._free.acquire()
        else:
            await self._free.acquire()
        try:
            connection = (None if fresh else self._idle_connection()) or await self._connect(deadline)
            response = await connection.exchange(request, self.limits, deadline)
            if not connection.closed:
                self._idle.append(connection)
            return response
        finally:
            self._free.release()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _idle_connection(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def _connect(self, deadline: float) -> Connection:
        until = asyncio.get_running_loop().time() + self.limits.connect
        seconds = self.limits.connect if until <= deadline else self.limits.whole
        until = min(until, deadline)
        async with _phase("look-up", seconds, until):
            addresses = self._literals or await self._addresses()
        async with _phase("connect", seconds, until):
            connection = await self._connect_to_first(addresses)
        if self.url.tls:
            try:
                async with _phase("TLS handshake", seconds, until):
                    await self._start_tls(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    async def _addresses(self) -> list[lookup.Address]:
        """Look the host up, and check the addresses. Concurrent callers share one look-up."""
        host = self.url.host
        addresses = lookup.cached(host, self._sources)
        if addresses is None:
            if self._look_up is None or self._look_up.done():
                self._look_up = asyncio.create_task(self._fetch_addresses())
                self._look_up_waiters = 0
            task = self._look_up
            self._look_up_waiters += 1
            try:
                addresses = await asyncio.shield(task)
            finally:
                self._look_up_waiters -= 1
                if not self._look_up_waiters and self._look_up is task:
                    task.cancel()
                    self._look_up = None
        ssrf.check_addresses(addresses, self._allowed)
        return addresses

    async def _fetch_addresses(self) -> list[lookup.Address]:
        addresses, seconds = await lookup.resolve(self.url.host, self._sources)
        ssrf.check_addresses(addresses, self._allowed)
        lookup.keep(self.url.host, addresses, seconds, self._sources)
        return addresses

    async def _connect_to_first(self, addresses: Sequence[lookup.Address]) -> Connection:
        """Connect to the first address that accepts: each is tried when the one before fails or is slow."""
        errors: list[str] = []
        pending: set[asyncio.Task[Connection]] = set()
        waiting = _alternating(addresses)
        try:
            while waiting or pending:
                if waiting:
                    pending.add(asyncio.create_task(self._connect_to(waiting.pop(0))))
                seconds = NEXT_ADDRESS_SECONDS if waiting else None
                done, pending = await asyncio.wait(
                    pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                )
                connected = [task.result() for task in done if not task.exception()]
                for other in connected[1:]:
                    other.close()
                if connected:
                    return connected[0]
                errors += [str(task.exception()) for task in done]
        finally:
            for task in pending:
                task.add_done_callback(_close_result)
                task.cancel()
        raise NotConnected("could not connect: " + "; ".join(dict.fromkeys(errors)))

    async def _connect_to(self, address: lookup.Address) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(loop), str(address), self.url.port
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise CallFailed(f"{address} port {self.url.port}: {reason}") from error
        return connection

    async def _start_tls(self, connection: Connection) -> None:
        assert connection.transport is not None
        try:
            connection.transport = await asyncio.get_running_loop().start_tls(
                connection.transport,
                connection,
                tls_context(self._ca_file),
                server_hostname=self.url.host.rstrip("."),
            )
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise CallFailed(tls_words(error)) from error
        except OSError as error:
            raise CallFailed("the connection was closed during the TLS handshake") from error
        if connection.transport is None:
            raise CallFailed("the connection was closed during the TLS handshake")


@asynccontextmanager
async def _phase(phase: Phase, seconds: float, until: float) -> AsyncIterator[None]:
    """Bound a phase of a call. seconds: the limit that `until`, by the loop's clock, comes from."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError as error:
        raise error if isinstance(error, TimedOut) else TimedOut(phase, seconds) from None


def _alternating(addresses: Sequence[lookup.Address]) -> list[lookup.Address]:
    """The addresses with their families in turn, so that a network without IPv6 costs one attempt."""
    by_version = [[address for address in addresses if address.version == version] for version in (6, 4)]
    pairs = itertools.zip_longest(*by_version)
    return [address for pair in pairs for address in pair if address is not None]


def _close_result(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled() and not task.exception():
        task.result().close()


@functools.lru_cache(maxsize=8)
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies certificates by the system's authorities, and those of a file."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the target is not valid: {error.verify_message}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "bad certificate" in reason:
        return "the target requires a client certificate, and Quarterdeck has none"
    return f"the TLS handshake failed: {reason}{_MAY_REQUIRE if 'handshake failure' in reason else ''}"
