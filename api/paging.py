"""Keyset pagination: each page starts after the last row of the previous one, whatever was added meanwhile.

The cursor is signed together with the path and the filters, so that a changed cursor, or one of another list,
is recognized. The next link is absolute, with the host and scheme of the request.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from api.problems import bad_parameter

MAX_LIMIT = 1000
# Another number when the keys in cursors change their meaning.
_SALT = "api.paging.2"
_NOT_FILTERS = frozenset({"limit", "cursor"})
Row = TypeVar("Row", bound=Model)


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


class Page(Protocol):
    """What a request asks for of a list."""

    limit: int
    cursor: str | None


def newest_first(request: HttpRequest, rows: QuerySet[Row], page: Page) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of a page, in the order of their descending keys, and the Link header to the next one.

    Raises Problem (400) for a cursor of another list.
    """
    after = read_cursor(request, page.cursor)
    if after is not None:
        rows = rows.filter(pk__lt=after[0])
    following = list(rows.order_by("-pk")[: page.limit + 1])
    shown = following[: page.limit]
    return shown, next_link(request, [shown[-1].pk]) if len(following) > len(shown) else {}


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
