"""A real PgBouncer that works by transaction, in front of a PostgreSQL."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooler(url: str, *, pool_size: int = 6, mode: str = "transaction") -> Iterator[str]:
    """Start one for the server of `url`, which is reached by a UNIX socket; give the URL through it."""
    parts = urlsplit(url)
    host = parse_qs(parts.query)["host"][0]
    directory = Path(tempfile.mkdtemp(prefix="qd-pool-", dir="/tmp"))
    directory.chmod(0o777)
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={host} user={parts.username or 'postgres'}\n[pgbouncer]\n"
        f"unix_socket_dir = {directory}\nlisten_port = 5432\nauth_type = any\npool_mode = {mode}\n"
        f"default_pool_size = {pool_size}\nmax_client_conn = 500\n"
    )
    # It refuses to run as root; whoever owns the server's socket may use it.
    command = [PROGRAM or "", "-u", Path(host).owner(), str(directory / "pgbouncer.ini")]
    with (directory / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 10
        while not (directory / ".s.PGSQL.5432").exists():
            if running.poll() is not None or time.monotonic() > until:
                raise RuntimeError((directory / "log").read_text())
            time.sleep(0.05)
        yield urlunsplit(parts._replace(query=urlencode({"host": str(directory)})))
    finally:
        running.terminate()
        running.wait(10)
        shutil.rmtree(directory)
