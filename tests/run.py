"""Run a part of the tests: `python tests/run.py sqlite|browsers|postgresql [options of pytest]`.

sqlite: everything but the browsers. browsers: pages in a real one. postgresql: store, flows and most of the API once
more. The first and the last have two lanes beside each other, so that no core is idle while a test waits: clusters and
servers that keep to the clock, one test at a time, and what computes, which gives way to them. Both are run even if one
fails; the exit code says whether one did.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests import postgresql  # noqa: E402

# Real clusters and servers that keep to the clock: one at a time, so that none disturbs another.
ALONE = {"flows", "runner"}
# Pages that poll, and people who wait for them.
BROWSERS = {"browser"}
ON_BOTH = {"scheduling/store", "flows", "api"}
# What says nothing of SQL, and so the same on both: who may do what, documents, clients, credentials, receivers, and
# whole jobs on simulated time, whose statements are those of tests/scheduling/store and tests/flows. A file whose tests
# read, filter, count or write rows in a way of their own, or at the same time, runs on both.
ON_SQLITE_ONLY = (
    "test_access.py",
    "test_integrators.py",
    "test_monitoring.py",
    "test_oauth.py",
    "test_openapi.py",
    "test_python_client.py",
    "test_request_recipes.py",
    "test_secret_rotation.py",
    "test_webhook_receivers.py",
    "test_whole_jobs.py",
)
# The storm on the other database, in processes of its own.
ON_POSTGRESQL_ONLY = "storm/test_on_postgresql.py"
# With tests of a minute, which would otherwise be begun last: in this order.
FIRST = (ON_POSTGRESQL_ONLY, "storm", "settings", "test_mutation.py", "scheduling")
# Two processes, a file of tests to each in turn: the lane that takes longest can use both cores to its end.
BESIDE_EACH_OTHER = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# Niceness of what gives way to what keeps to the clock.
COMPUTING = 10
# Python's: compiled files are kept, since some hundred processes import the same modules.
UNWANTED = {"DATABASE_URL", "DATA_DIR", "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Lane:
    """One call of pytest, which may run beside others."""

    database: str
    names: frozenset[str]
    environment: dict[str, str]
    options: tuple[str, ...] = ()
    niceness: int = 0

    @property
    def title(self) -> str:
        return f"On {self.database}: {', '.join(sorted(self.names))}"


def main(part: str, arguments: list[str]) -> int:
    began = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    with ExitStack() as stack:
        if part == "postgresql":
            environment["DATABASE_URL"] = stack.enter_context(postgresql.server(durable=False))
        *beside, last = PARTS[part](environment)
        pool = stack.enter_context(ThreadPoolExecutor())
        waiting = [pool.submit(run, lane, arguments, live=False) for lane in beside]
        failures = [run(last, arguments, live=True), *(result.result() for result in waiting)]
    print(f"All took {time.monotonic() - began:.0f} s.")
    return int(any(failures))


def on_sqlite(environment: dict[str, str]) -> list[Lane]:
    all_names = {
        path.name
        for path in HERE.iterdir()
        if path.match("test_*.py") or (path / "__init__.py").exists() or any(path.glob("test_*.py"))
    }
    return [
        Lane("SQLite", frozenset(all_names & ALONE), environment),
        Lane(
            "SQLite",
            frozenset(all_names - ALONE - BROWSERS),
            environment,
            (*BESIDE_EACH_OTHER, f"--ignore=tests/{ON_POSTGRESQL_ONLY}"),
            COMPUTING,
        ),
    ]


def in_browsers(environment: dict[str, str]) -> list[Lane]:
    return [Lane("SQLite", frozenset(BROWSERS), environment, BESIDE_EACH_OTHER)]


def on_postgresql(environment: dict[str, str]) -> list[Lane]:
    ignored = tuple(f"--ignore=tests/api/{name}" for name in ON_SQLITE_ONLY)
    return [
        Lane("PostgreSQL", frozenset(ON_BOTH & ALONE), environment),
        Lane(
            "PostgreSQL",
            frozenset(ON_BOTH - ALONE | {ON_POSTGRESQL_ONLY}),
            environment,
            (*BESIDE_EACH_OTHER, *ignored),
            COMPUTING,
        ),
    ]


# The lane that prints as it goes comes last.
PARTS: dict[str, Callable[[dict[str, str]], list[Lane]]] = {
    "sqlite": on_sqlite,
    "browsers": in_browsers,
    "postgresql": on_postgresql,
}


def run(lane: Lane, arguments: Sequence[str], *, live: bool) -> bool:
    """Run its tests; return whether something failed. live: print as it goes, and not only at its end."""
    names = sorted(lane.names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    paths = [f"tests/{name}" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", *paths, *lane.options, *arguments]
    began = time.monotonic()
    if live:
        print(f"\n=== {lane.title} ===", flush=True)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.run(
            command,
            cwd=HERE.parent,
            env=lane.environment,
            stdout=None if live else output,
            stderr=None if live else subprocess.STDOUT,
            preexec_fn=lambda: os.nice(lane.niceness),
        )
        if not live:
            output.seek(0)
            print(
                f"\n=== {lane.title} (beside the others, {time.monotonic() - began:.0f} s) ===\n{output.read()}",
                flush=True,
            )
    # No test at all would be no proof of anything, so pytest's code for that counts as a failure too.
    return process.returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
