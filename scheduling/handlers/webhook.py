"""The handler `webhook`: one HTTP call for each ID, signed by the Standard Webhooks specification.

The status of a response decides alone: nothing of its body is parsed.
"""

import asyncio
import base64
import codecs
import hmac
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin

import orjson
from django.conf import settings

from scheduling.core import retry
from scheduling.core.limits import ANSWER_CHARACTERS, ERROR_CHARACTERS, WEBHOOK_SECONDS

from . import http_client, lookup, ssrf
from .base import Outcome, Request, truncate
from .http_response import BODY_BYTES, ResponseReader

USER_AGENT = "Quarterdeck/1"
# After so many resets of kept connections in one minute, every request gets a connection of its own.
RESETS = 2
# Headers that describe the message or the connection are the client's.
_CLIENT_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "transfer-encoding", "upgrade"}
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\"';\s]+)", re.IGNORECASE)
_METHOD = re.compile(r"[A-Z]+")


def body_of(request: Request) -> bytes:
    """Return what a target receives. The ID is there as text too, for receivers that round large numbers."""
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
    """Return what signs with a `whsec_...` secret; None for an empty one.

    It is made once for many requests, since that is most of a signature's cost.
    """
    if not secret:
        return None
    return hmac.new(base64.b64decode(secret.removeprefix("whsec_") + "=="), digestmod="sha256")


