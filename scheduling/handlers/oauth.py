"""Access tokens by the OAuth 2.0 client credentials grant (RFC 6749, 4.4): fetched, kept in memory, renewed in time.

A process keeps the token of each client for all of its minutes, and stores none of them. A fetch that fails is
tried again after a while, and the token that is still valid serves until then.
"""

import asyncio
import base64
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from scheduling.core import responses, retry

from . import http_client, lookup, ssrf
from .http_response import ResponseReader
from .masking import Mask
from .response_text import content_of, longest_retry_after

# How a client names itself: in the header Authorization, or in the body. Column values of a queue.
IN_HEADER, IN_BODY = "client_secret_basic", "client_secret_post"
# How long after a failure the token is fetched again.
RETRY_SECONDS = 30.0
# The lifetime of a token whose server doesn't say it, and the limits of what a server says.
UNKNOWN_SECONDS = 300.0
LEAST_SECONDS, MOST_SECONDS = 30.0, 86_400.0
# A token is renewed when this part of its lifetime is left, or this many seconds if that is less.
RENEWED_BEFORE, RENEWED_BEFORE_SECONDS = 0.2, 60.0
# A new token that was refused, and never accepted, isn't renewed sooner.
UNPROVEN_SECONDS = 30.0
# How often a handler renews a token in its minute because a target refused it.
RENEWALS = 10
TOKEN_CHARACTERS = 16_384

_TOKEN = re.compile(r"[\x21-\x7e]+")
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")


