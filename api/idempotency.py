"""The Idempotency-Key header: a repeated POST gets the response of the first one."""

import hashlib
from typing import Any

import orjson
from django.http import HttpRequest

from api.auth import ApiRequest
from api.problems import Problem
from scheduling.intake.idempotency import IdempotencyKey

MAX_KEY_LENGTH = 255


def read_key(request: HttpRequest) -> str | None:
    """Return the Idempotency-Key of the request. Raises Problem (400) for an invalid one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip()
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        reason = f"It must have 1 to {MAX_KEY_LENGTH} visible characters."
        raise Problem(
            "bad-parameter",
            f"Idempotency-Key: {reason}",
            places=[{"header": "Idempotency-Key", "reason": reason}],
        )
    return key


def idempotency_key(request: ApiRequest, key: str | None, content: str) -> IdempotencyKey | None:
    """Return the caller's key. content: a fingerprint of the content and the parameters."""
    return None if key is None else IdempotencyKey(request.caller.key_scope, key, content)


def key_of_fields(request: ApiRequest, fields: Any) -> IdempotencyKey | None:
    """Return the key of a request whose content is a few fields."""
    key = read_key(request)
    content = [request.path.rstrip("/"), fields]
    return idempotency_key(request, key, hashlib.sha256(orjson.dumps(content)).hexdigest())


def replayed(headers: dict[str, str], is_repeated: bool) -> dict[str, str]:
    """Mark the response of an earlier request."""
    return headers | {"Idempotent-Replayed": "true"} if is_repeated else headers
