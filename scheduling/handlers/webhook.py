"""The handler `webhook`: one HTTP request for each ID.

What a response means follows from its status, and from its JSON where the queue has a condition on that.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from scheduling.core import exact_json, responses, retry
from scheduling.core.errors import NeverMade, Refused
from scheduling.core.limits import ERROR_CHARACTERS, WEBHOOK_SECONDS
from scheduling.core.responses import Pointer, Rules
from scheduling.core.templates import JSON_TYPE

from . import http_client, lookup, ssrf
from .base import Outcome, Request, truncate
from .http_response import ResponseReader
from .masking import Mask
from .message import Message, MessageMaker, Secrets
from .oauth import Credentials, TokenFailed, TokenSource
from .response_text import content_of, longest_retry_after, redirect_words, text_of

# After this many resets of reused connections in one minute, every request gets a connection of its own.
RESETS = 2
UNAUTHORIZED = 401
# How long a queue whose credentials can't be used waits before the next try.
BLOCK_SECONDS = 30.0
# Which responses of successes are kept: those with a note, all of them, or the value at a pointer of each.
KEEP_UNEXPECTED, KEEP_ALL = "unexpected", "all"


@dataclass
class Webhook:
    """The calls of one queue during one minute.

    connect_seconds: for the look-up, the connection and the TLS handshake together.
    read_seconds: until the first byte of a response, and between two. Both together, up to WEBHOOK_SECONDS, are the
    limit of a call.
    body: None for the standard JSON; a template; or empty for no body.
    when: the condition on a response's JSON, as SuccessWhen.parse takes it.
    unreadable: the names of secrets that this host can't decrypt; nothing is sent without them.
    oauth: what the token in each request's Authorization is fetched with; None: there is none.
    """

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""
    earlier_secrets: Sequence[tuple[str, float]] = ()
    connect_seconds: float = 5
    read_seconds: float = 10
    connections: int = 50
    allowed: Sequence[ssrf.Network] = ()
    batch_seconds: float = 0.0
    sources: lookup.Sources = lookup.SYSTEM
    ca_file: str = ""
    body: str | None = None
    content_type: str = JSON_TYPE
    sign: bool = True
    success_statuses: str = responses.SUCCESS_STATUSES
    retry_statuses: str = responses.RETRY_STATUSES
    when: Any = None
    keep_answers: str = KEEP_UNEXPECTED
    unreadable: Sequence[str] = ()
    oauth: Credentials | None = None

    @classmethod
    def of(cls, queue: Any) -> "Webhook":
        """queue: an object with a queue's columns."""
        return cls(
            url=queue.webhook_url,
            method=queue.webhook_method,
            headers=queue.webhook_headers,
            body=queue.webhook_body,
            content_type=queue.webhook_content_type,
            sign=queue.webhook_sign,
            success_statuses=queue.success_statuses,
            retry_statuses=queue.retry_statuses,
            when=queue.success_when,
            keep_answers=queue.keep_answers,
            oauth=_oauth_of(queue),
            **_connection_of(queue),
        )

    @classmethod
    def of_callback(cls, queue: Any) -> "Webhook":
        """The calls of a queue's callback_url: as its webhooks, but for what the request and response look like.

        Where it leads to the same origin as the webhooks, it gets their headers and token too: the same gateway
        guards both. Another origin must not learn the credentials in them. Headers of one ID have no value here.
        """
        is_same = ssrf.is_same_origin(queue.webhook_url, queue.callback_url)
        headers = queue.webhook_headers if is_same else {}
        fixed = {name: value for name, value in headers.items() if "{{" not in value}
        credentials = _oauth_of(queue) if is_same else None
        return cls(url=queue.callback_url, headers=fixed, oauth=credentials, **_connection_of(queue))

    def __post_init__(self) -> None:
        self._resets = 0
        self._seconds = min(self.connect_seconds + self.read_seconds, WEBHOOK_SECONDS)
        self._has_host = any(name.lower() == "host" for name in self.headers)
        # How each request begins, unless it has placeholders.
        self._start = ""
        self._maker: MessageMaker | None = None
        self._client: http_client.Client | None = None
        self._tokens: TokenSource | None = None
        fetched_with = self.oauth.client_secret if self.oauth else ""
        signed_with = [self.secret, *(secret for secret, _ in self.earlier_secrets)]
        unprefixed = [secret.removeprefix("whsec_") for secret in signed_with]
        self._mask = Mask.of(self.headers, [fetched_with, *unprefixed])
        # Requests that are made again with another token: once each.
        self._made_again: set[str] = set()
        self._rules = Rules.parse()
        self._kept_pointer: Pointer | None = None
        # Why no request can ever be made.
        self._refusal = ""
        if self.unreadable:
            names = ", ".join(self.unreadable)
            self._refusal = f"this host's keys don't decrypt {names}: enter them again, or add the key"
            return
        try:
            self._make()
        except (ValueError, Refused) as error:
            self._refusal = truncate(error, ERROR_CHARACTERS)

    def _make(self) -> None:
        self._maker = MessageMaker(
            url=self.url,
            method=self.method,
            headers=self.headers,
            body=self.body,
            content_type=self.content_type,
            secrets=Secrets(self.secret, self.earlier_secrets),
            sign=self.sign,
        )
        self._rules = Rules.parse(self.success_statuses, self.retry_statuses, self.when)
        if self.keep_answers not in (KEEP_UNEXPECTED, KEEP_ALL):
            self._kept_pointer = Pointer.parse(self.keep_answers)
        limits = http_client.Limits(self.connect_seconds, self.read_seconds, self._seconds)
        self._client = http_client.Client(
            self._maker.origin or self.url,
            limits=limits,
            connections=self.connections,
            allowed=self.allowed,
            sources=self.sources,
            ca_file=self.ca_file,
        )
        self._start = self._start_of(self._client.url.target, self._client, self._maker.headers)
        if self.oauth is not None:
            self._tokens = TokenSource(
                self.oauth, limits=limits, allowed=self.allowed, sources=self.sources, ca_file=self.ca_file
            )

    def prepare(self) -> None:
        self.is_ready()

    def is_ready(self) -> bool:
        return self._tokens is None or self._tokens.is_ready()

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        if len(batch) == 1:
            return [(await self.call_and_show(batch[0]))[0]]
        return list(await asyncio.gather(*(self.call(request) for request in batch)))

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()
        if self._client is not None:
            self._client.close()

    async def call(self, request: Request) -> Outcome:
        """Make one request. Whatever goes wrong is an outcome."""
        return (await self.call_and_show(request))[0]

    async def call_and_show(self, request: Request) -> tuple[Outcome, Message | None]:
        """Make one request, and return the message too; None if it couldn't be made."""
        if self.unreadable:
            return self._blocked(self._refusal), None
        try:
            message = self.message_of(request)
        except Refused as error:
            # The next attempt would lack the same.
            return Outcome(retry.Verdict.FAILED, error=truncate(error, ERROR_CHARACTERS)), None
        return await self._send(message), message

    def message_of(self, request: Request) -> Message:
        """Return what a request looks like if it is made now. Raises Refused."""
        if self._maker is None:
            raise NeverMade(reason=self._refusal)
        return self._maker.of_request(request)

    async def post(self, key: str, body: bytes) -> Outcome:
        """Send a body, signed with a key. Whatever goes wrong is an outcome."""
        if self.unreadable:
            return self._blocked(self._refusal)
        if self._maker is None:
            return Outcome(retry.Verdict.FAILED, error=self._refusal)
        message = self._maker.of_body(key, body)
        outcome = await self._send(message)
        return await self._send(message) if key in self._made_again else outcome

    def _blocked(self, reason: str, seconds: float = BLOCK_SECONDS) -> Outcome:
        """Return the outcome of a request that isn't made since the queue's credentials can't be used."""
        error = truncate(reason, ERROR_CHARACTERS)
        return Outcome(retry.Verdict.RETRY, error=error, started=False, block_seconds=seconds)

    def url_of(self, message: Message) -> str:
        """Return the address that a message goes to."""
        if message.target is None or self._maker is None:
            return self.url
        return f"{self._maker.origin}{message.target}"

    async def _send(self, message: Message) -> Outcome:
        if self._client is None:
            return Outcome(retry.Verdict.FAILED, error=self._refusal)
        token = ""
        if self._tokens is not None:
            try:
                token = await self._tokens.token()
            except TokenFailed as error:
                return self._blocked(str(error), error.seconds)
        began = time.monotonic()
        try:
            response = await self._exchange(self._client, message, token)
        except (http_client.CallFailed, lookup.LookupFailed, ssrf.AddressNotAllowed) as error:
            words = truncate(error, ERROR_CHARACTERS)
            return Outcome(
                retry.verdict(None, words),
                error=words,
                duration_ms=_milliseconds_since(began),
                # The target closed a reused connection, which is neither its fault nor the ID's.
                retry_in_this_minute=isinstance(error, http_client.ClosedInsteadOfResponse) and error.reused,
                unreached=_is_unreached(error),
            )
        if self._is_made_again(response, message, token):
            return Outcome(
                retry.Verdict.RETRY,
                status=response.status,
                error="answered 401, so that the token is renewed and the request is made again",
                duration_ms=_milliseconds_since(began),
                started=False,
            )
        mask = self._mask.with_secret(token) if token else self._mask
        return self._outcome(response, message, began, mask)

    def _is_made_again(self, response: ResponseReader, message: Message, token: str) -> bool:
        """Whether a request is made again with another token, as no attempt of its own: once."""
        if self._tokens is None:
            return False
        if response.status != UNAUTHORIZED:
            self._tokens.accept(token)
            return False
        key = message.headers["Idempotency-Key"]
        if key in self._made_again or not self._tokens.reject(token):
            return False
        self._made_again.add(key)
        return True

    async def _exchange(self, client: http_client.Client, message: Message, token: str) -> ResponseReader:
        deadline = asyncio.get_running_loop().time() + self._seconds
        if self._resets < RESETS:
            try:
                return await client.send(self._bytes_of(client, message, token), deadline=deadline)
            except http_client.ClosedUnread:
                # The target closes idle connections. This request was not made, so it is made now.
                self._resets += 1
            except http_client.ClosedInsteadOfResponse as error:
                self._resets += error.reused
                raise
        request = self._bytes_of(client, message, token, "Connection: close\r\n")
        return await client.send(request, deadline=deadline, fresh=True)

    def _bytes_of(self, client: http_client.Client, message: Message, token: str, more: str = "") -> bytes:
        start = self._start
        if message.target is not None:
            start = self._start_of(message.target, client, message.queue_headers)
        own = _header_lines(message.own_headers)
        if token:
            own += f"Authorization: Bearer {token}\r\n"
        # A GET without a body doesn't have a length of 0 either (RFC 9110, section 8.6).
        if message.body or self.method not in ("GET", "DELETE"):
            more += f"Content-Length: {len(message.body)}\r\n"
        return f"{start}{own}{more}\r\n".encode() + message.body

    def _start_of(self, target: str, client: http_client.Client, headers: Mapping[str, str]) -> str:
        host = "" if self._has_host else f"Host: {client.url.host_header}\r\n"
        return f"{self.method} {target} HTTP/1.1\r\n{host}{_header_lines(headers)}"

    def _outcome(self, response: ResponseReader, message: Message, began: float, mask: Mask) -> Outcome:
        status = response.status
        assert status is not None
        content = content_of(response)
        verdict, reason = self._rules.verdict(status, content, complete=not response.note)
        error = response.note
        if verdict is not retry.Verdict.SUCCEEDED:
            error = mask(reason) or f"answered {status}"
            if status in retry.REDIRECTS:
                error = redirect_words(
                    response, self.url_of(message), status, mask, is_filled="{{" in self.url
                )
        answer = text_of(response, content, mask)
        keeps_answer = verdict is retry.Verdict.SUCCEEDED and self.keep_answers != KEEP_UNEXPECTED
        if keeps_answer and self._kept_pointer is not None:
            answer = self._value_in(content, mask)
        return Outcome(
            verdict,
            status=status,
            error=truncate(error, ERROR_CHARACTERS) if error else "",
            answer=answer,
            duration_ms=_milliseconds_since(began),
            retry_after=longest_retry_after(response.headers.get("retry-after", ()), status),
            keep_answer=keeps_answer,
        )

    def _value_in(self, content: bytes, mask: Mask) -> str:
        """Return the value that the queue keeps of each response; empty if there is none."""
        assert self._kept_pointer is not None
        try:
            value = self._kept_pointer.find(responses.read_json(content, exact=True))
            return "" if value is None else truncate(mask(exact_json.as_text(value)))
        except (ValueError, RecursionError):
            return ""


def _header_lines(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _is_unreached(error: Exception) -> bool:
    """Whether no connection came about: that may be this host's fault."""
    if isinstance(error, http_client.TimedOut):
        return error.phase in ("look-up", "connect")
    return isinstance(error, (http_client.NotConnected, lookup.LookupFailed))


def _oauth_of(queue: Any) -> Credentials | None:
    if not queue.oauth_token_url:
        return None
    return Credentials(
        token_url=queue.oauth_token_url,
        client_id=queue.oauth_client_id,
        client_secret=queue.oauth_client_secret,
        scope=queue.oauth_scope,
        audience=queue.oauth_audience,
        client_auth=queue.oauth_client_auth,
    )


def _connection_of(queue: Any) -> dict[str, Any]:
    return {
        "secret": queue.webhook_secret,
        "earlier_secrets": [(secret, until.timestamp()) for secret, until in queue.earlier_secrets],
        "connect_seconds": queue.connect_timeout_seconds,
        "read_seconds": queue.read_timeout_seconds,
        "connections": queue.max_connections,
        "allowed": settings.WEBHOOK_ALLOWED_NETWORKS,
        "ca_file": settings.WEBHOOK_CA_FILE,
        "unreadable": queue.unreadable_secrets,
    }


def _milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
