"""Pages by key: none of the rows is skipped or doubled while new ones arrive."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest

MAX_KEY = 2**63 - 1


@dataclass(frozen=True)
class Page:
    """Some rows of a list, newest first, and where the next page begins."""

    rows: list[Any]
    next_before: int | None
    is_first: bool


def by_id(request: HttpRequest, found: QuerySet, size: int) -> Page:
    """The page that the address asks for by `before`, an id. Raises BadRequest for another `before`."""
    before = whole_number(request, "before")
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found[: size + 1])
    more = len(rows) > size
    return Page(rows[:size], rows[size - 1].pk if more else None, before is None)


def whole_number(request: HttpRequest, name: str, *, low: int = 0) -> int | None:
    """A parameter that is a whole number; None where it isn't given. Raises BadRequest."""
    text = request.GET.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and low <= int(text) <= MAX_KEY):
        raise BadRequest(f"{name}: {text[:40]!r} is no number from {low} to {MAX_KEY}.")
    return int(text)
