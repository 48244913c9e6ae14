"""Long results, read a block at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

Row = TypeVar("Row", bound=Model)


def in_blocks(rows: QuerySet[Row], size: int = 2000) -> Iterator[Row]:
    """Yield the rows of a query, `size` for each statement. Between two blocks no cursor is open.

    So a slow reader keeps no snapshot, and the connection may serve others meanwhile. rows: ordered by
    columns without nulls, the last of which is unique.
    """
    following = rows
    while block := list(following[:size]):
        yield from block
        following = rows.filter(_after(block[-1], rows.query.order_by))


def values_in_blocks(rows: QuerySet[Any], *columns: str, size: int = 5_000) -> Iterator[tuple[Any, ...]]:
    """Yield (key, *columns) of rows by key, `size` for each statement. Between two blocks no cursor is open.

    A pooler that works by transaction loses a cursor that outlives one, and SQLite begins no transaction on a read
    snapshot that a writer has overtaken.
    """
    after = -1
    by_key = rows.order_by("pk").values_list("pk", *columns)
    while block := list(by_key.filter(pk__gt=after)[:size]):
        yield from block
        after = block[-1][0]


def _after(row: Model, order: Sequence[Any]) -> Q:
    """The rows that come after `row` in this order."""
    condition, equal = Q(), Q()
    for name in order:
        column, way = name.lstrip("-"), "lt" if name.startswith("-") else "gt"
        value = getattr(row, column)
        condition |= equal & Q(**{f"{column}__{way}": value})
        equal &= Q(**{column: value})
    return condition
