"""Hosts, two databases and a target in network namespaces of their own, and what can happen to them: `make hosts`.

The judge is the target's own record: a host that is cut off from the database starts nothing later than half a second
after its last commit, there are at most rpm + 1 starts in any 60 s over all hosts, the only repeats are those that are
named, others wait no longer than the docs say, and in the end every ID has been sent.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.hosts import judge
from tests.hosts.network import Network, why_not
from tests.hosts.server import PORT, Server

ROOT = Path(__file__).resolve().parents[2]
RPM = 300
TARGET_PORT = 8080
SETTLE_SECONDS = 300
# Into its minute, so that an event's first effects are in the same one.
EVENT_SECONDS = 10
# A host that vanishes, or whose processes are killed, delays the others by 2 s, and one that stops in an orderly way by
# 1 s; a tick and a slot more.
PAUSE_OF_CUT, PAUSE_OF_KILL, PAUSE_OF_STOP = 2.5, 2.5, 1.5
# A host that is far away takes this long to start on a busy machine.
FAR_START_SECONDS = 100
# What a host 20 ms away from the database has to send of a minute's plan.
FAR_SHARE = 0.95


class Event(NamedTuple):
    """What happens in a minute.

    pause: how long nobody may send meanwhile, where the docs promise that. least: how much of the minute's plan has
    to be sent in it.
    """

    name: str
    happen: Callable[[], object]
    pause: float | None = None
    least: float = 0.0


class Scene:
    """The hosts and what they run."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network, self.directory = network, directory
        self.record = directory / "record"
        self.running: dict[str, list[subprocess.Popen[bytes]]] = {"a": [], "b": [], "c": []}
        self.primary = self.server = Server(network, "db", directory)
        self.standby = Server(network, "db2", directory)
        self.cuts: list[judge.Cut] = []
        # What an integration has read of the outcomes when the primary died.
        self.outcomes: dict[str, Any] = {"ids": [], "cursor": ""}
        # What is wrong beside what the record shows.
        self.violations: list[str] = []

    # --- The hosts ---

    def environment(self, host: str) -> dict[str, str]:
        """host: its name, or "here" for a process outside of all namespaces."""
        data_dir = self.directory / host
        data_dir.mkdir(mode=0o700, exist_ok=True)
        addresses = [self.network.addresses[name] for name in ("db", "db2")]
        if host == "c":
            # It has a proxy of its own: see far_host.
            addresses = ["127.0.0.1"]
        query = f"host={','.join(addresses)}&port={PORT}&target_session_attrs=read-write"
        environment = {
            **os.environ,
            "DATABASE_URL": self.server.url if host == "here" else f"postgresql://postgres@/postgres?{query}",
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

    # --- What can happen ---

    def sending_host(self) -> str:
        """Return the host that serves this minute, or most of it."""
        return judge.sending_host(self.record, self.network.addresses, time.time() - 5) or "a"

    def cut(self, *, seconds: float, both_ways: bool) -> None:
        """Cut the host that sends off from the database; or let it hear nothing more."""
        self.server.log_statements(on=True)
        time.sleep(3)
        host, began = self.sending_host(), time.time()
        self.network.cut(self.server.name, host)
        if both_ways:
            self.network.cut(host, self.server.name)
        time.sleep(seconds)
        ended = time.time()
        # Read before it comes back and commits again.
        last_commit = self.server.last_tick(self.network.addresses[host])
        self.network.heal(self.server.name, host)
        self.network.heal(host, self.server.name)
        self.server.log_statements(on=False)
        self.cuts.append(judge.Cut(host, began, ended, last_commit))

    def end_sessions(self) -> None:
        for _ in range(20):
            self.server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE client_addr IS NOT NULL AND backend_type = 'client backend'"
            )
            time.sleep(1)

    def kill_and_start_again(self) -> None:
        host = self.sending_host()
        self.stop_host(host, signal.SIGKILL)
        time.sleep(10)
        self.start_host(host)

    def step_clocks(self, milliseconds: int) -> None:
        host = self.sending_host()
        self.step_clock(host, milliseconds)
        time.sleep(20)
        self.step_clock(host, 0)

    def lose_packets(self) -> None:
        host = self.sending_host()
        if reason := self.network.lose(host, 2):
            print(f"    skipped: this kernel loses no packets ({reason})")
            return
        time.sleep(30)
        print(f"    {self.network.lost(host)} packets of host {host} were lost")
        self.network.lose(host, 0)

    def fail_over(self) -> None:
        """Let the primary die and its standby be promoted; then start the old primary again, which nobody may use."""
        self.standby.copy_from(self.primary)
        self.outcomes = json.loads(_plan(self, "outcomes", ""))
        self.primary.stop()
        self.standby.control("promote")
        self.server = self.standby
        time.sleep(15)
        self.primary.control("start")
        time.sleep(15)
        rows = self.primary.sql(
            "SELECT count(*) FROM scheduling_heartbeat WHERE seen_at > pg_postmaster_start_time()"
        )
        if rows != [(0,)]:
            self.violations.append("a host used the old primary after the standby was promoted")

    def start_far_host(self, round_trip: float) -> None:
        """Start the minutes cluster of a third host, which is so far away from the database."""
        address = self.network.addresses[self.server.name]
        proxy = [sys.executable, "-m", "tests.hosts.way", str(PORT), address, str(PORT), str(round_trip / 2)]
        self.running["c"].append(self.network.start("c", proxy, cwd=ROOT))
        self.start_host("c", "minutes")

    def far_host(self) -> None:
        """Let a third host join, 80 ms away from the database. It has to take no minute, and to report why."""
        self.start_far_host(0.08)
        until = time.time() + FAR_START_SECONDS
        reports: list[tuple[object, ...]] = []
        while time.time() < until and not reports:
            time.sleep(2)
            reports = self.server.sql(
                "SELECT round_trip_ms FROM scheduling_heartbeat WHERE host = 'c' AND round_trip_ms >= 80"
            )
        if not reports:
            self.violations.append("host c didn't report how far it is from the database")
        time.sleep(15)
        self.stop_host("c", signal.SIGKILL)
        if far := sum(start.host == "c" for start in judge.read_record(self.record, self.network.addresses)):
            self.violations.append(f"host c started {far} requests, 80 ms away from the database")

    def only_far_host(self) -> None:
        """Let the third host come back, 20 ms away, and serve alone: the others stop in an orderly way."""
        self.start_far_host(0.02)
        time.sleep(25)
        for host in ("a", "b"):
            self.stop_parts(host)
            self.running[host] = []

    def near_hosts_return(self) -> None:
        for host in ("a", "b"):
            self.start_host(host)
        time.sleep(20)
        self.stop_parts("c")
        time.sleep(20)
        self.stop_host("c", signal.SIGKILL)

    def stop_parts(self, host: str) -> None:
        """Stop what runs on a host in an orderly way; not the proxy of the far one, which is its wire."""
        for process in self.running[host][host == "c" :]:
            process.terminate()

    def timetable(self) -> list[Event]:
        """What happens, minute by minute."""
        return [
            Event("nothing", lambda: None),
            Event(
                "a host is cut off from the database for 20 s",
                lambda: self.cut(seconds=20, both_ways=True),
                PAUSE_OF_CUT,
            ),
            Event(
                "a host hears nothing of the database for 20 s",
                lambda: self.cut(seconds=20, both_ways=False),
                PAUSE_OF_CUT,
            ),
            Event("a host is killed, and started again after 10 s", self.kill_and_start_again, PAUSE_OF_KILL),
            Event("all sessions are ended every second, for 20 s", self.end_sessions),
            Event(
                "PostgreSQL is restarted at once", lambda: self.server.control("restart", "-m", "immediate")
            ),
            Event("the clock of a host is 3 s ahead for 20 s", lambda: self.step_clocks(3_000)),
            Event("the clock of a host is 3 s behind for 20 s", lambda: self.step_clocks(-3_000)),
            Event("the clock of a host is an hour ahead for 20 s", lambda: self.step_clocks(3_600_000)),
            Event("host c joins, 80 ms away from the database", self.far_host),
            # It may have taken longer than its minute.
            Event("nothing", lambda: None),
            Event("host c comes back, 20 ms away, and the others stop", self.only_far_host, PAUSE_OF_STOP),
            Event("nothing", lambda: None, least=FAR_SHARE),
            Event("the others come back, and host c stops", self.near_hosts_return, PAUSE_OF_STOP),
            Event("a host loses 2 % of its packets for 30 s", self.lose_packets),
            Event(
                "the primary dies, its standby is promoted, and the old primary comes back", self.fail_over
            ),
            Event("nothing", lambda: None),
        ]


