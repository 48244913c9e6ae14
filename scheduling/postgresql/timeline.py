"""An old primary that comes back after a failover is recognised by its timeline, and not used.

Each promotion begins a new timeline of the same system. A host keeps the newest one that it has met; a server of the
same system with an older one was replaced, whatever it says of itself.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import OperationalError

_ASK = (
    "SELECT (SELECT system_identifier::text FROM pg_control_system()),"
    " CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
)


class Timeline(NamedTuple):
    """A system of PostgreSQL, and how often a standby of it was promoted."""

    system: str
    number: int


def read(connection: Any) -> Timeline | None:
    """Return the timeline of a new connection of the driver; None where it can't be told."""
    try:
        system, number = connection.execute(_ASK).fetchone()
    except Exception:
        # A server that calls itself PostgreSQL and isn't, or that keeps this from its users.
        return None
    finally:
        with suppress(Exception):
            connection.rollback()
    return None if number is None else Timeline(system, int(number, 16))


def check(timeline: Timeline) -> None:
    """Raise OperationalError where a newer timeline of the same system is known; keep a newer one."""
    newest = _read_stored()
    if newest is not None and newest.system == timeline.system:
        if newest.number > timeline.number:
            raise OperationalError(
                f"This PostgreSQL was replaced: its timeline is {timeline.number}, and {newest.number} is in use. Never"
                " let an old primary come back as a primary; make it a standby of the new one."
            )
        if newest.number == timeline.number:
            return
    path = _path()
    # Another process may write the same at the same time: whole, or not at all.
    part = path.with_suffix(".part")
    with suppress(OSError):
        part.write_text(json.dumps(timeline))
        part.replace(path)


def _read_stored() -> Timeline | None:
    try:
        system, number = json.loads(_path().read_text())
        return Timeline(str(system), int(number))
    except (OSError, ValueError, TypeError):
        return None


def _path() -> Path:
    return Path(settings.DATA_DIR) / "database-timeline.json"
