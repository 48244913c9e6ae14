"""Queries that are compiled once: the ORM writes the statement, and each call only brings other parameters.

To compile a query costs several times what SQLite takes to answer it. These are the queries that every short list
makes while it holds its queue's row.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from django.db import connection, transaction
from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)
# Parameters while a query is compiled: values that stand in no query otherwise.
_NUMBER, _TIME, _TEXT = 1_913_000_017, datetime(1913, 1, 7, tzinfo=UTC), "\x01parameter"


@dataclass(frozen=True)
class _Compiled:
    sql: str
    # For each place in the statement the number of the parameter, or the constant.
    places: tuple[tuple[int | None, Any], ...]
    compiler: Any
    converters: dict[int, Any]
    columns: tuple[str, ...]


class PreparedQuery(Generic[Row]):
    """One query of one table, without related rows and annotations.

    query: given one value of each kind, returns the rows or their `values_list`. kinds: int, str or datetime, for
    each of the query's parameters. None of them may change the query's shape, as None would.
    """

    def __init__(self, query: Callable[..., QuerySet[Row, Any]], *kinds: type) -> None:
        self._query, self._kinds = query, kinds
        # A compiled query belongs to a connection, and so to a thread.
        self._local = threading.local()

    def values(self, *parameters: int | str | datetime) -> list[tuple[Any, ...]]:
        """The query's columns, for each row."""
        return [tuple(row) for row in self._rows(self._compiled, parameters)]

    def rows(self, *parameters: int | str | datetime) -> list[Row]:
        """The query's rows, as instances of its model."""
        compiled = self._compiled
        model = compiled.compiler.query.model
        return [
            model.from_db(connection.alias, compiled.columns, row) for row in self._rows(compiled, parameters)
        ]

    def _rows(self, compiled: _Compiled, parameters: Sequence[int | str | datetime]) -> list[list[Any]]:
        if compiled.compiler.query.select_for_update and not connection.in_atomic_block:
            raise transaction.TransactionManagementError("A row can be locked in a transaction only.")
        adapted = [_adapted(parameter) for parameter in parameters]
        values = [constant if number is None else adapted[number] for number, constant in compiled.places]
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, values)
            rows = cursor.fetchall()
        return list(compiled.compiler.apply_converters(rows, compiled.converters))

    @property
    def _compiled(self) -> _Compiled:
        compiled: _Compiled | None = getattr(self._local, connection.vendor, None)
        if compiled is None:
            compiled = self._compile()
            setattr(self._local, connection.vendor, compiled)
        return compiled

    def _compile(self) -> _Compiled:
        markers = [_marker(kind, number) for number, kind in enumerate(self._kinds)]
        compiler = self._query(*markers).query.get_compiler(connection=connection)
        sql, values = compiler.as_sql()
        numbers = {_adapted(marker): number for number, marker in enumerate(markers)}
        places = tuple((numbers.get(value), value) for value in values)
        if {number for number, _ in places} - {None} != set(range(len(markers))):
            raise ValueError("Each parameter must appear in the query exactly as it was passed.")
        columns = [expression for expression, _, _ in compiler.select]
        names = tuple(column.target.attname for column in columns)
        return _Compiled(sql, places, compiler, compiler.get_converters(columns), names)


def _marker(kind: type, number: int) -> int | str | datetime:
    if kind is int:
        return _NUMBER + number
    return _TIME + timedelta(days=number) if kind is datetime else f"{_TEXT}{number}"


def _adapted(parameter: int | str | datetime) -> Any:
    """A parameter as Django gives it to this database's driver."""
    if isinstance(parameter, datetime):
        return connection.ops.adapt_datetimefield_value(parameter)
    return parameter
