"""Queries that are compiled once give what the ORM gives each time."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from scheduling import models
from scheduling.store.prepared import PreparedQuery

pytestmark = pytest.mark.django_db(transaction=True)

AT = datetime(2031, 3, 5, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def queues():
    return [
        models.Queue.objects.create(
            name=name, rpm=rpm, created_at=AT + timedelta(minutes=rpm), webhook_headers={"X": [rpm, None]}
        )
        for name, rpm in (("one", 1), ("two", 2), ("three", 3))
    ]


def test_prepared_query_reads_the_rows_of_the_orm(queues):
    named = PreparedQuery(lambda name: models.Queue.objects.filter(name=name), str)
    for queue in queues:
        (row,) = named.rows(queue.name)
        fresh = models.Queue.objects.get(pk=queue.pk)
        assert row == fresh
        for field in fresh._meta.concrete_fields:
            assert getattr(row, field.attname) == getattr(fresh, field.attname), field.attname
    assert named.rows("none") == []


def test_prepared_query_keeps_its_constants_and_takes_new_parameters(queues):
    query = PreparedQuery(
        lambda low, since: (
            models.Queue.objects.filter(rpm__gte=low, created_at__gte=since, max_attempts__gte=1)
            .order_by("rpm")
            .values_list("name", "created_at", "webhook_headers")[:2]
        ),
        int,
        datetime,
    )
    minute = timedelta(minutes=1)
    assert [name for name, *_ in query.values(1, AT)] == ["one", "two"]
    assert query.values(1, AT + 3 * minute) == [("three", AT + 3 * minute, {"X": [3, None]})]
    assert [name for name, *_ in query.values(2, AT)] == ["two", "three"]


def test_row_can_be_locked_in_a_transaction_only(queues):
    locked = PreparedQuery(lambda name: models.Queue.objects.select_for_update().filter(name=name), str)
    with pytest.raises(transaction.TransactionManagementError):
        locked.rows("one")
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        assert locked.rows("one") == queues[:1]
    assert ("FOR UPDATE" in captured[0]["sql"]) == (connection.vendor == "postgresql")
    with pytest.raises(transaction.TransactionManagementError):
        locked.rows("one")


def test_parameter_that_is_not_in_the_query_is_refused(queues):
    never = PreparedQuery(lambda name, rpm: models.Queue.objects.filter(name=name), str, int)
    with pytest.raises(ValueError, match="Each parameter"):
        never.values("one", 1)
