"""Long results, read a block at a time."""

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

Row = TypeVar("Row", bound=Model)


def in_blocks(rows: QuerySet[Row], size: int = 2000) -> Iterator[Row]:
    """Yield the rows of a query, `size` for each statement. Between two blocks no cursor is open.

    So whoever reads slowly keeps no snapshot, and the connection may serve others meanwhile. rows: ordered by
    columns without nulls, the last of which is unique.
    """
    following = rows
    while block := list(following[:size]):
        yield from block
        following = rows.filter(_after(block[-1], rows.query.order_by))


def _after(row: Model, order: tuple[Any, ...]) -> Q:
    """The rows that come after `row` in this order."""
    found, equal = Q(), Q()
    for name in order:
        column, way = name.lstrip("-"), "lt" if name.startswith("-") else "gt"
        value = getattr(row, column)
        found |= equal & Q(**{f"{column}__{way}": value})
        equal &= Q(**{column: value})
    return found
