"""The tests that belong to every change: all of them on SQLite, then store, flows and API on PostgreSQL too.

Arguments go to pytest. Both runs are made even if the first one fails; the exit code says whether one did.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests import postgresql  # noqa: E402

ON_BOTH = ("scheduling/store", "flows", "api")


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    environment = {
        name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "DATA_DIR"}
    }
    failed = run("SQLite", ["tests", *arguments], environment)
    on_both = [f"tests/{name}" for name in ON_BOTH if (HERE / name).exists()]
    with postgresql.server() as url:
        failed |= run("PostgreSQL", [*on_both, *arguments], {**environment, "DATABASE_URL": url})
    print(f"Both took {time.monotonic() - began:.0f} s.")
    return int(failed)


def run(database: str, arguments: list[str], environment: dict[str, str]) -> bool:
    """Whether something failed."""
    print(f"\n=== On {database} ===", flush=True)
    command = [sys.executable, "-m", "pytest", *arguments]
    # No test at all would be no proof of anything, so pytest's code for that counts as a failure too.
    return subprocess.run(command, cwd=HERE.parent, env=environment).returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