class TokenFailed(Exception):
    """There is no token; the message says why. seconds: until it is fetched again."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True)
class Credentials:
    """What a token is fetched with."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""
    audience: str = ""
    client_auth: str = IN_HEADER

    @property
    def shown_url(self) -> str:
        """The address without its query, which may contain a key."""
        parts = urlsplit(self.token_url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    def without_secret(self, text: str) -> str:
        """Mask the secret, which a server may have repeated."""
        return Mask.of({}, [self.client_secret])(text)

    def request(self, url: http_client.Url) -> bytes:
        """Return the whole HTTP request that asks for a token."""
        fields = {"grant_type": "client_credentials", "scope": self.scope, "audience": self.audience}
        lines = [
            f"POST {url.target} HTTP/1.1",
            f"Host: {url.host_header}",
            "User-Agent: Quarterdeck/1",
            "Accept: application/json",
            "Accept-Encoding: identity",
            "Content-Type: application/x-www-form-urlencoded",
            "Connection: close",
        ]
        if self.client_auth == IN_BODY:
            fields |= {"client_id": self.client_id, "client_secret": self.client_secret}
        else:
            # RFC 6749, 2.3.1: each half is encoded as a form's value first.
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            lines.append(f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
        body = urlencode({name: value for name, value in fields.items() if value}).encode()
        lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class _Token:
    """Times are of time.monotonic. is_proven: whether a target has accepted it."""

    value: str
    fetched_at: float
    renew_at: float
    ends_at: float
    is_proven: bool = False


# Of this process, by credentials.
_tokens: dict[Credentials, _Token] = {}
_failures: dict[Credentials, tuple[str, float]] = {}


def forget_all() -> None:
    """Forget all tokens and failures of this process."""
    _tokens.clear()
    _failures.clear()


class TokenSource:
    """The tokens of one client, for a handler: one fetch at a time, in the event loop that calls."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        limits: http_client.Limits,
        allowed: Sequence[ssrf.Network],
        sources: lookup.Sources,
        ca_file: str,
    ) -> None:
        self.credentials = credentials
        self._limits, self._allowed, self._sources, self._ca_file = limits, allowed, sources, ca_file
        self._fetching: asyncio.Task[None] | None = None
        self._renewals_left = RENEWALS

    def is_ready(self) -> bool:
        """Whether `token` returns, or fails, without waiting. Begins to fetch what is missing, or ends soon."""
        token, now = self._current(), time.monotonic()
        failed_until = _failures.get(self.credentials, ("", 0.0))[1]
        if (token is None or now >= token.renew_at) and now >= failed_until:
            self._begin()
            return token is not None
        return True

    async def token(self) -> str:
        """Return a valid token. Raises TokenFailed."""
        if not self.is_ready() and self._fetching is not None:
            # All that wait share one fetch, which continues if one of them is cancelled.
            await asyncio.shield(self._fetching)
        if token := self._current():
            return token.value
        reason, until = _failures.get(self.credentials, ("the token was refused at once", 0.0))
        raise TokenFailed(reason, max(1.0, until - time.monotonic()))

    def accept(self, value: str) -> None:
        """Note that a target has accepted a token."""
        token = self._current()
        if token is not None and token.value == value:
            token.is_proven = True

    def reject(self, value: str) -> bool:
        """Renew a token that a target has refused; return whether there is another one to try."""
        token = self._current()
        if token is None or token.value != value:
            return True
        is_new = not token.is_proven and time.monotonic() - token.fetched_at < UNPROVEN_SECONDS
        if is_new or not self._renewals_left:
            return False
        self._renewals_left -= 1
        del _tokens[self.credentials]
        self.is_ready()
        return True

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    def _current(self) -> _Token | None:
        token = _tokens.get(self.credentials)
        return token if token is not None and time.monotonic() < token.ends_at else None

    def _begin(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            value, seconds = _read(await self._ask())
        except TokenFailed as error:
            reason = self.credentials.without_secret(f"no token from {self.credentials.shown_url}: {error}")
            _failures[self.credentials] = reason, time.monotonic() + error.seconds
            return
        now = time.monotonic()
        for credentials in [key for key, token in _tokens.items() if token.ends_at < now]:
            del _tokens[credentials]
        renewed_before = min(RENEWED_BEFORE * seconds, RENEWED_BEFORE_SECONDS)
        _tokens[self.credentials] = _Token(value, now, now + seconds - renewed_before, now + seconds)
        _failures.pop(self.credentials, None)

    async def _ask(self) -> ResponseReader:
        """Ask the server for a token. Raises TokenFailed if there is no response."""
        try:
            client = http_client.Client(
                self.credentials.token_url,
                limits=self._limits,
                connections=1,
                allowed=self._allowed,
                sources=self._sources,
                ca_file=self._ca_file,
            )
            try:
                deadline = asyncio.get_running_loop().time() + self._limits.whole
                return await client.send(self.credentials.request(client.url), deadline=deadline, fresh=True)
            finally:
                client.close()
        except (http_client.CallFailed, lookup.LookupFailed, ssrf.AddressNotAllowed) as error:
            raise TokenFailed(str(error), RETRY_SECONDS) from None


def _read(response: ResponseReader) -> tuple[str, float]:
    """Return the token of a response, and for how many seconds it is valid. Raises TokenFailed."""
    status = response.status
    fields: Any = None
    with suppress(ValueError):
        fields = responses.read_json(content_of(response))
    if not isinstance(fields, Mapping):
        fields = {}
    if status != 200:
        # Nothing else of the response is shown: it may repeat what was sent.
        code = fields.get("error")
        reason = f" ({code})" if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""
        seconds = longest_retry_after(response.headers.get("retry-after", []), status or 0)
        wait = retry.retry_after_seconds(status, seconds, at=datetime.now(UTC)) or 0.0
        raise TokenFailed(f"it answered {status}{reason}", max(RETRY_SECONDS, wait))
    value, kind = fields.get("access_token"), fields.get("token_type", "Bearer")
    if not isinstance(value, str) or len(value) > TOKEN_CHARACTERS or not _TOKEN.fullmatch(value):
        raise TokenFailed("its response has no access_token that can be sent", RETRY_SECONDS)
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenFailed("the token_type of its response is not Bearer", RETRY_SECONDS)
    return value, _seconds(fields.get("expires_in"))


def _seconds(value: Any) -> float:
    """Return for how long a token is taken to be valid. value: `expires_in`, which some servers send as text."""
    try:
        seconds = UNKNOWN_SECONDS if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return UNKNOWN_SECONDS
    # What is no number compares as false.
    return min(max(seconds, LEAST_SECONDS), MOST_SECONDS) if seconds == seconds else UNKNOWN_SECONDS
