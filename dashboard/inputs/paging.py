"""Pages by key: no row is skipped or repeated while new ones arrive."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import BadRequest
from django.db.models import CharField, Field, Q, QuerySet
from django.http import HttpRequest

from dashboard.inputs.parameters import is_number, whole_number


@dataclass(frozen=True)
class Page:
    """Some rows of a list, and where the next page begins: after a key, or `key:value` if the list is sorted."""

    rows: list[Any]
    next_before: int | str | None
    is_first: bool


def by_id(request: HttpRequest, queryset: QuerySet[Any], size: int) -> Page:
    """Return the page that the address asks for by `before`, an id. Raises BadRequest for another `before`."""
    before = whole_number(request, "before")
    if before is not None:
        queryset = queryset.filter(pk__lt=before)
    rows = list(queryset[: size + 1])
    more = len(rows) > size
    return Page(rows[:size], rows[size - 1].pk if more else None, before is None)


def by_value(request: HttpRequest, queryset: QuerySet[Any], size: int, order: str) -> Page:
    """Return a page of a list sorted by a column (`-ids_count`, `name`) and then by key, newest first.

    The address contains the value, too, so a row that is renamed in the meantime moves no page.
    """
    column, way = order.lstrip("-"), "lt" if order.startswith("-") else "gt"
    text = request.GET.get("before", "")
    if text:
        key, value = _key_and_value(text, queryset.model._meta.get_field(column))
        queryset = queryset.filter(Q(**{f"{column}__{way}": value}) | Q(**{column: value}, pk__lt=key))
    rows = list(queryset[: size + 1])
    more = len(rows) > size
    last = f"{rows[size - 1].pk}:{getattr(rows[size - 1], column)}" if more else None
    return Page(rows[:size], last, not text)


def _key_and_value(text: str, field: "Field[Any, Any]") -> tuple[int, int | str]:
    key, colon, value = text.partition(":")
    is_text = isinstance(field, CharField)
    if not (colon and is_number(key) and ("\0" not in value if is_text else is_number(value))):
        raise BadRequest(f"before: {text[:40]!r} is not a position in this list.")
    return int(key), value if is_text else int(value)
