"""JSON responses, entity tags, and the conditions that a request sets."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from api.problems import Problem

_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def json_response(
    data: Any, *, status: int = 200, etag: str | None = None, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return `data` as JSON."""
    # Sorted, because PostgreSQL stores a response for repeated requests with its keys in an order of its own.
    body = orjson.dumps(data, option=orjson.OPT_SORT_KEYS if status == 201 else 0)
    response = HttpResponse(body, status=status, content_type="application/json")
    if etag is not None:
        response["ETag"] = f'"{etag}"'
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def etag_of(*facts: Any) -> str:
    """Return a tag for a resource that has no version column."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


def check_if_match(request: HttpRequest, etag: str) -> bool:
    """Return whether the request has an If-Match with a tag. Raises Problem (412) if the tag is stale.

    Proxies make a tag weak (`W/`) or mark what they compressed (`-gzip`): it still names the same version.
    """
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return False
    tags = {re.sub(r"-(?:gzip|br|zstd|deflate)$", "", tag) for tag in _TAG.findall(header)}
    # Some clients omit the quotes.
    if etag in tags or header.strip() == etag:
        return True
    raise Problem(
        "changed-meanwhile",
        "It has changed since you read it. Read it again.",
        headers={"ETag": f'"{etag}"'},
    )


def location_of(request: HttpRequest, key: Any) -> str:
    """Return where a new row is, relative to the collection, with or without its final slash."""
    last = request.path.rpartition("/")[2]
    return f"{last}/{key}/" if last else f"{key}/"
