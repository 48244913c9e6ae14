"""The database of a storm: in memory, migrated once, and set back to that state before each seed."""

import atexit
import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

_pristine: Any = None
_connection: Any = None


def set_up() -> None:
    """Prepare Django in this process; on SQLite with a database in memory, else as DATABASE_URL says."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings.test"
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    if "DATA_DIR" not in os.environ:
        directory = os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="qd-storm-", dir="/tmp")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    import django
    from django.conf import settings

    if settings.DATABASE_VENDOR == "sqlite":
        settings.DATABASES["default"]["NAME"] = ":memory:"
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from tests.storm import faster

    global _connection, _pristine
    _connection = connection
    faster.remember()
    image = _image_path()
    if connection.vendor == "sqlite" and image.exists():
        _pristine = sqlite3.connect(image)
        return
    call_command("migrate", verbosity=0, stdout=sys.stderr)
    if connection.vendor == "sqlite":
        # Written aside and moved, since several processes may do so at once.
        aside = image.with_suffix(f".{os.getpid()}")
        aside.write_bytes(connection.connection.serialize())
        aside.replace(image)
        _pristine = sqlite3.connect(image)


def _image_path() -> Path:
    """Where the migrated database is kept, for as long as no migration changes: to migrate takes seconds."""
    from django.apps import apps

    digest = hashlib.sha256(os.fsencode(sys.version))
    for app in apps.get_app_configs():
        for path in sorted(Path(app.path).glob("migrations/*.py")):
            digest.update(path.read_bytes())
    return Path(tempfile.gettempdir()) / f"qd-storm-{os.getuid()}-{digest.hexdigest()[:16]}.sqlite3"


def reset() -> None:
    """Empty every table and let every sequence begin at 1."""
    if _connection.vendor == "sqlite":
        _connection.ensure_connection()
        # A copy, page by page: cached statements survive it, where they would not survive `deserialize`.
        _pristine.backup(_connection.connection)
        return
    tables = ", ".join(f'"{table}"' for table in _tables())
    with _connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")


def snapshot() -> Any:
    """Return the contents of every table, for `restore`."""
    if _connection.vendor == "sqlite":
        copy = sqlite3.connect(":memory:")
        _connection.connection.backup(copy)
        return copy
    with _connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS kept CASCADE")
        cursor.execute("CREATE SCHEMA kept")
        for table in _tables():
            cursor.execute(f'CREATE TABLE kept."{table}" AS TABLE public."{table}"')
    return None


def restore(copy: Any) -> None:
    """Set every table back to what `snapshot` saw."""
    if _connection.vendor == "sqlite":
        copy.backup(_connection.connection)
        return
    with _connection.cursor() as cursor:
        names = ", ".join(f'"{table}"' for table in _tables())
        statements = [f"TRUNCATE {names} CASCADE"]
        statements += [f'INSERT INTO "{table}" SELECT * FROM kept."{table}"' for table in _tables()]
        cursor.execute(
            "; ".join(
                ["SET session_replication_role = replica", *statements, "RESET session_replication_role"]
            )
        )


def _tables() -> list[str]:
    from django.apps import apps

    # Proxies share the table of another model.
    models = apps.get_models(include_auto_created=True)
    return list(dict.fromkeys(model._meta.db_table for model in models))
