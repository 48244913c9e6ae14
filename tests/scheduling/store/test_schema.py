"""A schema that is older or newer than the code is noticed, and used as long as it can be."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from scheduling.core.time_limit import TimeLimit
from scheduling.reports import health
from scheduling.store import schema

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def not_looked_up_yet(monkeypatch):
    monkeypatch.setattr(schema._Known, "limit", TimeLimit(-1))
    monkeypatch.setattr(schema._Known, "schema", schema.Schema())


def apply(app: str, name: str) -> None:
    """A newer version has prepared the database."""
    MigrationRecorder(connection).record_applied(app, name)


def complaints() -> list[str]:
    report = health.Health(at=datetime(2031, 3, 5, tzinfo=UTC), tables=schema.current())
    return [problem for problem in report.problems if "tables" in problem]


def test_schema_of_this_version_is_neither_older_nor_newer():
    assert schema.read() == schema.Schema()
    assert schema.read().is_usable
    assert not complaints()


def test_schema_that_was_expanded_by_a_newer_version_is_reported_and_used():
    apply("scheduling", "9001_more_columns")
    assert schema.read() == schema.Schema(newer=("scheduling.9001_more_columns",))
    assert schema.read().is_usable
    assert not complaints()


def test_schema_that_was_contracted_by_a_newer_version_makes_this_one_not_ready():
    apply("scheduling", "9002_contract_old_columns")
    assert not schema.read().is_usable
    assert complaints() == [
        "The database's tables are those of a newer version, which this one can't use"
        " (scheduling.9002_contract_old_columns): update."
    ]


def test_schema_without_a_migration_of_this_version_is_older():
    MigrationRecorder(connection).record_unapplied("scheduling", "0008_random_part_of_keys")
    assert schema.read().missing == ("scheduling.0008_random_part_of_keys",)
    assert complaints() == ["The database's tables are not those of this version: run migrate."]


def test_migrations_of_an_app_that_was_removed_are_nobodys():
    apply("an_app_of_old", "0001_initial")
    assert schema.read() == schema.Schema()


def test_newer_schema_is_noticed_while_this_version_runs_and_logged_once(monkeypatch):
    logged = []
    monkeypatch.setattr(schema.log, "warning", lambda event, **facts: logged.append((event, facts)))
    assert not schema.current().newer
    apply("operators", "9001_more")
    assert not schema.current().newer, "looked up again only after a while"
    for _ in range(2):
        monkeypatch.setattr(schema._Known, "limit", TimeLimit(-1))
        assert schema.current().newer == ("operators.9001_more",)
    assert [event for event, _ in logged] == ["schema_is_newer"]
