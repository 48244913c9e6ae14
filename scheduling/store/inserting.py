"""Inserts of a few rows, as statements that are written once for each table.

What `bulk_create` does, for a tenth of the work: a list of one ID inserts into six tables, and compiling the same
statements again for every list was half of its cost.
"""

from collections.abc import Sequence
from functools import cache
from types import NoneType
from typing import NamedTuple

from django.db import connection
from django.db.models import (
    BigIntegerField,
    CharField,
    Field,
    ForeignKey,
    Model,
    OneToOneField,
    PositiveBigIntegerField,
    PositiveIntegerField,
    PositiveSmallIntegerField,
)
from django.db.models.expressions import DatabaseDefault

from scheduling.core.batches import batches
from scheduling.store import later

# SQLite takes 32,766 parameters in a statement; the widest of these tables has some 40 columns.
ROWS_A_STATEMENT = 200
# Types whose values go to the database as they are: asking each field was a sixth of the work.
AS_THEY_ARE: dict[type, tuple[type, ...]] = {
    CharField: (str,),
    ForeignKey: (int,),
    OneToOneField: (int,),
    BigIntegerField: (int,),
    PositiveBigIntegerField: (int,),
    PositiveIntegerField: (int,),
    PositiveSmallIntegerField: (int,),
}


class _Column(NamedTuple):
    attribute: str
    name: str
    field: "Field[object, object]"
    as_they_are: frozenset[type]


def insert(rows: Sequence[Model]) -> None:
    """Insert rows of one table, whose keys the database makes; each row gets its own, in a tick with COMMIT.

    In the transaction that is open. No signal is sent.
    """
    for batch in batches(rows, ROWS_A_STATEMENT):
        _insert(batch)


def _insert(rows: Sequence[Model]) -> None:
    model = type(rows[0])
    # A column whose value only the database knows is left to it.
    columns = [
        column
        for column in _columns(model, connection.vendor)
        if not isinstance(getattr(rows[0], column.attribute), DatabaseDefault)
    ]
    values = [
        value
        if type(value := getattr(row, column.attribute)) in column.as_they_are
        else column.field.get_db_prep_save(column.field.pre_save(row, add=True), connection)
        for row in rows
        for column in columns
    ]

    def take_keys(keys: Sequence[tuple[int]]) -> None:
        for row, (key,) in zip(rows, keys, strict=True):
            row.pk = key
            row._state.adding, row._state.db = False, connection.alias

    later.run(_statement(model, tuple(column.name for column in columns), len(rows)), values, take_keys)


@cache
def _columns(model: type[Model], vendor: str) -> tuple[_Column, ...]:
    # PostgreSQL's driver is told how wide a number is.
    as_they_are = AS_THEY_ARE if vendor == "sqlite" else {}
    return tuple(
        _Column(
            str(field.attname),
            str(field.column),
            field,
            # Of all other types, and of a subclass, the field knows how they are stored.
            frozenset({NoneType, *as_they_are.get(type(field), ())}),
        )
        for field in model._meta.concrete_fields
        if not field.primary_key
    )


@cache
def _statement(model: type[Model], columns: tuple[str, ...], rows_count: int) -> str:
    quote = connection.ops.quote_name
    row = f"({', '.join(['%s'] * len(columns))})"
    return (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(map(quote, columns))})"
        f" VALUES {', '.join([row] * rows_count)} RETURNING id"
    )
