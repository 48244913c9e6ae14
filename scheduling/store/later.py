"""Statements that a minute worker needn't wait for: on PostgreSQL they travel with the next one, or with COMMIT.

Elsewhere, and outside of a worker's transaction, they are made at once.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

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
    """Run a statement that changes as many rows; where others did, nothing of the transaction stays."""
    if (wrapper := _brief()) is not None:
        # Looked at where it runs. What is no number makes the transaction fail, and says why.
        said = f"'{int(count)} rows were to change, ' || count(*) || ' did'"
        wrapper.put_off(
            f"WITH changed AS ({sql} RETURNING 1)"
            f" SELECT CASE WHEN count(*) = {int(count)} THEN 0 ELSE ({said})::int END FROM changed",
            params,
        )
        return
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(sql, params)
        must_be(count, cursor.rowcount)


def wait() -> None:
    """Have the rows of all that was put off, where no statement since has brought them."""
    wrapper = _brief(in_transaction=False)
    if wrapper is not None and any(one.then for one in wrapper.put_off_statements):
        wrapper.send_put_off()


def must_be(wanted: int, count: int) -> None:
    """Raise RuntimeError unless as many rows changed as were to.

    Under the bucket's lock nobody else changes them; if somebody did, nothing of this transaction may stay.
    """
    if count != wanted:
        raise RuntimeError(f"{wanted} rows were to change, {count} did")


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

    def take_keys(found: Rows) -> None:
        for one, (value,) in zip(objects, found, strict=True):
            one.pk = value

    ((sql, params),) = compiler.as_sql()
    wrapper.put_off(sql, params, take_keys)


def read(rows: QuerySet[Row], then: Callable[[list[Row]], None]) -> None:
    """Read rows as objects. then: is given them. Before a transaction, they come with its first statement."""
    if (wrapper := _brief(in_transaction=False)) is None:
        then(list(rows))
        return
    compiler = rows.query.get_compiler(connection=wrapper)
    sql, params = compiler.as_sql()
    names = [column.target.attname for column, *_ in compiler.select]

    def take_objects(found: Rows) -> None:
        then([rows.model.from_db(wrapper.alias, names, row) for row in compiler.results_iter([found])])

    wrapper.put_off(sql, params, take_objects)
