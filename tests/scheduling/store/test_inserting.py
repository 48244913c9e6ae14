"""Rows that are inserted by a statement that is kept, as the ORM would insert them."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from scheduling import models
from scheduling.store import inserting

pytestmark = pytest.mark.django_db

AT = datetime(2031, 3, 5, 12, 0, 0, 123456, tzinfo=UTC)


def lists(*counts):
    return [
        models.IdList(ids_count=count, created_at=AT, about={"name": "Zo\u00eb \u4e2d", "n": [1, None]})
        for count in counts
    ]


def stored(row):
    fresh = type(row).objects.get(pk=row.pk)
    return {field.attname: getattr(fresh, field.attname) for field in fresh._meta.concrete_fields}


def test_bulk_inserted_rows_equal_those_of_the_orm():
    own, other = lists(3)[0], lists(3)[0]
    inserting.insert([own])
    other.save(force_insert=True)
    assert {**stored(own), "id": 0} == {**stored(other), "id": 0}
    assert own.pk
    assert not own._state.adding


def test_rows_of_several_statements_get_their_own_keys(monkeypatch):
    monkeypatch.setattr(inserting, "ROWS_A_STATEMENT", 2)
    rows = lists(1, 2, 3, 4, 5)
    with CaptureQueriesContext(connection) as captured:
        inserting.insert(rows)
    assert len(captured) == 3
    assert [models.IdList.objects.get(pk=row.pk).ids_count for row in rows] == [1, 2, 3, 4, 5]


def test_values_of_another_type_are_stored_as_the_field_has_them():
    queue = models.Queue(name="%s", rpm="7", overflow=models.Overflow.CARRY_OVER, created_at=AT)
    inserting.insert([queue])
    fresh = models.Queue.objects.get(pk=queue.pk)
    assert (fresh.name, fresh.rpm, fresh.overflow) == ("%s", 7, models.Overflow.CARRY_OVER)


def test_bytes_and_nulls_and_keys_of_other_tables_are_stored():
    (id_list,) = lists(1)
    inserting.insert([id_list])
    chunk = models.Chunk(list=id_list, number=0, first_position=0, ids_count=1, ids=b"\x00\xff\n%s")
    inserting.insert([chunk])
    fresh = models.Chunk.objects.get(pk=chunk.pk)
    assert (bytes(fresh.ids), fresh.list_id) == (b"\x00\xff\n%s", id_list.pk)
    assert models.IdList.objects.get(pk=id_list.pk).accepted_at is None


def test_database_defaults_are_left_to_the_database():
    queue = models.Queue(name="one", created_at=AT)
    names = [field.attname for field in queue._meta.concrete_fields if field.has_db_default()]
    inserting.insert([queue])
    other = models.Queue.objects.create(name="two", created_at=AT)
    fresh = models.Queue.objects.get(pk=queue.pk)
    other.refresh_from_db()
    assert names
    assert {name: getattr(fresh, name) for name in names} == {name: getattr(other, name) for name in names}


def test_insert_of_no_rows_makes_no_statement():
    with CaptureQueriesContext(connection) as captured:
        inserting.insert([])
    assert len(captured) == 0


def test_constraint_is_enforced_by_bulk_inserts():
    first, second = (models.Queue(name="one", created_at=AT) for _ in range(2))
    inserting.insert([first])
    with pytest.raises(IntegrityError):
        inserting.insert([second])
