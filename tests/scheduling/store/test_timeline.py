"""An old primary that comes back after a failover is recognised, and not used."""

import json
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from scheduling.postgresql import timeline
from scheduling.postgresql.base import _one_by_one
from scheduling.postgresql.timeline import Timeline


@pytest.fixture
def note(settings, tmp_path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path / "database-timeline.json"


def test_newest_timeline_is_kept_and_an_older_one_refused(note):
    for number in (1, 2, 2):
        timeline.check(Timeline("7", number))
    assert json.loads(note.read_text()) == ["7", 2]
    with pytest.raises(OperationalError, match="its timeline is 1, and 2 is in use"):
        timeline.check(Timeline("7", 1))


def test_another_system_is_another_database(note):
    timeline.check(Timeline("7", 5))
    timeline.check(Timeline("8", 1))
    assert json.loads(note.read_text()) == ["8", 1]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '["7", "x"]'])
def test_damaged_note_is_written_again(note, text):
    note.write_text(text)
    timeline.check(Timeline("7", 1))
    assert json.loads(note.read_text()) == ["7", 1]


def test_each_of_several_servers_is_tried_by_itself():
    result = _one_by_one({"host": "a,b", "port": "5432,5433", "dbname": "q"})
    assert [(item["host"], item["port"], item["dbname"]) for item in result] == [
        ("a", "5432", "q"),
        ("b", "5433", "q"),
    ]
    assert _one_by_one({"host": "a", "port": "5432"}) == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL only")
@pytest.mark.django_db(transaction=True)
def test_server_that_was_replaced_is_not_connected_to(note):
    connection.close()
    connection.ensure_connection()
    system, number = json.loads(note.read_text())
    assert number == 1
    connection.close()
    note.write_text(json.dumps([system, 2]))
    with pytest.raises(OperationalError, match="was replaced"):
        connection.ensure_connection()
    note.unlink()
    connection.ensure_connection()
