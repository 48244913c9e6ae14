"""For pytest, and for the real clusters and servers that a test starts.

Each run has a DATA_DIR of its own, so that runs beside each other share nothing. A process that a test starts
gets this DATA_DIR, and the *test* database as DATABASE_URL, from the fixture `process_environment`.
"""

import atexit
import os
import shutil
import tempfile

if "DATA_DIR" not in os.environ:
    # Short: a UNIX socket's path may have some 100 characters.
    os.environ["DATA_DIR"] = _scratch = tempfile.mkdtemp(prefix="qd-test-")
    _owner = os.getpid()

    @atexit.register
    def _remove_scratch() -> None:
        # A forked child ends as well, and must not take the directory from its parent.
        if os.getpid() == _owner:
            shutil.rmtree(_scratch, ignore_errors=True)


# Workers of pytest-xdist inherit the first process's directory, and each needs one of its own.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and not os.environ["DATA_DIR"].endswith(f"/{_worker}"):
    os.environ["DATA_DIR"] += f"/{_worker}"

os.environ.setdefault("SECRET_KEY", "a-key-for-the-tests-and-for-nothing-else-at-all")
# As on PostgreSQL: where two workers share a minute, more can go wrong.
os.environ.setdefault("SEATS", "2")
os.environ.setdefault("LOG_FORMAT", "text")
os.environ.setdefault("LOG_LEVEL", "WARNING")

from settings.base import *  # noqa: E402, F403

STATIC_ROOT.mkdir(exist_ok=True)  # noqa: F405

if DATABASE_VENDOR == "sqlite":  # noqa: F405
    # What a test has committed has to outlive processes, not the machine: nothing waits for the disk.
    DATABASES["default"]["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"  # noqa: F405

# A test says itself when a list is written.
WRITE_AT_ONCE_IDS = 0
# Most tests are one transaction, and may take their time in it.
FROZEN_TRANSACTION_SECONDS = 0
# The real hashers take a tenth of a second each, on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS += ["testserver"]  # noqa: F405