def _below(pid: int) -> list[int]:
    import psutil

    with suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


def main() -> int:
    if reason := why_not():
        print(f"=== Skipped: no hosts can be made here: {reason} ===")
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="qd-hosts-", dir="/tmp") as directory,
        Network(["db", "a", "b", "c", "t", "db2"]) as network,
    ):
        # The servers run as somebody else.
        Path(directory).chmod(0o755)
        scene = Scene(network, Path(directory))
        try:
            return _play(scene)
        finally:
            for host in scene.running:
                scene.stop_host(host, signal.SIGKILL)
            scene.primary.stop()
            scene.standby.stop()


def _play(scene: Scene) -> int:
    library = scene.directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    if (
        not shutil.which("cc")
        or subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"]).returncode
    ):
        print("    no clock is moved: there is no C compiler")
    scene.server.create()
    prepare = [sys.executable, "-m", "runner.prepare"]
    subprocess.run(prepare, cwd=ROOT, env=scene.environment("here"), check=True, stdout=subprocess.DEVNULL)
    address = scene.network.addresses["t"]
    target = [sys.executable, "-m", "tests.hosts.target", address, str(TARGET_PORT), str(scene.record)]
    target_process = scene.network.start("t", target, cwd=ROOT)
    spans = []
    try:
        for host in ("a", "b"):
            scene.start_host(host)
        url, events = f"http://{address}:{TARGET_PORT}/in", scene.timetable()
        first_minute = float(_plan(scene, "place", url, str(RPM), str(len(events))))
        for number, event in enumerate(events):
            time.sleep(max(0.0, first_minute + number * 60 + EVENT_SECONDS - time.time()))
            print(f"{number}: {event.name}", flush=True)
            began = time.time()
            event.happen()
            spans.append(judge.Span(event.name, began, time.time(), event.pause))
        until = time.time() + SETTLE_SECONDS
        while time.time() < until and int(_plan(scene, "unsent")):
            time.sleep(5)
        record = judge.read_record(scene.record, scene.network.addresses)
        violations = [
            *scene.violations,
            *judge.check_pace(record, RPM),
            *judge.check_cuts(record, scene.cuts),
            *judge.check_pauses(record, spans),
            *judge.check_minutes(
                record, first_minute, {n: RPM * event.least for n, event in enumerate(events)}
            ),
            *judge.check_repeats(record, set(json.loads(_plan(scene, "named")))),
            *_check_outcomes(scene, {start.user_id for start in record}),
        ]
        if unsent := int(_plan(scene, "unsent")):
            violations.append(f"{unsent} IDs were not sent")
    finally:
        os.killpg(target_process.pid, signal.SIGKILL)
    for violation in violations:
        print(f"NOT KEPT: {violation}")
    if violations:
        for host in scene.running:
            shutil.copy(scene.directory / f"{host}.log", f"/tmp/qd-hosts-{host}.log")
        return 1
    print("All of it is kept.")
    return 0


def _check_outcomes(scene: Scene, sent: set[int]) -> list[str]:
    """The cursor that was read on the old primary leads on at the promoted one, and no outcome is skipped."""
    before, cursor = scene.outcomes["ids"], scene.outcomes["cursor"]
    since = json.loads(_plan(scene, "outcomes", cursor))["ids"]
    whole = json.loads(_plan(scene, "outcomes", ""))["ids"]
    print(f"{len(before)} outcomes were read on the old primary, {len(since)} on the promoted one.")
    violations = []
    if before + since != whole:
        violations.append(
            "behind a cursor of the old primary there are other outcomes than from the beginning"
        )
    if missing := sent - set(before + since):
        violations.append(f"{len(missing)} IDs have no outcome: {sorted(missing)[:10]}")
    return violations


def _plan(scene: Scene, action: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "tests.hosts.plan", action, *arguments]
    environment = scene.environment("here")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
