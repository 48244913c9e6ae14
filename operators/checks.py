"""System checks: whether others can read confidential files, and whether there is a pooler before the
database.
"""

import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection


@register(Tags.security)
def check_privacy(**_: object) -> list[CheckMessage]:
    """Everything in these directories is confidential: lists, sessions, the key that signs jobs."""
    found: list[CheckMessage] = []
    for name in ("DATA_DIR", "SPOOL_DIR"):
        path: Path = getattr(settings, name)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            found.append(
                Warning(
                    f"{name} ({path}) has mode {mode:o}: other users of this machine can open it.",
                    hint=f"Run: chmod 700 {path}",
                    id="quarterdeck.W101",
                )
            )
    return found


@register(Tags.database)
def check_pooler(databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """A pooler that works by transaction, undeclared, makes pages fail now and then."""
    if not databases or connection.vendor != "postgresql" or settings.DATABASE_POOLER == "transaction":
        return []
    if not is_pooled_by_transaction():
        return []
    return [
        Error(
            "There is a pooler in transaction mode between Quarterdeck and PostgreSQL.",
            hint="Set DATABASE_POOLER=transaction.",
            id="quarterdeck.E101",
        )
    ]


def is_pooled_by_transaction() -> bool:
    """Return whether a connection gets another server session while its own is in use by somebody else."""
    parameters = connection.get_connection_params()
    with (
        closing(connection.get_new_connection(parameters)) as first,
        closing(connection.get_new_connection(parameters)) as other,
    ):
        sessions = []
        for _ in range(2):
            sessions.append(first.execute("SELECT pg_backend_pid()").fetchone()[0])
            first.commit()
            # It stays in a transaction, so a pooler in transaction mode keeps its session occupied.
            other.execute("SELECT pg_backend_pid()")
        return bool(sessions[0] != sessions[1])
