"""`webhook`: an HTTP call for each ID, signed by the Standard Webhooks specification.

The address is resolved once for each connection, judged, and just that one is connected to; proxies of the
environment and redirects are off; connecting, reading and all of it together have their deadlines, and what
is read of an answer is bounded. A status decides alone: nothing of a body is parsed.
"""

import asyncio
import base64
import hmac
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin

import aiohttp
import orjson
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from scheduling.core import retry
from scheduling.core.limits import ANSWER_CHARACTERS, ERROR_CHARACTERS, WEBHOOK_SECONDS

from . import ssrf
from .base import Outcome, Request, truncate
from .connections import Connector

USER_AGENT = "Quarterdeck/1"
# As much of an answer is read, so that its connection can be used again; of a longer one the rest is left.
ANSWER_BYTES = 64 * 1024
HEADER_BYTES = 64 * 1024
# Resets on kept connections, in one minute, after which every request gets a connection of its own.
RESETS = 2
RESET_ERRORS = (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError, aiohttp.ClientOSError)


class GuardedResolver(AbstractResolver):
    """Resolves a name once, judges all of its addresses, and gives just one."""

    def __init__(self, allowed: Sequence[ssrf.Network]) -> None:
        self.allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        address, family = ssrf.first_allowed(found, self.allowed)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        return None


def body_of(request: Request) -> bytes:
    """What a target receives; the ID as text too, for receivers that round large numbers."""
    return orjson.dumps(
        {
            "user_id": request.user_id,
            "user_id_str": str(request.user_id),
            "task_id": request.task_id,
            "task_name": request.task_name,
            "queue": request.queue,
            "planned_at": _written(request.planned_at),
            "attempt": request.attempt,
        }
    )


@lru_cache(maxsize=8)
def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def signer_of(secret: str) -> hmac.HMAC | None:
    """What signs with a `whsec_...`; None for an empty one. Made once: that is most of a signature's cost."""
    if not secret:
        return None
    return hmac.new(base64.b64decode(secret.removeprefix("whsec_") + "=="), digestmod="sha256")


def signed_headers(key: str, body: bytes, signer: hmac.HMAC | None, timestamp: int) -> dict[str, str]:
    """The headers of the Standard Webhooks specification, and the key once more for what knows only that.

    As the library `standardwebhooks` makes them (a test verifies with it), in a tenth of its time.
    """
    headers = {"webhook-id": key, "webhook-timestamp": str(timestamp), "Idempotency-Key": key}
    if signer is not None:
        signing = signer.copy()
        signing.update(f"{key}.{timestamp}.".encode() + body)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signing.digest()).decode()}"
    return headers


