"""A pooler that works by transaction, and isn't declared, is recognised when a process connects for the first time.

With it, what a session sets and keeps belongs to everybody, and pages fail now and then.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from django.conf import settings
from django.db import OperationalError


class UndeclaredPooler(OperationalError):
    """DATABASE_POOLER doesn't say that there is a pooler that works by transaction."""


# How PgBouncer refuses what a direct connection asks for.
REFUSAL = "unsupported startup parameter"


def refusal_of(error: Exception) -> UndeclaredPooler | None:
    """Return what to say where a connection failed since a pooler accepts no options of the server."""
    if settings.DATABASE_POOLER != "none" or REFUSAL not in str(error):
        return None
    return UndeclaredPooler(
        "There is a pooler between Quarterdeck and PostgreSQL: set DATABASE_POOLER=transaction,"
        " or DATABASE_POOLER=session, as it works."
    )


class _Process:
    # Whether this process, or the one that it was forked from, has looked already.
    is_checked = False


def check(connection: Any, connect: Callable[[], Any]) -> None:
    """Raise UndeclaredPooler where a new connection of the driver leads to an undeclared pooler.

    connect: makes another connection.
    """
    if _Process.is_checked or settings.DATABASE_POOLER == "transaction":
        return
    # A pooler answers for many sessions, and gives its client a number of its own.
    is_pooled = _session(connection) != connection.info.backend_pid
    connection.rollback()
    if is_pooled:
        with closing(connect()) as other:
            is_by_transaction = is_pooled_by_transaction(connection, other)
        connection.rollback()
        if is_by_transaction:
            raise UndeclaredPooler(
                "There is a pooler in transaction mode between Quarterdeck and PostgreSQL:"
                " set DATABASE_POOLER=transaction."
            )
    _Process.is_checked = True


def is_pooled_by_transaction(connection: Any, other: Any) -> bool:
    """Return whether a connection gets another server session while its own is in use by another one."""
    session = _session(connection)
    connection.commit()
    # It stays in a transaction, so that a pooler in transaction mode keeps its session occupied.
    return _session(other) == session or _session(connection) != session


def _session(connection: Any) -> int:
    return int(connection.execute("SELECT pg_backend_pid()").fetchone()[0])
