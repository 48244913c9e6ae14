"""Dockerfile and compose.yaml, as far as they can be read: what they name must be there."""

import re

import pytest
import yaml

from runner.__main__ import COMMANDS, PARTS
from settings.place import BASE_DIR

COMPOSE = yaml.safe_load((BASE_DIR / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("build")}
COPIED = re.findall(r"^COPY (.+) \S+$", (BASE_DIR / "Dockerfile").read_text(), re.MULTILINE)


def test_every_package_that_runs_is_copied():
    packages = {path.parent.name for path in BASE_DIR.glob("*/__init__.py")} - {"tests", "benchmarks"}
    copied = {name for line in COPIED for name in line.split()}
    assert packages <= copied
    assert all((BASE_DIR / name).exists() for name in copied)


def test_copied_files_are_not_ignored():
    let_through = set(re.findall(r"^!(.+)$", (BASE_DIR / ".dockerignore").read_text(), re.MULTILINE))
    assert let_through == {name for line in COPIED for name in line.split()}


@pytest.mark.parametrize("name", OURS)
def test_containers_run_commands_of_the_runner(name):
    command = OURS[name]["command"]
    # A list: a shell in between would not pass SIGTERM on.
    assert command[:3] == ["python", "-m", "runner"]
    assert command[3] in COMMANDS


def test_two_of_each_part_run_behind_a_proxy_and_a_pooler():
    services = COMPOSE["services"]
    assert set(services) == {"database", "pooler", "prepare", "web", "quarterdeck", "minutes", "proxy"}
    assert {name for name in OURS if services[name].get("deploy") == {"replicas": 2}} == {*PARTS}
    # Only the proxy can be reached from outside.
    assert {name for name in services if "ports" in services[name]} == {"proxy"}
    assert services["proxy"]["ports"] == ["${PORT:-8000}:8000"]
    assert OURS["web"]["environment"]["DATABASE_POOLER"] == services["pooler"]["environment"]["POOL_MODE"]
    assert "@pooler:" in OURS["web"]["environment"]["DATABASE_URL"]
    # Migrations don't go through the pooler.
    assert "@database:" in OURS["prepare"]["environment"]["DATABASE_URL"]


def test_password_of_the_database_has_no_default():
    assert "${POSTGRES_PASSWORD:?" in OURS["web"]["environment"]["DATABASE_URL"]
    assert not re.search(r"POSTGRES_PASSWORD:-", (BASE_DIR / "compose.yaml").read_text())


@pytest.mark.parametrize("name", OURS)
def test_containers_have_no_more_rights_than_they_need(name):
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    # The runner takes up to 30 s.
    assert int(service["stop_grace_period"].removesuffix("s")) > 30
    assert re.search(r"^USER quarterdeck$", (BASE_DIR / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_written_directories_are_mounted(name):
    assert "data:/data" in OURS[name]["volumes"]
    assert any(mount.startswith("/tmp") for mount in OURS[name]["tmpfs"])


def test_variables_of_compose_are_read():
    text = "".join((BASE_DIR / "settings" / f"{name}.py").read_text() for name in ("base", "place"))
    read = set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', text))
    assert set(OURS["web"]["environment"]) <= read
