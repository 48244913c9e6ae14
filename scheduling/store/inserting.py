"""Inserts of a few rows, as statements that are written once for each table.

What `bulk_create` does, for a tenth of the work: a list of one ID inserts into six tables, and compiling the same
statements again for every list was half of its cost.
"""

from collections.abc import Sequence
from functools import cache

from django.db import connection
from django.db.models import Field, Model
from django.db.models.expressions import DatabaseDefault

# SQLite takes 32,766 parameters in a statement; the widest of these tables has some 40 columns.
ROWS_A_STATEMENT = 200


def insert(rows: Sequence[Model]) -> None:
    """Insert rows of one table, whose keys the database makes; each row gets its own.

    In the transaction that is open. No signal is sent.
    """
    for first in range(0, len(rows), ROWS_A_STATEMENT):
        _insert(rows[first : first + ROWS_A_STATEMENT])


def _insert(rows: Sequence[Model]) -> None:
    model = type(rows[0])
    # A column whose value only the database knows is left to it.
    fields = [
        field
        for field in _columns(model)
        if not isinstance(getattr(rows[0], str(field.attname)), DatabaseDefault)
    ]
    values = [
        field.get_db_prep_save(field.pre_save(row, add=True), connection) for row in rows for field in fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(_statement(model, tuple(field.column for field in fields), len(rows)), values)
        for row, (key,) in zip(rows, cursor.fetchall(), strict=True):
            row.pk = key
            row._state.adding, row._state.db = False, connection.alias


@cache
def _columns(model: type[Model]) -> "tuple[Field[object, object], ...]":
    return tuple(field for field in model._meta.concrete_fields if not field.primary_key)


@cache
def _statement(model: type[Model], columns: tuple[str, ...], rows_count: int) -> str:
    quote = connection.ops.quote_name
    row = f"({', '.join(['%s'] * len(columns))})"
    return (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(map(quote, columns))})"
        f" VALUES {', '.join([row] * rows_count)} RETURNING id"
    )