@dataclass
class Webhook:
    """The calls of one queue during one minute.

    Both numbers of seconds together are the deadline, up to WEBHOOK_SECONDS.
    """

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""
    connect_seconds: float = 5
    read_seconds: float = 10
    connections: int = 50
    allowed: Sequence[ssrf.Network] = ()
    batch_seconds: float = 0.0

    @classmethod
    def of(cls, queue: Any) -> "Webhook":
        """queue: an object with the columns of one."""
        return cls(
            url=queue.webhook_url,
            method=queue.webhook_method,
            headers=queue.webhook_headers,
            secret=queue.webhook_secret,
            connect_seconds=queue.connect_timeout_seconds,
            read_seconds=queue.read_timeout_seconds,
            connections=queue.max_connections,
            allowed=settings.WEBHOOK_ALLOWED_NETWORKS,
        )

    def __post_init__(self) -> None:
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._resets = 0
        self._signer = signer_of(self.secret)
        self._deadline = min(self.connect_seconds + self.read_seconds, WEBHOOK_SECONDS)
        self._given = {"User-Agent": USER_AGENT, **self.headers, "Content-Type": "application/json"}
        # aiohttp asks no resolver about a host that is an address. That one doesn't change: judged once.
        self._refusal = _refusal_of_literal(self.url, self.allowed)
        self._address = yarl.URL() if self._refusal else yarl.URL(self.url)

    def prepare(self) -> None:
        self._session(fresh=False)

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        if len(batch) == 1:
            return [await self.call(batch[0])]
        return list(await asyncio.gather(*(self.call(request) for request in batch)))

    async def close(self) -> None:
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    async def call(self, request: Request) -> Outcome:
        """Make one request; whatever goes wrong is an outcome."""
        return await self.post(request.idempotency_key, body_of(request))

    async def post(self, key: str, body: bytes) -> Outcome:
        """Send a body, signed under a key."""
        return await self.send(body, self.headers_for(key, body))

    def headers_for(self, key: str, body: bytes) -> dict[str, str]:
        """The headers of a body that is sent now, signed under a key."""
        return self._given | signed_headers(key, body, self._signer, int(time.time()))

    async def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body with its headers; whatever goes wrong is an outcome."""
        began = time.monotonic()
        if self._refusal:
            return Outcome(retry.Verdict.FAILED, error=self._refusal, duration_ms=_since(began))
        try:
            return await self._send(body, headers, began)
        except ssrf.AddressNotAllowed as error:
            return _error(str(error), began)
        except TimeoutError:
            return _error(f"no answer within {self._deadline:g} s", began)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = _refusal_in(error)
            return _error(str(refused) if refused else _words(error), began)

    async def _send(self, body: bytes, headers: Mapping[str, str], began: float) -> Outcome:
        if self._resets < RESETS:
            session = self._session(fresh=False)
            connector = session.connector
            try:
                return await self._exchange(session, body, headers, began)
            except RESET_ERRORS:
                # On a connection of its own it is a real failure.
                if not connector.was_kept():
                    raise
                self._resets += 1
                if await connector.was_read():
                    words = "the connection was closed in place of an answer"
                    return Outcome(
                        retry.Verdict.RETRY, error=words, duration_ms=_since(began), retry_in_this_minute=True
                    )
            finally:
                connector.forget()
        session = self._session(fresh=True)
        # The second of two has what the first left.
        left = self._timeout(max(0.001, self._deadline - (time.monotonic() - began)))
        try:
            return await self._exchange(session, body, headers, began, timeout=left)
        finally:
            session.connector.forget()

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        body: bytes,
        headers: Mapping[str, str],
        began: float,
        **options: Any,
    ) -> Outcome:
        async with session.request(
            self.method, self._address, data=body, headers=headers, allow_redirects=False, **options
        ) as answer:
            text, note = await _read(answer)
            return _outcome(answer, text, note, began)

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        if fresh:
            self._fresh = self._fresh or self._make_session(force_close=True)
            return self._fresh
        self._kept = self._kept or self._make_session(force_close=False)
        return self._kept

    def _make_session(self, *, force_close: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=Connector(
                resolver=GuardedResolver(self.allowed),
                use_dns_cache=False,
                limit=self.connections,
                force_close=force_close,
            ),
            # Of a success whose headers are long nothing is lost but what is past these bounds.
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout(self._deadline),
        )

    def _timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=seconds,
            sock_connect=self.connect_seconds,
            sock_read=self.read_seconds,
            # Not rounded up to whole seconds.
            ceil_threshold=60,
        )


def _refusal_of_literal(url: str, allowed: Sequence[ssrf.Network]) -> str:
    """Why the address that a URL's host is may not be called; nothing for a name, or one that may."""
    try:
        address = ssrf.literal_address(ssrf.host_of(url))
        if address is not None:
            ssrf.check_address(address, allowed)
    except ValueError as error:
        return str(error)
    return ""


async def _read(answer: aiohttp.ClientResponse) -> tuple[str, str]:
    """The beginning of the body, and a note where it wasn't read to its end."""
    data, note = b"", ""
    try:
        while len(data) < ANSWER_BYTES and (part := await answer.content.read(ANSWER_BYTES - len(data))):
            data += part
        if not answer.content.at_eof():
            note = "the answer is longer than what is read of it"
            answer.close()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # The status is there, and decides; a drip ends with the deadline.
        note = f"the answer was cut ({type(error).__name__})"
        answer.close()
    return truncate(data[: 4 * ANSWER_CHARACTERS].decode("utf-8", errors="replace")), note


def _outcome(answer: aiohttp.ClientResponse, text: str, note: str, began: float) -> Outcome:
    status = answer.status
    verdict = retry.verdict(status, None)
    error = note if verdict == retry.Verdict.SUCCEEDED else f"answered {status}"
    if status in retry.REDIRECTS:
        error = _redirected(answer, status)
    return Outcome(
        verdict,
        status=status,
        error=error,
        answer=text,
        duration_ms=_since(began),
        retry_after=answer.headers.get("Retry-After"),
    )


def _redirected(answer: aiohttp.ClientResponse, status: int) -> str:
    """Where a redirect leads, whole, since it may be relative."""
    location = answer.headers.get("Location")
    if not location:
        return f"answers {status} to nowhere"
    advice = ": put this address into the queue"
    said = f"answers {status} to "
    return said + truncate(urljoin(str(answer.url), location), ERROR_CHARACTERS - len(said + advice)) + advice


def _error(words: str, began: float) -> Outcome:
    return Outcome(retry.verdict(None, words), error=words, duration_ms=_since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _refusal_in(error: BaseException | None) -> ssrf.AddressNotAllowed | None:
    """The guard's refusal that a library's error was made of, if it was."""
    while error is not None:
        if isinstance(error, ssrf.AddressNotAllowed):
            return error
        error = error.__cause__ or error.__context__
    return None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
