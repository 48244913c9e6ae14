"""The tests that belong to every change: all of them on SQLite, then store, flows and API on PostgreSQL too.

They run in two lanes beside each other: what mostly waits for clusters and servers, one test at a time, and what
computes, which gives way to it. Arguments go to pytest. Every run is made even if one before it failed; the exit code
says whether one did.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests import postgresql  # noqa: E402

# Real clusters and servers that keep to the clock: one at a time, so that none disturbs another.
ALONE = {"flows", "runner"}
# What waits a lot, and so isn't mixed with what computes.
BROWSERS = {"browser"}
ON_BOTH = {"scheduling/store", "flows", "api"}
# Clients, documents and receivers: which database answers them makes no difference.
ON_SQLITE_ONLY = (
    "test_openapi.py",
    "test_python_client.py",
    "test_webhook_receivers.py",
    "test_integrators.py",
)
# Single tests of half a minute, which would otherwise be begun last.
FIRST = ("storm", "scheduling")
# Two processes, a file of tests to each in turn.
BESIDE_EACH_OTHER = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# What computes gets the processor when nothing that keeps to the clock wants it.
GIVES_WAY = 10


@dataclass(frozen=True)
class Run:
    """One call of pytest."""

    database: str
    names: frozenset[str]
    environment: dict[str, str]
    options: tuple[str, ...] = ()
    niceness: int = 0

    @property
    def title(self) -> str:
        return f"On {self.database}: {', '.join(sorted(self.names))}"


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    environment = {
        name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "DATA_DIR"}
    }
    everything = {
        path.name
        for path in HERE.iterdir()
        if path.match("test_*.py") or (path / "__init__.py").exists() or any(path.glob("test_*.py"))
    }
    with postgresql.server() as url, ThreadPoolExecutor() as lanes:
        on_postgresql = {**environment, "DATABASE_URL": url}
        waits = [
            Run("SQLite", frozenset(everything & ALONE), environment),
            Run("PostgreSQL", frozenset(ON_BOTH & ALONE), on_postgresql),
        ]
        computes = [
            Run(
                "SQLite", frozenset(everything - ALONE - BROWSERS), environment, BESIDE_EACH_OTHER, GIVES_WAY
            ),
            Run("SQLite", frozenset(everything & BROWSERS), environment, BESIDE_EACH_OTHER, GIVES_WAY),
            Run(
                "PostgreSQL",
                frozenset(ON_BOTH - ALONE),
                on_postgresql,
                (*BESIDE_EACH_OTHER, *(f"--ignore=tests/api/{name}" for name in ON_SQLITE_ONLY)),
                GIVES_WAY,
            ),
        ]
        waiting = lanes.submit(run_all, waits, arguments, live=False)
        failed = run_all(computes, arguments, live=True)
        failed |= waiting.result()
    print(f"All took {time.monotonic() - began:.0f} s.")
    return int(failed)


def run_all(runs: Sequence[Run], arguments: Sequence[str], *, live: bool) -> bool:
    """Make each run; return whether something failed. live: print as it goes, and not only at its end."""
    # A list, since one that fails stops none of the others.
    failures = [run(one, arguments, live=live) for one in runs if one.names]
    return any(failures)


def run(one: Run, arguments: Sequence[str], *, live: bool) -> bool:
    """Return whether something failed."""
    names = sorted(one.names, key=lambda name: (name not in FIRST, name))
    paths = [f"tests/{name}" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", *paths, *one.options, *arguments]
    began = time.monotonic()
    if live:
        print(f"\n=== {one.title} ===", flush=True)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.run(
            command,
            cwd=HERE.parent,
            env=one.environment,
            stdout=None if live else output,
            stderr=None if live else subprocess.STDOUT,
            preexec_fn=lambda: os.nice(one.niceness),
        )
        if not live:
            output.seek(0)
            print(
                f"\n=== {one.title} (beside the others, {time.monotonic() - began:.0f} s) ===\n{output.read()}",
                flush=True,
            )
    # No test at all would be no proof of anything, so pytest's code for that counts as a failure too.
    return process.returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
