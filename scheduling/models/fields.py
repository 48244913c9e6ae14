"""Column types that Django doesn't have."""

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Expression

from operators import encryption

# What is encrypted for one purpose can't be decrypted for another.
PURPOSE = "secret of a queue"


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


class PlainSecret(str):
    """A secret that is stored as plain text, for hosts with a release that reads nothing else."""


class UnreadableSecret(str):
    """A secret that no key decrypts, as it is stored: to save it again changes nothing."""


def _read(text: str) -> str:
    if not encryption.is_encrypted(text):
        return PlainSecret(text) if text else text
    try:
        return encryption.decrypt(text, purpose=PURPOSE).decode()
    except encryption.Undecryptable:
        return UnreadableSecret(text)


def _stored(secret: str) -> str:
    is_plain = isinstance(secret, PlainSecret) and not encryption.is_encrypted(secret)
    if not secret or is_plain or isinstance(secret, UnreadableSecret):
        return str(secret)
    return encryption.encrypt(secret.encode(), purpose=PURPOSE)


class SecretField(models.TextField):  # type: ignore[type-arg]  # as above
    """Text that is encrypted in the database. What is stored as plain text is read as it is."""

    def from_db_value(
        self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper
    ) -> str | None:
        return None if value is None else _read(value)

    def get_prep_value(self, value: Any) -> Any:
        return _stored(value) if isinstance(value, str) else super().get_prep_value(value)


class SecretsField(models.JSONField):
    """An object of names and texts; each text is encrypted in the database, the names are not."""

    def from_db_value(
        self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper
    ) -> Any:
        texts = super().from_db_value(value, expression, connection)
        if not isinstance(texts, Mapping):
            return texts
        return {name: _read(text) if isinstance(text, str) else text for name, text in texts.items()}

    def get_prep_value(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return super().get_prep_value(value)
        return {name: _stored(text) if isinstance(text, str) else text for name, text in value.items()}
