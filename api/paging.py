"""Keyset pagination: each page starts after the last row of the previous one, whatever was added meanwhile.

The cursor is signed together with the path and the filters, so that a changed cursor, or one of another list,
is recognized. The next link is absolute, with the host and scheme of the request.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from django.core import signing
from django.http import HttpRequest

from api.problems import bad_parameter

MAX_LIMIT = 1000
# Another number when the keys in cursors change their meaning.
_SALT = "api.paging.2"
_NOT_FILTERS = frozenset({"limit", "cursor"})


def read_cursor(request: HttpRequest, cursor: str | None) -> Any:
    """Return the key that `next_link` was given, or None on the first page. Raises Problem (400)."""
    if cursor is None:
        return None
    try:
        list_hash, key = signing.loads(cursor, salt=_SALT)
    except signing.BadSignature:
        raise bad_parameter("cursor", "This is not a cursor of this service.") from None
    if list_hash != _list_hash(request):
        raise bad_parameter("cursor", "This cursor belongs to another list or to other filters.")
    return key


def next_link(request: HttpRequest, key: Sequence[Any]) -> dict[str, str]:
    """Return the Link header for the page after `key`. Filters and limit are kept."""
    return next_with(request, "cursor", signing.dumps([_list_hash(request), list(key)], salt=_SALT))


def next_with(request: HttpRequest, name: str, cursor: str) -> dict[str, str]:
    """Return the Link header for the same list from a cursor on. name: of the cursor's parameter."""
    query = request.GET.copy()
    query[name] = cursor
    address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    return {"Link": f'<{address}>; rel="next"'}


def _list_hash(request: HttpRequest) -> str:
    filters = sorted((name, value) for name, value in request.GET.items() if name not in _NOT_FILTERS)
    return hashlib.sha256(repr((request.path_info.rstrip("/"), filters)).encode()).hexdigest()[:16]