def signed_headers(key: str, body: bytes, signer: hmac.HMAC | None, timestamp: int) -> dict[str, str]:
    """Return the headers of the Standard Webhooks specification, and `Idempotency-Key` with the same key.

    They equal those of the library `standardwebhooks` (a test verifies with it), in a tenth of its time.
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

    connect_seconds: for the look-up, the connection and the TLS handshake together. read_seconds: until the
    first byte of a response, and between two. Both together, up to WEBHOOK_SECONDS, are the limit of a call.
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
    sources: lookup.Sources = lookup.SYSTEM
    ca_file: str = ""

    @classmethod
    def of(cls, queue: Any) -> "Webhook":
        """queue: an object with a queue's columns."""
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
        self._resets = 0
        self._signer = signer_of(self.secret)
        self._seconds = min(self.connect_seconds + self.read_seconds, WEBHOOK_SECONDS)
        self._headers = _merge(
            {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
            self.headers,
            {"Content-Type": "application/json"},
        )
        self._has_host = any(name.lower() == "host" for name in self._headers)
        self._client: http_client.Client | None = None
        # Why no request can ever be made.
        self._refusal = ""
        try:
            self._client = http_client.Client(
                self.url,
                limits=http_client.Limits(self.connect_seconds, self.read_seconds, self._seconds),
                connections=self.connections,
                allowed=self.allowed,
                sources=self.sources,
                ca_file=self.ca_file,
            )
            _check_message(self.method, self._headers)
        except ValueError as error:
            self._refusal = str(error)

    def prepare(self) -> None:
        return None

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        if len(batch) == 1:
            return [await self.call(batch[0])]
        return list(await asyncio.gather(*(self.call(request) for request in batch)))

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()

    async def call(self, request: Request) -> Outcome:
        """Make one request. Whatever goes wrong is an outcome."""
        return await self.post(request.idempotency_key, body_of(request))

    async def post(self, key: str, body: bytes) -> Outcome:
        """Send a body, signed with a key. Whatever goes wrong is an outcome."""
        return await self.send(body, self.headers_for(key, body))

    def headers_for(self, key: str, body: bytes) -> dict[str, str]:
        """Return the headers of a body that is sent now, signed with a key."""
        return self._headers | signed_headers(key, body, self._signer, int(time.time()))

    async def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body with its headers. Whatever goes wrong is an outcome."""
        began = time.monotonic()
        if self._client is None or self._refusal:
            return Outcome(retry.Verdict.FAILED, error=self._refusal, duration_ms=_milliseconds_since(began))
        try:
            response = await self._exchange(self._client, body, headers)
        except (http_client.CallFailed, lookup.LookupFailed, ssrf.AddressNotAllowed) as error:
            words = truncate(error, ERROR_CHARACTERS)
            return Outcome(
                retry.verdict(None, words),
                error=words,
                duration_ms=_milliseconds_since(began),
                # The target closed a kept connection: no fault of its own, and none of the ID's.
                retry_in_this_minute=isinstance(error, http_client.ClosedInsteadOfResponse) and error.kept,
            )
        return _outcome(response, self.url, began)

    async def _exchange(
        self, client: http_client.Client, body: bytes, headers: Mapping[str, str]
    ) -> ResponseReader:
        deadline = asyncio.get_running_loop().time() + self._seconds
        if self._resets < RESETS:
            try:
                return await client.send(self._message(body, headers), deadline=deadline)
            except http_client.ClosedUnread:
                # The target closes idle connections. This request was not made, so it is made now.
                self._resets += 1
            except http_client.ClosedInsteadOfResponse as error:
                self._resets += error.kept
                raise
        message = self._message(body, {**headers, "Connection": "close"})
        return await client.send(message, deadline=deadline, fresh=True)

    def _message(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        assert self._client is not None
        lines = [f"{self.method} {self._client.url.target} HTTP/1.1"]
        if not self._has_host:
            lines.append(f"Host: {self._client.url.host_header}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return "\r\n".join(lines).encode() + body


def _merge(*parts: Mapping[str, str]) -> dict[str, str]:
    """Merge headers; of names that differ only in case the last one counts."""
    merged = {name.lower(): (name, value) for part in parts for name, value in part.items()}
    return {name: value for lower, (name, value) in merged.items() if lower not in _CLIENT_HEADERS}


def _check_message(method: str, headers: Mapping[str, str]) -> None:
    """Raise ValueError for what would break out of its place in a message."""
    if not _METHOD.fullmatch(method):
        raise ValueError(f"{method!r} is not an HTTP method")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if any(character in "\r\n\0" for character in value):
            raise ValueError(f"the value of the header {name} contains a line break")


def _outcome(response: ResponseReader, url: str, began: float) -> Outcome:
    status = response.status
    assert status is not None
    verdict = retry.verdict(status, None)
    error = response.note if verdict is retry.Verdict.SUCCEEDED else f"answered {status}"
    if status in retry.REDIRECTS:
        error = _redirect_words(response, url, status)
    return Outcome(
        verdict,
        status=status,
        error=error,
        answer=text_of(response),
        duration_ms=_milliseconds_since(began),
        retry_after=_longest(response.headers.get("retry-after", []), status),
    )


def _redirect_words(response: ResponseReader, url: str, status: int) -> str:
    """Return where a redirect leads, as a whole address, since it may be relative."""
    location = next(iter(response.headers.get("location", ())), "")
    if not location:
        return f"answers {status} to nowhere"
    advice = ": put this address into the queue"
    words = f"answers {status} to "
    return words + truncate(urljoin(url, location), ERROR_CHARACTERS - len(words + advice)) + advice


def _longest(values: Sequence[str], status: int) -> str | None:
    """Return the Retry-After that asks for the longest wait. Proxies may have joined several with commas."""
    if not values or (len(values) == 1 and "," not in values[0]):
        return values[0] if values else None
    at = datetime.now(UTC)
    # A date contains a comma too.
    candidates = [*values, *(part.strip() for value in values for part in value.split(","))]
    return max(candidates, key=lambda value: retry.retry_after_seconds(status, value, at=at) or -1.0)


def text_of(response: ResponseReader) -> str:
    """Return the beginning of a body as text: decompressed, and decoded with its charset."""
    data = bytes(response.body)
    if not data:
        return ""
    for coding in reversed(",".join(response.headers.get("content-encoding", ())).lower().split(",")):
        data = _decompress(data, coding.strip())
    # Enough for each of the characters that are kept, in any encoding.
    return truncate(data[: 4 * ANSWER_CHARACTERS].decode(_charset(response), errors="replace"))


def _decompress(data: bytes, coding: str) -> bytes:
    """Decompress up to BODY_BYTES. Bytes that aren't what the header says are returned as they are."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return data
    # 32: gzip or zlib, whichever the data begin with. Negative: deflate without a header, which some send.
    for window_bits in (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(window_bits).decompress(data, BODY_BYTES)
        except zlib.error:
            continue
    return data


def _charset(response: ResponseReader) -> str:
    content_type = next(iter(response.headers.get("content-type", ())), "")
    found = _CHARSET.search(content_type)
    if found is None:
        return "utf-8"
    try:
        info = codecs.lookup(found[1])
    except (LookupError, ValueError):
        return "utf-8"
    # Some codecs turn bytes into bytes.
    return info.name if info._is_text_encoding else "utf-8"


def _milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
