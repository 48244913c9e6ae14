"""The command line: `python -m runner [COMMAND]`."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runner import leftovers, lock
from runner.stop import Stop
from runner.supervisor import Program, Supervisor
from runner.watch import sqlite_is_locked
from settings.env import BadSetting, Environment
from settings.place import BASE_DIR, Place, make_directory

CLUSTERS = ("quarterdeck", "minutes")
PARTS = ("web", *CLUSTERS)
COMMANDS = ("prepare", "demo", *PARTS)
USAGE = f"usage: python -m runner [{' | '.join(COMMANDS)}]"
WEB_WORKERS = 2
# A file with a name is that old in the spool only if the process that wrote it was killed.
SPOOL_SECONDS = 3600


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or not set(arguments) <= set(COMMANDS):
        print(USAGE, file=sys.stderr)
        return 64
    stop = Stop()
    # The database, the spool and the key are for their owner only.
    os.umask(0o077)
    try:
        place = Place.of(Environment(os.environ))
        make_directory("DATA_DIR", place.data_dir)
        leftovers.clear_spool(place.spool_dir, older_than=SPOOL_SECONDS)
        if place.sqlite_file:
            leftovers.make_private(place.sqlite_file)
        if arguments in ([], ["demo"]):
            return run_all(place, stop, demo=bool(arguments))
        if arguments == ["prepare"]:
            return prepare(stop)
        # Each web host has static files of its own, in its DATA_DIR.
        if arguments == ["web"] and (code := prepare(stop, "static")):
            return code
        supervise(arguments, place=place, lock_descriptor=None, stop=stop)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    except lock.AlreadyRunning as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def run_all(place: Place, stop: Stop, *, demo: bool) -> int:
    """Run the web server and both clusters on a DATA_DIR that no other runner may use meanwhile."""
    descriptor = lock.take(place.data_dir)
    # Every process we start inherits this variable, so that a later run finds those that were left behind.
    os.environ[leftovers.MARK] = str(place.data_dir.resolve())
    leftovers.kill(place.data_dir.resolve())
    leftovers.clear_spool(place.spool_dir, older_than=0)
    if port_in_use(place):
        print(f"PORT {place.port} on {place.listen} is in use by another program.", file=sys.stderr)
        return 4
    if code := prepare(stop, *(["demo"] if demo else [])):
        return code
    supervise([*PARTS, "demo"] if demo else PARTS, place=place, lock_descriptor=descriptor, stop=stop)
    return 0


def prepare(stop: Stop, *extra: str) -> int:
    """Run runner.prepare and return its exit code. A signal to stop ends it early."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.prepare", *extra],
        cwd=BASE_DIR,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    while True:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(0.1)
            break
        if stop.signal:
            process.terminate()
    return 128 + stop.signal if stop.signal else code


def supervise(parts: Sequence[str], *, place: Place, lock_descriptor: int | None, stop: Stop) -> None:
    started = time.monotonic()

    def answering() -> None:
        say(f"Quarterdeck is at {place.url} (after {time.monotonic() - started:.1f} s; Ctrl-C stops it).")

    def is_locked() -> bool:
        return place.sqlite_file is not None and sqlite_is_locked(place.sqlite_file)

    programs = [program(part, place) for part in parts]
    directory = place.data_dir / "run" / "-".join((socket.gethostname(), *parts))
    Supervisor(
        programs, directory=directory, lock=lock_descriptor, stop=stop, is_locked=is_locked, say=say
    ).run(when_answering=answering)


def program(part: str, place: Place) -> Program:
    if part == "web":
        return web(place)
    if part == "demo":
        return Program("demo", [sys.executable, str(BASE_DIR / "manage.py"), "demo", "--generate"])
    return cluster(part)


def web(place: Place) -> Program:
    options = {
        "--interface": "asginl",
        "--http": "1",
        "--host": place.listen,
        "--port": str(place.port),
        "--workers": str(WEB_WORKERS),
        # Of each process: connections that are open at once. Each needs a file descriptor.
        "--backpressure": str(max_connections()),
        "--backlog": "4096",
        "--http1-header-read-timeout": "20000",
        "--respawn-interval": "0.2",
        "--workers-kill-timeout": "10",
        "--log-level": "error",
    }
    command = [sys.executable, "-m", "granian", "runner.web.application:application", "--no-ws"]
    command += ["--respawn-failed-workers", "--working-dir", str(BASE_DIR)]
    for option, value in options.items():
        command += [option, value]
    return Program("web", command, url=f"{place.url}static/admin/css/base.css")


def max_connections() -> int:
    """How many connections a web process accepts: as many as it may have files, less what else it opens."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 16_384 if most == resource.RLIM_INFINITY else max(256, min(16_384, most - 512))


def cluster(name: str) -> Program:
    return Program(
        name,
        [sys.executable, str(BASE_DIR / "manage.py"), "qcluster"],
        # qcluster's option --name has no effect on Linux.
        environment={"Q_CLUSTER_NAME": name},
        signs=True,
    )


def port_in_use(place: Place) -> bool:
    family = socket.AF_INET6 if ":" in place.listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((place.listen, place.port))
        except OSError:
            return True
    return False


def say(text: str) -> None:
    # The terminal may already be closed.
    with suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    os.chdir(Path(BASE_DIR))
    sys.exit(main(sys.argv[1:]))
