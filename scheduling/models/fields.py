"""Column types that Django doesn't have."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class RowIdField(models.BigIntegerField):  # type: ignore[type-arg]  # Django's fields take none at run time
    """A 64-bit primary key whose values we choose.

    On SQLite only a column declared `integer primary key` is the row's own number; Django's
    `bigint` would cost a second tree, a third of the insert rate.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["primary_key"] = True
        super().__init__(*args, **kwargs)

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "integer" if connection.vendor == "sqlite" else "bigint"

    def rel_db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "bigint"
