"""What the pages look up in sets, on both databases."""

from datetime import UTC, datetime

import pytest

from scheduling import models, store
from scheduling.models.states import Group, Status
from tests.scheduling.placed import make_queue, place

pytestmark = pytest.mark.django_db

AT = datetime(2031, 3, 5, 12, tzinfo=UTC)
LARGEST = 2**63 - 1


def test_users_are_counted_by_the_largest_key_too():
    store.insert_users([1, 2, LARGEST], at=AT)

    assert store.count_users([2, 3, LARGEST]) == 2
    assert store.count_users([]) == 0


def test_unfinished_ids_are_found_with_their_tasks():
    queue = make_queue()
    task = place(queue, {AT: [1, 2, 3, LARGEST]}, at=AT)
    other = place(queue, {AT: [3]}, at=AT)
    rows = models.Assignment.objects.filter(task=task)
    rows.filter(user_id=1).update(status=Status.SUCCEEDED)
    rows.filter(user_id=2).update(status=Status.IN_FLIGHT)

    result = store.in_status([1, 2, 3, 4, LARGEST], Status.of(Group.UNFINISHED))

    assert sorted(result) == sorted([(2, task.pk), (3, task.pk), (3, other.pk), (LARGEST, task.pk)])
