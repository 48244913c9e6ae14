"""Answers as JSON, entity tags, and what a request asks of them."""

import hashlib
import re
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from .problems import Problem

_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def answer(data: Any, *, status: int = 200, tag: str | None = None, **headers: str) -> HttpResponse:
    """Return `data` as JSON. headers: with _ for -."""
    # In one order: PostgreSQL keeps an answer for equal requests in an order of its own.
    body = orjson.dumps(data, option=orjson.OPT_SORT_KEYS if status == 201 else 0)
    response = HttpResponse(body, status=status, content_type="application/json")
    if tag is not None:
        response["ETag"] = f'"{tag}"'
    for name, value in headers.items():
        response[name.replace("_", "-")] = value
    return response


def tag_of(*facts: Any) -> str:
    """A tag for what has no version of its own."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


def check_match(request: HttpRequest, tag: str) -> bool:
    """Whether an If-Match was given, and fits. Raises Problem (412) when it doesn't.

    Proxies make a tag weak (`W/`) or mark what they compressed (`-gzip`): it still names the same edit.
    """
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return False
    tags = {re.sub(r"-(?:gzip|br|zstd|deflate)$", "", found) for found in _TAG.findall(given)}
    # Some clients leave the quotes out.
    if tag in tags or given.strip() == tag:
        return True
    raise Problem(
        "changed-meanwhile", "It was changed since it was read; read it again.", headers={"ETag": f'"{tag}"'}
    )


def below(request: HttpRequest, key: Any) -> str:
    """Where a new row is, relative to the collection's address, whichever way that was spelled."""
    last = request.path.rpartition("/")[2]
    return f"{last}/{key}/" if last else f"{key}/"
