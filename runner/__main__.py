"""The command line: `python -m runner [COMMAND]`."""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from runner import leftovers, lock
from runner.names import name_process
from runner.stop import Stop
from runner.supervisor import Supervisor, start
from runner.watch import sqlite_is_locked
from settings.env import BadSetting, Environment
from settings.place import BASE_DIR, Place, make_directory

PARTS = ("web", "quarterdeck", "minutes")
COMMANDS = ("prepare", "demo", *PARTS)
USAGE = f"usage: python -m runner [{' | '.join(COMMANDS)}]"
# A file with a name is that old in the spool only if the process that wrote it was killed.
SPOOL_SECONDS = 3600


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or not set(arguments) <= set(COMMANDS):
        print(USAGE, file=sys.stderr)
        return 64
    name_process("runner")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
    # The database, the spool and the key are for their owner only.
    os.umask(0o077)
    try:
        place = Place.of(Environment(os.environ))
        make_directory("DATA_DIR", place.data_dir)
        leftovers.clear_spool(place.spool_dir, older_than=SPOOL_SECONDS)
        if place.sqlite_file:
            leftovers.make_private(place.sqlite_file)
        if arguments in ([], ["demo"]):
            mark(place)
        stop = Stop()
        if arguments in ([], ["demo"]):
            return run_all(place, stop, demo=bool(arguments))
        if arguments == ["prepare"]:
            return prepare(stop)
        # Each web host has static files of its own, in its DATA_DIR.
        if arguments != ["web"]:
            # As `manage.py qcluster` has it: what is checked depends on it.
            [os.environ["Q_CLUSTER_NAME"]] = arguments
        if code := prepare(stop, "static" if arguments == ["web"] else "check"):
            return code
        supervise(arguments, place=place, locks=(), stop=stop)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    except lock.AlreadyRunning as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def run_all(place: Place, stop: Stop, *, demo: bool) -> int:
    """Run the web server and both clusters on a DATA_DIR that no other runner may use meanwhile."""
    locks = lock.take(place.data_dir)
    leftovers.kill(place.data_dir.resolve())
    leftovers.clear_spool(place.spool_dir, older_than=0)
    if port_in_use(place):
        print(f"PORT {place.port} on {place.listen} is in use by another program.", file=sys.stderr)
        return 4
    if code := prepare(stop, *(["demo"] if demo else []), locks=locks):
        return code
    supervise([*PARTS, "demo"] if demo else PARTS, place=place, locks=locks, stop=stop)
    return 0


def mark(place: Place) -> None:
    """Start this program again with a mark in its environment, which all its processes inherit.

    So a later run finds those that were left behind. What is put into the environment of a running process is not
    visible to others.
    """
    directory = str(place.data_dir.resolve())
    if os.environ.get(leftovers.MARK) != directory:
        os.environ[leftovers.MARK] = directory
        os.execv(sys.executable, [sys.executable, "-m", "runner", *sys.argv[1:]])


def prepare(stop: Stop, *extra: str, locks: Sequence[int] = ()) -> int:
    """Do what runner.prepare does in a process of its own. Returns its exit code. A signal to stop ends it early."""
    import django

    django.setup()
    pid = start(partial(run_preparation, list(extra)), close=locks)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.05)
        if stop.signal:
            os.kill(pid, signal.SIGTERM)
    return 128 + stop.signal if stop.signal else os.waitstatus_to_exitcode(status)


def run_preparation(extra: list[str]) -> int:
    from runner.prepare import main

    return main(extra)


def supervise(parts: Sequence[str], *, place: Place, locks: Sequence[int], stop: Stop) -> None:
    from runner.programs import load

    started = time.monotonic()

    def answering() -> None:
        say(f"Quarterdeck is at {place.url} (after {time.monotonic() - started:.1f} s; Ctrl-C stops it).")

    def is_locked() -> bool:
        return place.sqlite_file is not None and sqlite_is_locked(place.sqlite_file)

    directory = place.data_dir / "run" / "-".join((socket.gethostname(), *parts))
    Supervisor(
        load(parts, place),
        directory=directory,
        locks=locks,
        stop=stop,
        is_locked=is_locked,
        say=say,
    ).run(when_answering=answering)


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
