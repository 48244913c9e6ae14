"""Replaces the database by a backup that the command `backup` has written."""

import fcntl
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from scheduling import models, store
from scheduling.management.commands.backup import postgresql_tool

SIGN_OF_LIFE = timedelta(seconds=30)


class Command(BaseCommand):
    help = (
        "Replace the database by the backup in FILE, after everything was stopped. "
        "Keys of webhooks are drawn anew, so that no receiver takes new requests for old ones."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="what the command backup has written")

    def handle(self, *, file: Path, **options: object) -> None:
        if not file.is_file():
            raise CommandError(f"There is no file {file}.")
        if connection.vendor == "sqlite":
            self._restore_sqlite(file, Path(settings.DATABASES["default"]["NAME"]))
        else:
            self._restore_postgresql(file)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("after_restore")
        self.stdout.write(
            f"Restored, with tasks: {models.Task.objects.count():,}. Quarterdeck may be started."
        )

    def _restore_sqlite(self, file: Path, database: Path) -> None:
        with (Path(settings.DATA_DIR) / "runner.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError("Quarterdeck is running on this data. Stop it first.") from None
            check_sqlite(file)
            connection.close()
            draft = database.with_name(database.name + ".restoring")
            shutil.copyfile(file, draft)
            os.chmod(draft, 0o600)
            if database.exists():
                # If it was the wrong file, you can go back. Its write-ahead log is merged into the file first.
                with closing(sqlite3.connect(database)) as old:
                    old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                os.replace(database, database.with_name(database.name + ".before-restore"))
            for suffix in ("-wal", "-shm"):
                database.with_name(database.name + suffix).unlink(missing_ok=True)
            os.replace(draft, database)

    def _restore_postgresql(self, file: Path) -> None:
        try:
            alive = models.Heartbeat.objects.filter(seen_at__gte=store.now() - SIGN_OF_LIFE).count()
        except DatabaseError:
            # An empty database, to which a backup is to be restored.
            alive = 0
        if alive:
            raise CommandError(f"{alive} clusters are running on this database. Stop them first.")
        connection.close()
        postgresql_tool(
            "pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction",
            f"--dbname={connection.settings_dict['NAME']}", str(file),
        )  # fmt: skip


def check_sqlite(file: Path) -> None:
    """Raise CommandError for a file that is not a backup of Quarterdeck."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as backup:
            backup.execute("SELECT 1 FROM scheduling_task LIMIT 1")
            (verdict,) = backup.execute("PRAGMA quick_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise CommandError(f"{file} is not a backup of Quarterdeck: {error}.") from None
    if verdict != "ok":
        raise CommandError(f"{file} is damaged: {verdict}")
