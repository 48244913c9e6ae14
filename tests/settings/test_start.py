"""The settings as a whole: nonsense stops each way of starting, and what is set arrives."""

import json
import os
import re
import subprocess
import sys

import pytest

from settings.place import BASE_DIR

NONSENSE = {
    "PORT": "eighty",
    "LISTEN": "localhost:80",
    "WEB_THREADS": "1",
    "DATA_DIR": "/dev/null/x",
    "SPOOL_DIR": "/dev/null",
    "DATABASE_URL": "mysql://localhost/deck",
    "DATABASE_POOLER": "pgpool",
    "SECRET_KEY": "short",
    "SECRET_KEY_FALLBACKS": "a key that is long enough,short",
    "ENCRYPTION_KEYS": "short",
    "DEBUG": "maybe",
    "ALLOWED_HOSTS": "http://example.com",
    "CORS_ALLOWED_ORIGINS": "*",
    "CSRF_TRUSTED_ORIGINS": "example.com",
    "BEHIND_TLS_PROXY": "nginx",
    "USE_X_FORWARDED_HOST": "2",
    "TRUSTED_PROXIES": "-1",
    "HSTS_SECONDS": "a year",
    "REQUESTS_PER_SECOND": "many",
    "SQLITE_CACHE_MIB": "0",
    "SEATS": "0",
    "SESSION_HOURS": "0",
    "SIGN_IN_FAILURES": "0",
    "OIDC_ROLES": "staff=emperor",
    "INTAKE_MAX_IDS": "0",
    "INTAKE_MAX_BODY_BYTES": "1e9",
    "DATA_MAX_BYTES": "1",
    "DATA_VISIBLE_TO": "everybody",
    "WRITE_AT_ONCE_IDS": "-1",
    "WRITE_RATE": "0",
    "HORIZON_DAYS": "0",
    "RETENTION_DAYS": "for ever",
    "WEBHOOK_ALLOWED_NETWORKS": "10.0.0.1/8",
    "EMAIL_URL": "smtp://mail.example:25/",
    "WEBHOOK_CA_FILE": "/no/such/file",
    "PYTHON_HANDLERS": "handler",
    "LOG_LEVEL": "LOUD",
    "LOG_FORMAT": "xml",
}
SHOWN = [
    "ALLOWED_HOSTS",
    "DEBUG",
    "INTAKE_MAX_IDS",
    "SECRET_KEY",
    "SECURE_HSTS_SECONDS",
    "SECURE_PROXY_SSL_HEADER",
    "WEBHOOK_ALLOWED_NETWORKS",
]
SHOW = f"""
import json
from django.conf import settings
print(json.dumps({{name: getattr(settings, name) for name in {SHOWN}}}, default=str))
"""


def start(command: list[str], data_dir, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, *command],
        cwd=BASE_DIR,
        env={**environment, "DATA_DIR": str(data_dir), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def read_settings(data_dir, **variables: str) -> dict:
    done = start(["-c", SHOW], data_dir, DJANGO_SETTINGS_MODULE="settings.production", **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NONSENSE)
def test_invalid_variable_stops_the_start_with_its_name(tmp_path, name):
    done = start(["manage.py", "check"], tmp_path, **{name: NONSENSE[name]})
    assert done.returncode != 0
    assert done.stderr.startswith(f"{name} must be ")
    assert len(done.stderr.splitlines()) == 1
    assert NONSENSE[name] not in done.stderr or name != "SECRET_KEY"


@pytest.mark.parametrize("name", ["PORT", "DATA_DIR", "DATABASE_URL", "DEBUG"])
def test_invalid_variable_stops_the_runner_too(tmp_path, name):
    done = start(["-m", "runner"], tmp_path, **{name: NONSENSE[name]})
    assert done.returncode != 0
    assert done.stderr.startswith(f"{name} must be ")


# Any text on one line will do.
TEXTS = {"INSTANCE_LABEL", "STATIC_ROOT", "OIDC_ISSUER", "OIDC_NAME", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"}
TEXTS |= {"OIDC_SCOPES", "OIDC_ROLE_CLAIM"}


def test_every_variable_is_tested_here():
    text = "".join((BASE_DIR / "settings" / f"{name}.py").read_text() for name in ("base", "place"))
    read = set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', text))
    assert read == set(NONSENSE) | TEXTS


def test_defaults_are_safe(tmp_path):
    result = read_settings(tmp_path)
    assert result["DEBUG"] is False
    assert {"localhost", "127.0.0.1", "0.0.0.0"} <= set(result["ALLOWED_HOSTS"])
    assert "*" not in result["ALLOWED_HOSTS"]
    assert result["SECRET_KEY"] == (tmp_path / "secret_key").read_text()
    assert result["WEBHOOK_ALLOWED_NETWORKS"] == []
    assert result["SECURE_PROXY_SSL_HEADER"] is None
    assert result["INTAKE_MAX_IDS"] == 10_000_000


def test_variables_take_effect(tmp_path):
    result = read_settings(
        tmp_path, ALLOWED_HOSTS="deck.example", SECRET_KEY="k" * 50, WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8"
    )
    assert result["ALLOWED_HOSTS"] == ["deck.example"]
    assert result["SECRET_KEY"] == "k" * 50
    assert result["WEBHOOK_ALLOWED_NETWORKS"] == ["127.0.0.0/8"]
    assert not (tmp_path / "secret_key").exists()


def test_hsts_is_sent_once_a_proxy_provides_https(tmp_path):
    assert read_settings(tmp_path)["SECURE_HSTS_SECONDS"] == 0
    assert read_settings(tmp_path, BEHIND_TLS_PROXY="1")["SECURE_HSTS_SECONDS"] == 31_536_000
    assert read_settings(tmp_path, BEHIND_TLS_PROXY="1", HSTS_SECONDS="0")["SECURE_HSTS_SECONDS"] == 0


def test_files_written_by_a_command_are_private(tmp_path):
    before = os.umask(0o022)
    try:
        done = start(["manage.py", "migrate", "operators", "-v0"], tmp_path)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {
        path.name: 0 for path in tmp_path.rglob("*")
    }
