"""Imports run one way: the contracts stand in pyproject.toml."""

import subprocess
import sys

from settings.place import BASE_DIR

LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def test_import_contracts_are_kept():
    # In a process of its own: it disables all loggers that there are, and later tests would find nothing logged.
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=BASE_DIR, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
