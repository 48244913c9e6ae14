"""Whether the tables of the database are those of this version, of an older one or of a newer one.

Versions run side by side while an installation is upgraded. A migration only adds what older code can ignore
(expand); what older code needs is removed a release later (contract), by a migration whose name begins with
"contract" after its number.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import structlog
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.recorder import MigrationRecorder

from scheduling.core.time_limit import TimeLimit

log = structlog.get_logger(__name__)

# A newer version may prepare the database at any time: look again after this long.
KNOWN_SECONDS = 30.0


@dataclass(frozen=True)
class Schema:
    """missing: migrations of this version that the database lacks. newer: those that this version doesn't know."""

    missing: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()

    @property
    def contracted(self) -> tuple[str, ...]:
        """Newer migrations that have removed what this version needs."""
        return tuple(name for name in self.newer if name.split(".")[1].split("_")[1:2] == ["contract"])

    @property
    def is_usable(self) -> bool:
        """Whether this version can work with the tables."""
        return not self.missing and not self.contracted


class _Known:
    schema = Schema()
    limit = TimeLimit(-1)


def current() -> Schema:
    """Return how the tables compare with this version, looked up every 30 s. Raises DatabaseError."""
    if _Known.limit.is_over:
        schema = read()
        if schema.newer and schema != _Known.schema:
            log.warning("schema_is_newer", migrations=schema.newer, usable=schema.is_usable)
        _Known.schema, _Known.limit = schema, TimeLimit(KNOWN_SECONDS)
    return _Known.schema


def read() -> Schema:
    """Compare the migrations on disk with those that the database has."""
    on_disk, applied = _on_disk(), set(MigrationRecorder(connection).applied_migrations())
    # A migration that replaces others counts as applied when they are.
    replaced = {old for migration in on_disk.values() for old in migration.replaces}
    missing = (key for key in on_disk.keys() - applied if not applied.intersection(on_disk[key].replaces))
    apps = {app for app, _ in on_disk}
    return Schema(
        _names(missing), _names(key for key in applied - on_disk.keys() - replaced if key[0] in apps)
    )


@cache
def _on_disk() -> dict[tuple[str, str], Migration]:
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return loader.disk_migrations


def _names(keys: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{app}.{name}" for app, name in sorted(keys))
