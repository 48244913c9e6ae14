"""Statements that a minute worker needn't wait for: on PostgreSQL they travel with the next one, or with COMMIT.

Elsewhere, and outside of a worker's transaction, they are made at once.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet
from django.db.models.sql import DeleteQuery, InsertQuery, UpdateQuery

from scheduling.postgresql.base import DatabaseWrapper, Rows

Row = TypeVar("Row", bound=Model)


def _brief(*, in_transaction: bool = True) -> DatabaseWrapper | None:
    """The connection, where statements can be put off now."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if not isinstance(wrapper, DatabaseWrapper) or not wrapper.is_brief:
        return None
    return wrapper if wrapper.in_atomic_block or not in_transaction else None


def is_possible(*, in_transaction: bool = True) -> bool:
    """Whether statements are put off now. Outside of a transaction only those that read are."""
    return _brief(in_transaction=in_transaction) is not None


def run(sql: str, params: Sequence[Any] = (), then: Callable[[Rows], None] | None = None) -> None:
    """Run a statement. then: is given its rows."""
    if (wrapper := _brief()) is not None:
        wrapper.put_off(sql, params, then)
    else:
        run_now(sql, params, then)


def run_now(sql: str, params: Sequence[Any] = (), then: Callable[[Rows], None] | None = None) -> None:
    """Run a statement that somebody waits for."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(sql, params)
        if then is not None:
            then(cursor.fetchall())


def run_for(count: int, sql: str, params: Sequence[Any]) -> None:
    """Run a statement that must change exactly this many rows; otherwise the transaction is rolled back."""
    if (wrapper := _brief()) is not None:
        # The count is checked in the database: a text that isn't a number makes the transaction fail, and says why.
        message = f"'{int(count)} rows were to change, ' || count(*) || ' did'"
        wrapper.put_off(
            f"WITH changed AS ({sql} RETURNING 1)"
            f" SELECT CASE WHEN count(*) = {int(count)} THEN 0 ELSE ({message})::int END FROM changed",
            params,
        )
        return
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(sql, params)
        must_be(count, cursor.rowcount)


def wait() -> None:
    """Have the rows of all that was put off, where no statement since has brought them."""
    wrapper = _brief(in_transaction=False)
    if wrapper is not None and any(statement.then for statement in wrapper.put_off_statements):
        wrapper.send_put_off()


def must_be(expected: int, count: int) -> None:
    """Raise RuntimeError unless as many rows changed as were to.

    Under the bucket's lock nobody else changes them; if somebody did, nothing of this transaction may stay.
    """
    if count != expected:
        raise RuntimeError(f"{expected} rows were to change, {count} did")


def update(rows: QuerySet[Row], **values: Any) -> None:
    """Update rows of one table."""
    if (wrapper := _brief()) is None:
        rows.update(**values)
        return
    query: UpdateQuery = rows.query.chain(UpdateQuery)  # type: ignore[assignment]  # the stubs know less
    query.add_update_values(values)
    wrapper.put_off(*query.get_compiler(connection=wrapper).as_sql())


def delete(rows: QuerySet[Row]) -> None:
    """Delete rows of a table that no other one refers to."""
    if (wrapper := _brief()) is None:
        rows.delete()
        return
    query = rows.query.chain(DeleteQuery)
    wrapper.put_off(*query.get_compiler(connection=wrapper).as_sql())


def insert(rows: Iterable[Model]) -> None:
    """Insert rows; their keys are known once the transaction is committed."""
    objects = list(rows)
    if not objects:
        return
    model, wrapper = type(objects[0]), _brief()
    if wrapper is None:
        model._default_manager.bulk_create(objects)
        return
    key = model._meta.pk
    fields = [field for field in model._meta.concrete_fields if field is not key]
    query = InsertQuery(model)
    query.insert_values(fields, objects)
    compiler = query.get_compiler(connection=wrapper)
    compiler.returning_fields = [key]

    def take_keys(key_rows: Rows) -> None:
        for instance, (value,) in zip(objects, key_rows, strict=True):
            instance.pk = value

    ((sql, params),) = compiler.as_sql()
    wrapper.put_off(sql, params, take_keys)


def read(rows: QuerySet[Row], then: Callable[[list[Row]], None]) -> None:
    """Read rows as objects. then: is given them. Before a transaction, they come with its first statement."""
    if (wrapper := _brief(in_transaction=False)) is None:
        then(list(rows))
        return
    compiler = rows.query.get_compiler(connection=wrapper)
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        then([])
        return
    names = [column.target.attname for column, *_ in compiler.select]

    def take_objects(raw_rows: Rows) -> None:
        then([rows.model.from_db(wrapper.alias, names, row) for row in compiler.results_iter([raw_rows])])

    wrapper.put_off(sql, params, take_objects)


def read_by_sql(
    model: type[Row], names: Sequence[str], sql: str, params: Sequence[Any], then: Callable[[list[Row]], None]
) -> None:
    """Read rows as objects by a statement that returns the named attributes; the model lacks some of them."""
    fields = {field.attname: field for field in model._meta.concrete_fields}

    def value(name: str, stored: Any) -> Any:
        convert = getattr(fields.get(name), "from_db_value", None)
        return convert(stored, None, connections[DEFAULT_DB_ALIAS]) if convert else stored

    def take_objects(raw_rows: Rows) -> None:
        objects = []
        # In the model's order, as from_db takes them.
        own = [name for name in fields if name in names]
        for row in raw_rows:
            values = {name: value(name, stored) for name, stored in zip(names, row, strict=True)}
            objects.append(model.from_db(DEFAULT_DB_ALIAS, own, [values[name] for name in own]))
            for name in values.keys() - fields.keys():
                setattr(objects[-1], name, values[name])
        then(objects)

    run(sql, params, take_objects)
