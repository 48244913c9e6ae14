"""The tests that belong to every change: all of them on SQLite, then store, flows and API on PostgreSQL too.

Arguments go to pytest. Every run is made even if one before it failed; the exit code says whether one did.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests import postgresql  # noqa: E402

# Real clusters and servers that keep to the clock: one at a time, so that none disturbs another.
ALONE = ("flows", "runner")
# What waits a lot, and so isn't mixed with what computes.
BROWSERS = ("browser",)
ON_BOTH = ("scheduling/store", "flows", "api")
# Two processes, a file of tests to each in turn.
BESIDE_EACH_OTHER = ["-n", "2", "--dist", "loadfile"]


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
    failed = run("SQLite", everything, arguments, environment)
    with postgresql.server() as url:
        failed |= run("PostgreSQL", set(ON_BOTH), arguments, {**environment, "DATABASE_URL": url})
    print(f"All took {time.monotonic() - began:.0f} s.")
    return int(failed)


def run(database: str, names: set[str], arguments: list[str], environment: dict[str, str]) -> bool:
    """Whether something failed."""
    alone, browsers = names & set(ALONE), names & set(BROWSERS)
    rest = names - alone - browsers
    failed = False
    for chosen, how in ((rest, BESIDE_EACH_OTHER), (browsers, BESIDE_EACH_OTHER), (alone, [])):
        if not chosen:
            continue
        print(f"\n=== On {database}: {', '.join(sorted(chosen))} ===", flush=True)
        paths = [f"tests/{name}" for name in sorted(chosen)]
        command = [sys.executable, "-m", "pytest", "-q", *paths, *how, *arguments]
        # No test at all would be no proof of anything, so pytest's code for that counts as a failure too.
        failed |= subprocess.run(command, cwd=HERE.parent, env=environment).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
