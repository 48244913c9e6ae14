"""A waiting row of a cancelled task is cancelled: by property, by query and by the statement that claims."""

from datetime import UTC, datetime, timedelta

import pytest

from scheduling import models, store
from scheduling.core import keys
from scheduling.models import Group, Status
from tests.scheduling.placed import make_queue, place

MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)
BEFORE = MINUTE - timedelta(minutes=10)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "cancelled_at", [None, BEFORE], ids=["of a task that goes on", "of a cancelled task"]
)
def test_effective_status_is_the_same_by_property_query_and_claim(cancelled_at):
    task = place(make_queue(), {MINUTE: range(1, 7)}, at=BEFORE)
    models.Task.objects.filter(pk=task.pk).update(cancelled_at=cancelled_at)
    for row, status in zip(models.Assignment.objects.order_by("pk"), Status, strict=True):
        models.Assignment.objects.filter(pk=row.pk).update(status=status)
    rows = list(models.Assignment.objects.select_related("task"))
    for status in Status:
        by_property = {row.pk for row in rows if row.effective_status == status}
        result = models.Assignment.objects.with_status(status)
        assert by_property == set(result.values_list("pk", flat=True)), status
        text = rows[0].task.rows_that_mean(status)
        assert by_property == {row.pk for row in rows if row.status in text}, status
    placed = models.Assignment.objects.with_status(*Status.of(Group.PLACED))
    assert {row.pk for row in placed} == {
        row.pk for row in rows if row.effective_status in Status.of(Group.PLACED)
    }
    claimed = store.waiting_rows([(*keys.range_of_bucket(rows[0].bucket_id), 10)])
    assert {key for key, *_ in claimed} == {row.pk for row in rows if row.effective_status == Status.WAITING}
