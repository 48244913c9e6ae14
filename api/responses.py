"""JSON responses, entity tags, and the conditions that a request sets."""

import hashlib
import re
from collections.abc import Mapping, Sequence
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


def revalidated(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return `response`, or 304 if the client has it already.

    For resources without progress of their own. A response without a tag gets one of its content.
    """
    if "ETag" not in response:
        response["ETag"] = f'"{etag_of(response.content, response.get("Link"))}"'
    response["Cache-Control"] = "private, no-cache"
    response["Vary"] = "Authorization, Cookie"
    if not _matches(request.headers.get("If-None-Match", ""), response["ETag"].strip('"')):
        return response
    headers_kept = ("ETag", "Cache-Control", "Vary", "Link")
    return HttpResponse(
        status=304, headers={name: response[name] for name in headers_kept if name in response}
    )


def _matches(header: str, etag: str) -> bool:
    """Return whether a header with tags names this one, even as altered by proxies.

    They make a tag weak (`W/`) or mark what they compressed (`-gzip`): it still names the same version. Some
    clients omit the quotes.
    """
    tags = {re.sub(r"-(?:gzip|br|zstd|deflate)$", "", tag) for tag in _TAG.findall(header)}
    return etag in tags or header.strip() in ("*", etag)


def etag_of(*facts: Any) -> str:
    """Return a tag for a resource that has no version column."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


def check_if_match(request: HttpRequest, etag: str) -> bool:
    """Return whether the request has an If-Match with a tag. Raises Problem (412) if the tag is stale."""
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return False
    if _matches(header, etag):
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


def preferred_type(request: HttpRequest, available: Sequence[str]) -> str | None:
    """Return the media type that the client prefers, or None if it accepts none of them.

    Parameters other than `q` don't matter: `application/json;charset=utf-8` is JSON. The first one wins a tie.
    """
    best: tuple[float, str | None] = (0.0, None)
    ranges = [_media_range(part) for part in request.headers.get("Accept", "*/*").split(",") if part.strip()]
    for media_type in available:
        matching = [
            (range_.count("*"), quality)
            for range_, quality in ranges or [("*/*", 1.0)]
            if range_ in (media_type, media_type.partition("/")[0] + "/*", "*/*")
        ]
        # The most specific range decides: `text/*;q=0.5, text/csv` accepts CSV without reservation.
        quality = min(matching, key=lambda match: (match[0], -match[1]))[1] if matching else 0.0
        if quality > best[0]:
            best = (quality, media_type)
    return best[1]


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0
