"""A process that freezes in a transaction keeps the rows that it holds: PostgreSQL ends that, after a while.

Its changes are rolled back, and it learns of that when it wakes. On SQLite, runner.watch replaces the process.
"""

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


def connect() -> None:
    """Have each new connection of this process bounded so."""
    connection_created.connect(_bound, dispatch_uid="scheduling.store.frozen")


def _bound(sender: object, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    seconds = settings.FROZEN_TRANSACTION_SECONDS
    # Behind a pooler that works by transaction, a session is everybody's.
    if connection.vendor == "postgresql" and seconds and settings.DATABASE_POOLER != "transaction":
        with connection.cursor() as cursor:
            # Not with the connection's options: a pooler in front may know only some of those.
            cursor.execute("SET idle_in_transaction_session_timeout = %s", [round(seconds * 1000)])
