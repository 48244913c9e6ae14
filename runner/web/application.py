"""The ASGI application: one request from its first byte to its last."""

import asyncio
import gc
import hashlib
import math
import re
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import IO, Any

import structlog
from django.conf import settings
from django.db import connections

from api.middleware import is_page
from operators.middleware import address_in, network_of
from runner.web import pages, sockets, waiting
from runner.web.bodies import FORM_SECONDS, Disconnected, Incoming, NoSpace, Receive, TooSlow
from runner.web.limits import Known, Rates
from runner.web.pages import FORM_BYTES, Missing, Response, Wanted
from runner.web.threads import Busy, Lane, Threads
from scheduling.reports.outcomes import Awaited

Send = Callable[[dict[str, Any]], Awaitable[None]]

log = structlog.get_logger("web")

# A body that came with its headers is here by then; for a slower one Django is asked whether it wants it.
AT_ONCE_SECONDS = 0.1
# A client to which nothing can be sent for this long is not reading.
STALLED_SECONDS = 60
HOUSEKEEPING_SECONDS = 5
IDLE_THREAD_SECONDS = 30
# What a refused client may still send before it has to have read the refusal.
DRAINED_BYTES, DRAINED_SECONDS = 8 * 1024**2, 5
# Passwords that are checked at once, and sign-ins that may wait for that: a hash takes a tenth of a second.
HASHES_AT_ONCE, SIGN_INS_WAITING = 1, 10
TESTS_AT_ONCE, TESTS_WAITING = 1, 4
# What a piece of an export, or a question, waits at most until the next one may be produced.
POLITE_SECONDS = 0.1
# Questions whether a body would be accepted that may wait before short bodies are received without asking.
QUESTIONS_WAITING = 20
# Requests that may wait for a thread.
WAITING = 1000
SWITCH_SECONDS = 0.0005
# An address may be shared by an office, or by all clients behind a proxy that isn't declared.
ADDRESS_FACTOR = 5
BURST_SECONDS = 3
# Refusals that an address may have at once, and a second. Further ones wait: whoever only ever tries again is slowed
# down by that, and a connection that waits costs some kilobytes.
REFUSALS_AT_ONCE, REFUSALS_A_SECOND, DELAY_SECONDS, DELAYED_AT_ONCE = 100, 10, 5, 4000
LIVE, READY, SIGN_IN = "/healthz/live", "/healthz/ready", "/sign-in"
TEST = "/test"
# A request that waits for outcomes is made again at most once in this time.
AGAIN_SECONDS = 0.8
READING = ("GET", "HEAD", "OPTIONS")
SESSION = re.compile(rf"(?:^|;\s*){re.escape(settings.SESSION_COOKIE_NAME)}=([^;]+)")


