"""Pages by key: each begins behind the last row of the one before, whatever comes in meanwhile.

The cursor is signed together with the address and its filters, so that a cursor that was changed, or that
belongs to other filters, is told from a good one. The next link is relative to the address that was asked, so
that it is right behind any proxy.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from django.core import signing
from django.http import HttpRequest

from .problems import bad_parameter

LARGEST_PAGE = 1000
_SALT = "api.paging"
_NOT_FILTERS = frozenset({"limit", "cursor"})


def begin(request: HttpRequest, cursor: str | None) -> list[Any] | None:
    """Return what `link` was given, or None on the first page. Raises Problem (400)."""
    if cursor is None:
        return None
    try:
        about, key = signing.loads(cursor, salt=_SALT)
    except signing.BadSignature:
        raise bad_parameter("cursor", "not a cursor of this service") from None
    if about != _about(request):
        raise bad_parameter("cursor", "a cursor of another list or of other filters")
    return key


def link(request: HttpRequest, key: Sequence[Any]) -> str:
    """Return the Link header for the page that begins behind `key`; filters and limit stay."""
    query = request.GET.copy()
    query["cursor"] = signing.dumps([_about(request), list(key)], salt=_SALT)
    return f'<?{query.urlencode()}>; rel="next"'


def _about(request: HttpRequest) -> str:
    filters = sorted((name, value) for name, value in request.GET.items() if name not in _NOT_FILTERS)
    return hashlib.sha256(repr((request.path_info.rstrip("/"), filters)).encode()).hexdigest()[:16]
