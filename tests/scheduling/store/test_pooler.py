"""Behind a pooler that works by transaction: declared, all of it works; undeclared, nothing starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from settings.place import BASE_DIR
from tests import poolers
from tests.conftest import database_url

pytestmark = [
    pytest.mark.faults,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL only"),
]


@pytest.fixture(params=["own", "pgbouncer"])
def pooled(request):
    if request.param == "pgbouncer" and not poolers.PGBOUNCER:
        pytest.skip("there is no pgbouncer here: install it to run this")
    with poolers.pooler(database_url(), kind=request.param) as url:
        yield url


def run(url: str, declared: str, *command: str, directory: Path, **more: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "DATABASE_POOLER": declared,
        "DATA_DIR": str(directory),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout + done.stderr


PRODUCTION = {"DJANGO_SETTINGS_MODULE": "settings.production", "SECRET_KEY": settings.SECRET_KEY}


@pytest.mark.parametrize(
    ("declared", "command"),
    [
        ("none", ("runner.prepare",)),
        ("session", ("runner.prepare",)),
        ("none", ("runner", "web")),
        ("none", ("manage", "qcluster")),
        ("none", ("manage", "check_plan")),
    ],
)
def test_pooler_that_is_not_declared_stops_the_start(pooled, tmp_path, declared, command):
    cluster = {"Q_CLUSTER_NAME": "minutes"} if "qcluster" in command else {}
    code, output = run(pooled, declared, *command, directory=tmp_path, **PRODUCTION, **cluster)
    assert code == 1
    # Older ones refuse the options of a direct connection already.
    assert "DATABASE_POOLER=transaction" in output or "unsupported startup parameter" in output


def test_minutes_and_pages_work_through_it(pooled, tmp_path):
    chosen = [
        "tests/scheduling/dispatch/test_minute_worker.py",
        "tests/scheduling/store/test_round_trips.py",
        "tests/dashboard/test_proof.py",
    ]
    options = ["-q", "-x", "-p", "no:cacheprovider", "--reuse-db", "-m", "not faults"]
    code, output = run(pooled, "transaction", "pytest", *options, *chosen, directory=tmp_path)
    assert code == 0, output[-3000:]