class Server:
    """What the requests of one process share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        # A thread that computes otherwise keeps others waiting for 5 ms, at each of their queries.
        sys.setswitchinterval(SWITCH_SECONDS)
        self.loop = loop
        self.threads = Threads(loop, on_end=connections.close_all)
        # Each lane has threads of its own: writers wait for each other in the database, and readers don't.
        # A client that isn't known yet gets the threads for strangers, and no others.
        self.strangers = self.threads.lane(max(1, settings.WEB_THREADS // 8), WAITING)
        others = settings.WEB_THREADS - self.strangers.threads
        self.writes = self.threads.lane((others + 1) * 2 // 5, WAITING)
        self.reads = self.threads.lane(others - self.writes.threads, WAITING)
        self.live = self.threads.lane(1, WAITING)
        self.ready = self.threads.lane(1, WAITING)
        self.sign_ins = self.threads.lane(HASHES_AT_ONCE, SIGN_INS_WAITING)
        # A test request waits up to a minute for a free slot: it may wait, and keep nobody else waiting.
        self.test_requests = self.threads.lane(TESTS_AT_ONCE, TESTS_WAITING)
        # Pieces of long responses: one at a time, since they compute more than they wait.
        self.exports = self.threads.lane(1, WAITING)
        # Whether a body would be accepted: a thousand slow senders must not delay anybody else.
        self.questions = self.threads.lane(1, WAITING)
        looks = self.threads.lane(1, 1)
        self.waiting = waiting.Waiting(lambda after: self.threads.run(looks, partial(waiting.look, after)))
        # Beside what the server does then: its event loop hears of signals by another way.
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self.waiting.end))
        self.known_clients = Known()
        self.refusals = Rates(REFUSALS_A_SECOND, REFUSALS_AT_ONCE)
        self.delayed_count = 0
        per_second = settings.REQUESTS_PER_SECOND
        self.clients = Rates(per_second, per_second * BURST_SECONDS)
        self.addresses = Rates(per_second * ADDRESS_FACTOR, per_second * ADDRESS_FACTOR * BURST_SECONDS)
        sockets.bound_buffers(port)
        self.stalled = sockets.Stalled(port, STALLED_SECONDS)
        self.housekeeping = loop.create_task(self._keep_house())

    def lane(self, method: str, path: str, *, is_known: bool) -> Lane:
        """The lane for a request, by its method and its path without the final slash."""
        if path == LIVE:
            return self.live
        if path == READY:
            return self.ready
        if method not in READING:
            if path.endswith(TEST):
                return self.test_requests
            if path == SIGN_IN:
                return self.sign_ins
        if not is_known:
            return self.strangers
        return self.reads if method in READING else self.writes

    def politely(self, work: Callable[[], Any]) -> Any:
        """Do work in a thread; half of its time belongs to the pages, while any is being produced."""
        started = time.monotonic()
        try:
            return work()
        finally:
            if self.reads.running or self.writes.running:
                time.sleep(min(time.monotonic() - started, POLITE_SECONDS))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self.threads.end_idle(IDLE_THREAD_SECONDS)
            # Outside of the loop: there may be thousands of connections to look at.
            closed = await self.loop.run_in_executor(None, self.stalled.close, self.loop.time())
            if closed:
                log.info("stalled_readers_closed", count=closed)


_servers: dict[asyncio.AbstractEventLoop, Server] = {}


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    loop = asyncio.get_running_loop()
    if loop not in _servers:
        _allow_many_sockets()
        _keep_what_is_loaded()
        _servers[loop] = Server(loop, _port(scope))
    await Exchange(_servers[loop], scope, receive, send).run()


class Exchange:
    """One request and its response."""

    def __init__(self, server: Server, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.server = server
        self.scope = scope
        self.receive = receive
        self.send = send
        self.environ = pages.environ(scope)
        self.method: str = self.environ["REQUEST_METHOD"]
        self.path: str = self.environ["PATH_INFO"].rstrip("/")
        self.address = network_of(address_in(self.environ))
        self.client = _client(self.environ) or self.address
        self.body: Incoming | None = None

    async def run(self) -> None:
        try:
            response = await self._response()
            if response.rest is not None:
                await self._run_politely(self.server.exports, response.begin)
        except Disconnected:
            return
        except Busy:
            response = self._refuse("busy", "Too many requests are waiting. Try again in a moment.", after=1)
        except TooSlow:
            response = self._refuse("body-too-slow", "The body did not arrive in time.")
        except NoSpace:
            response = self._refuse(
                "disk-full", "The disk has no room for this list, so it was not received."
            )
        await self._delay(response)
        await self._write(response)
        if self.body and not self.body.is_complete:
            await self.body.drain(DRAINED_BYTES, DRAINED_SECONDS)

    def _refuse(self, kind: str, sentence: str, *, after: float = 0, **headers: str) -> Response:
        if after:
            headers["Retry-After"] = str(math.ceil(after))
        return pages.refusal(self.environ["PATH_INFO"], kind, sentence, headers)

    async def _delay(self, response: Response) -> None:
        """Delay a refusal if the address has had many, so that its next try comes later."""
        if response.status < 400 or self.path in (LIVE, READY):
            return
        if self._is_known and response.status != 429:
            return
        wait = self.server.refusals.wait(self.address)
        if wait and self.server.delayed_count < DELAYED_AT_ONCE:
            self.server.delayed_count += 1
            try:
                await asyncio.sleep(DELAY_SECONDS)
            finally:
                self.server.delayed_count -= 1

    # --- The request ---

    async def _response(self) -> Response:
        if self.path not in (LIVE, READY) and (refused := self._too_many()):
            return refused
        length = _length(self.environ)
        if self.method in READING or not length:
            return await self._answer(BytesIO())
        self.body = Incoming(self.receive, length)
        # Who expects to be asked for the body sends it only then: reading would ask for it.
        is_sent = "HTTP_EXPECT" not in self.environ
        if is_sent and length <= FORM_BYTES and (short := await self.body.short(AT_ONCE_SECONDS)):
            return await self._answer(short)
        # It is slow or long.
        if not is_page(self.environ["PATH_INFO"]) and self.client == self.address:
            return pages.unknown()
        if length <= FORM_BYTES and self.server.questions.waiting_count >= QUESTIONS_WAITING:
            # Many are slow at once: a few kilobytes are received sooner than the question is answered.
            return await self._answer(await self._form(self.body))
        # Would Django read it?
        answer = await self._run_politely(
            self.server.questions, partial(pages.respond, self.environ, Missing())
        )
        if isinstance(answer, Response):
            return self._answered(answer)
        if answer.from_known:
            self._remember()
        return await self._received(self.body, answer)

    async def _form(self, body: Incoming) -> IO[bytes]:
        short = await body.short(FORM_SECONDS)
        if short is None:
            raise TooSlow
        return short

    @property
    def _is_known(self) -> bool:
        return self.client in self.server.known_clients

    def _answered(self, response: Response) -> Response:
        """Remember whether the token or session was valid."""
        if response.to_known:
            self._remember()
        elif response.status == 401:
            self.server.known_clients.forget(self.client)
        return response

    def _remember(self) -> None:
        if self.client != self.address:
            self.server.known_clients.add(self.client)

    async def _received(self, body: Incoming, request: Wanted) -> Response:
        if body.length > request.limit:
            return self._refuse("too-large", f"The body is larger than {request.limit:,} bytes.")
        if body.length > FORM_BYTES:
            with await body.long(settings.SPOOL_DIR) as file:
                return await self._answer(file)
        return await self._answer(await self._form(body))

    def _too_many(self) -> Response | None:
        """Count the request for its client and its address."""
        wait = self.server.addresses.wait(self.address)
        if self.client != self.address:
            wait = wait or self.server.clients.wait(self.client)
        if not wait:
            return None
        return self._refuse(
            "too-many-requests",
            f"More than {settings.REQUESTS_PER_SECOND} requests a second were sent.",
            after=wait,
            RateLimit=f'"client";r=0;t={math.ceil(wait)}',
            **{"RateLimit-Policy": f'"client";q={settings.REQUESTS_PER_SECOND};w=1'},
        )

    async def _answer(self, body: IO[bytes]) -> Response:
        response = await self._answer_once(body)
        return response if response.awaited is None else await self._when_arrived(response, response.awaited)

    async def _when_arrived(self, response: Response, awaited: Awaited) -> Response:
        """Ask Django again once something has arrived; return its first response if nothing does."""
        ends = self.server.loop.time() + awaited.seconds
        disconnect = asyncio.ensure_future(self._wait_for_disconnect())
        try:
            while (next_events := response.awaited) and (seconds := ends - self.server.loop.time()) > 0:
                arrived = self.server.waiting.until_arrived(
                    next_events, client=self.client, seconds=seconds, disconnect=disconnect
                )
                if not await arrived:
                    break
                response = await self._answer_once(BytesIO())
                if response.awaited:
                    # It was something else of the queue: that may go on all the time.
                    await asyncio.sleep(AGAIN_SECONDS)
        except waiting.TooMany:
            return self._refuse("too-many-requests", "Too many requests are waiting for outcomes.", after=1)
        finally:
            disconnect.cancel()
        return response

    async def _answer_once(self, body: IO[bytes]) -> Response:
        lane = self.server.lane(self.method, self.path, is_known=self._is_known)
        try:
            answer = await self._run(lane, partial(pages.respond, self.environ, body))
        except Busy:
            if lane is not self.server.sign_ins:
                raise
            return self._refuse("too-many-requests", "Too many people are signing in. Try again.", after=2)
        assert isinstance(answer, Response)
        return self._answered(answer)

    async def _run(self, lane: Lane, work: Callable[[], Any]) -> Any:
        # Credentials that anybody can make up give nobody a turn of its own.
        client = self.client if self._is_known else self.address
        return await self.server.threads.run(lane, work, client=client)

    async def _run_politely(self, lane: Lane, work: Callable[[], Any]) -> Any:
        return await self._run(lane, partial(self.server.politely, work))

    # --- The response ---

    async def _write(self, response: Response) -> None:
        headers = response.headers
        if response.rest is None and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", str(len(response.body)).encode()))
        await self.send({"type": "http.response.start", "status": response.status, "headers": headers})
        more = response.rest is not None
        await self.send({"type": "http.response.body", "body": response.body, "more_body": more})
        if more:
            await self._write_rest(response)

    async def _write_rest(self, response: Response) -> None:
        """Send further pieces as they are taken. Between two pieces no thread and no cursor is in use."""
        port, peer = _port(self.scope), self.scope["client"][:2]
        disconnect = asyncio.ensure_future(self._wait_for_disconnect())
        try:
            while not disconnect.done():
                piece = await self._run_politely(self.server.exports, response.next_piece)
                await self.send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
                if not piece:
                    break
        except Exception:
            # The generator has logged or written why. The end of a response would say that it is complete.
            log.warning("response_cut", path=self.path, exc_info=True)
            sockets.close(port, peer)
        finally:
            disconnect.cancel()
            with suppress(Busy):
                await self._run(self.server.exports, response.close)

    async def _wait_for_disconnect(self) -> None:
        """Wait until the client has closed its connection."""
        while (await self.receive())["type"] == "http.request":
            pass


def _port(scope: dict[str, Any]) -> int:
    """The port that this process listens on."""
    return int(scope["server"][1])


def _length(environ: dict[str, Any]) -> int:
    """The announced length; 0 where none is: a chunked body is never read."""
    text = environ.get("CONTENT_LENGTH", "")
    return int(text) if text.isascii() and text.isdigit() and "HTTP_TRANSFER_ENCODING" not in environ else 0


def _client(environ: dict[str, Any]) -> str:
    """Who sends, by the token or the session; empty where there is neither."""
    credentials = environ.get("HTTP_AUTHORIZATION")
    if credentials is None:
        cookie = SESSION.search(environ.get("HTTP_COOKIE", ""))
        credentials = cookie and cookie[1]
    return hashlib.sha256(credentials.encode()).hexdigest() if credentials else ""


def _allow_many_sockets() -> None:
    """Raise the soft limit of open files to the hard one: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _keep_what_is_loaded() -> None:
    """Let the garbage collector pass over what is loaded by now.

    Looking through all of it took up to 200 ms, in which no page was answered.
    """
    gc.collect()
    gc.freeze()
