"""Writes the whole database into one file, while everything runs."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from scheduling import models


class Command(BaseCommand):
    help = "Write a backup of the database into FILE. It may run at any time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="where to write it; must not exist")

    def handle(self, *, file: Path, **options: object) -> None:
        try:
            # For its owner only, whatever the directory's mode, and never over something that exists.
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise CommandError(f"{file} can't be written: {error.strerror}.") from None
        try:
            if connection.vendor == "sqlite":
                copy_sqlite(file)
            else:
                postgresql_tool("pg_dump", "--format=custom", f"--file={file}")
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        size = file.stat().st_size / 1e6
        self.stdout.write(f"{file}: tasks: {models.Task.objects.count():,}, size: {size:,.1f} MB.")


def copy_sqlite(file: Path) -> None:
    connection.ensure_connection()
    with closing(sqlite3.connect(file)) as copy:
        # In one step: with several, each commit of somebody else would make it begin again.
        connection.connection.backup(copy)
        # One file that is complete by itself.
        copy.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = copy.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise CommandError(f"The copy is damaged: {verdict}")


def postgresql_tool(name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL's on our database. Raises CommandError with what it said."""
    values = connection.settings_dict
    variables = {
        "PGHOST": values["HOST"],
        "PGPORT": str(values["PORT"]),
        "PGUSER": values["USER"],
        "PGPASSWORD": values["PASSWORD"],
        "PGDATABASE": values["NAME"],
        "PGSSLMODE": values["OPTIONS"].get("sslmode", ""),
        "PGSSLROOTCERT": values["OPTIONS"].get("sslrootcert", ""),
    }
    environment = {**os.environ, **{key: value for key, value in variables.items() if value}}
    try:
        done = subprocess.run([name, *arguments], env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise CommandError(f"{name} is not installed. It comes with PostgreSQL's client programs.") from None
    if done.returncode:
        raise CommandError(f"{name} failed: {done.stderr.strip()}")
