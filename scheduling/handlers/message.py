"""Makes the HTTP request that a target receives: the standard one, or what the queue's templates say.

Requests are signed by the Standard Webhooks specification.
"""

import base64
import hmac
import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from scheduling.core.errors import CannotFill
from scheduling.core.templates import JSON_TYPE, RequestTemplate, Values, as_json

from .base import Request

USER_AGENT = "Quarterdeck/1"
# Headers that describe the message or the connection are the client's.
_CLIENT_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "transfer-encoding", "upgrade"}
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD = re.compile(r"[A-Z]+")


class Message(NamedTuple):
    """One request.

    queue_headers: what the queue sends with each request. own_headers: what says which request it is, and signs it.
    target: path and query; None: those of the queue's address, and the queue's headers are without placeholders.
    """

    queue_headers: Mapping[str, str]
    own_headers: Mapping[str, str]
    body: bytes
    target: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {**self.queue_headers, **self.own_headers}


def body_of(request: Request) -> bytes:
    """Return what a target receives. The ID is there as text too, for receivers that round large numbers."""
    fields: dict[str, Any] = {
        "user_id": request.user_id,
        "user_id_str": str(request.user_id),
        "task_id": request.task_id,
        "task_name": request.task_name,
        "queue": request.queue,
        "planned_at": _written(request.planned_at),
        "attempt": request.attempt,
    }
    if request.external_id is not None:
        fields |= {"user_id": None, "user_id_str": request.external_id, "external_id": request.external_id}
    if request.data is not None:
        # As the templates write them: numbers may have any length.
        fields["data"] = orjson.Fragment(as_json(request.data).encode())
    return orjson.dumps(fields)


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


def signed_headers(key: str, body: bytes, signers: Sequence[hmac.HMAC], timestamp: int) -> dict[str, str]:
    """Return the headers of the Standard Webhooks specification, and `Idempotency-Key` with the same key.

    signers: while a secret is replaced there are several, and a signature by each.

    They equal the ones that the library `standardwebhooks` makes (a test compares them), and take a tenth of its time.
    """
    headers = {"webhook-id": key, "webhook-timestamp": str(timestamp), "Idempotency-Key": key}
    if signers:
        content = f"{key}.{timestamp}.".encode() + body
        headers["webhook-signature"] = " ".join([_signature(signer, content) for signer in signers])
    return headers


def _signature(signer: hmac.HMAC, content: bytes) -> str:
    signing = signer.copy()
    signing.update(content)
    return f"v1,{base64.b64encode(signing.digest()).decode()}"


def values_of(request: Request) -> Values:
    """Return what the placeholders of a request stand for."""
    return Values(
        id=request.user_id if request.external_id is None else request.external_id,
        task_id=request.task_id,
        task_name=request.task_name,
        queue=request.queue,
        attempt=request.attempt,
        planned_at=_written(request.planned_at),
        idempotency_key=request.idempotency_key,
        data=request.data or {},
    )


class Secrets(NamedTuple):
    """What requests are signed with. earlier: those that sign too, each up to a time in seconds since 1970."""

    current: str = ""
    earlier: Sequence[tuple[str, float]] = ()


class MessageMaker:
    """Makes the requests of one queue.

    body: None for the standard JSON; a template; or empty for no body. Raises ValueError, or BadTemplate, for
    what can't be a part of a request.
    """

    def __init__(
        self,
        *,
        url: str,
        method: str,
        headers: Mapping[str, str],
        body: str | None,
        content_type: str,
        secrets: Secrets,
        sign: bool,
    ) -> None:
        every = [(secrets.current, math.inf), *secrets.earlier]
        self._signers = [(signer, until) for secret, until in every if (signer := signer_of(secret))]
        self._sign = sign
        self._template: RequestTemplate | None = None
        if body is not None or any("{{" in text for text in (url, *headers.values())):
            self._template = RequestTemplate.parse(
                url=url, headers=headers, body=body, content_type=content_type
            )
        self.headers = _merge(
            {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
            headers,
            {"Content-Type": JSON_TYPE if body is None else content_type},
        )
        if body == "":
            del self.headers["Content-Type"]
        for name in self._signed("", b""):
            # Each message has one of its own.
            self.headers.pop(name, None)
        if not _METHOD.fullmatch(method):
            raise ValueError(f"{method!r} is not an HTTP method")
        for name, value in self.headers.items():
            _check_header(name, value)

    @property
    def origin(self) -> str | None:
        """Scheme, host and port of an address with placeholders, as written; None without templates."""
        return self._template.url.origin if self._template else None

    def of_request(self, request: Request) -> Message:
        """Make the message of a request that is sent now. Raises CannotFill."""
        if request.user_id < 0 and request.external_id is None:
            raise CannotFill(reason="its ID was erased")
        if self._template is None:
            return self.of_body(request.idempotency_key, body_of(request))
        values = values_of(request)
        body = self._template.body
        content = body_of(request) if body is None else body.fill(values)
        headers = self.headers | {
            name: header.fill(values)
            for name, header in self._template.headers.items()
            if name in self.headers
        }
        signed = self._signed(request.idempotency_key, content)
        return Message(headers, signed, content, self._template.url.fill(values))

    def of_body(self, key: str, body: bytes) -> Message:
        """Make the message of a body that is sent now. key: its `webhook-id`."""
        return Message(self.headers, self._signed(key, body), body)

    def _signed(self, key: str, body: bytes) -> dict[str, str]:
        if not self._sign:
            return {"Idempotency-Key": key}
        now = time.time()
        return signed_headers(key, body, [signer for signer, until in self._signers if now < until], int(now))


def _merge(*parts: Mapping[str, str]) -> dict[str, str]:
    """Merge headers; of names that differ only in case the last one counts."""
    merged = {name.lower(): (name, value) for part in parts for name, value in part.items()}
    return {name: value for lower, (name, value) in merged.items() if lower not in _CLIENT_HEADERS}


def _check_header(name: str, value: str) -> None:
    """Raise ValueError for a header that would break out of its line."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if any(character in "\r\n\0" for character in value):
        raise ValueError(f"the value of the header {name} contains a line break")
