"""Poolers that work by transaction, in front of a PostgreSQL: a real PgBouncer, and one of our own (own_pooler)."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from tests import own_pooler

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
POOL_SIZE = 6


@contextmanager
def pooler(url: str, *, kind: str) -> Iterator[str]:
    """Start one for the server of `url`, which is reached by a UNIX socket; give the URL through it.

    kind: "pgbouncer" or "own".
    """
    parts = urlsplit(url)
    host = parse_qs(parts.query)["host"][0]
    # Short: the path of a UNIX socket may have some 100 characters.
    directory = Path(tempfile.mkdtemp(prefix="qd-pool-", dir="/tmp"))
    directory.chmod(0o777)
    try:
        if kind == "own":
            running = own_pooler.pooler(f"{host}/.s.PGSQL.5432", directory, pool_size=POOL_SIZE)
        else:
            running = _pgbouncer(host, parts.username or "postgres", directory)
        with running:
            yield urlunsplit(parts._replace(query=urlencode({"host": str(directory)})))
    finally:
        shutil.rmtree(directory)


@contextmanager
def _pgbouncer(host: str, user: str, directory: Path) -> Iterator[None]:
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={host} user={user}\n[pgbouncer]\n"
        f"unix_socket_dir = {directory}\nlisten_port = 5432\nauth_type = any\npool_mode = transaction\n"
        f"default_pool_size = {POOL_SIZE}\nmax_client_conn = 500\n"
    )
    # It refuses to run as root; whoever owns the server's socket may use it.
    command = [PGBOUNCER or "", "-u", Path(host).owner(), str(directory / "pgbouncer.ini")]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while not (directory / ".s.PGSQL.5432").exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((directory / "log").read_text())
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(120)
