"""Somebody else's deletion between a request's first look at a row and its second."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, models


@contextmanager
def deleted_after_first_read(row: models.Model) -> Iterator[None]:
    """Delete a row once a statement has read its table, before the next one does."""
    table, reads = row._meta.db_table, 0

    def wrap(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal reads
        if sql.startswith(("SELECT", "WITH")) and table in sql:
            reads += 1
            if reads == 2:
                type(row)._base_manager.filter(pk=row.pk)._raw_delete(using="default")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrap):
        yield
    assert reads >= 2, "nothing read the table a second time"
