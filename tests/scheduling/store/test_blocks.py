"""Long results in blocks: the same rows in the same order, and no open cursor."""

import pytest
from django.utils import timezone

from scheduling import models
from scheduling.store.blocks import in_blocks
from settings.place import BASE_DIR

pytestmark = pytest.mark.django_db


@pytest.fixture
def users():
    for number in range(1, 31):
        models.User.objects.create(pk=number, name=f"name {number % 4}", created_at=timezone.now())
    return models.User.objects.all()


@pytest.mark.parametrize("size", [1, 7, 30, 31])
@pytest.mark.parametrize("order", [("pk",), ("-id",), ("name", "-id"), ("-name", "pk"), ("-name", "-id")])
def test_blocks_give_the_same_rows_in_the_same_order(users, order, size):
    rows = users.order_by(*order)
    assert list(in_blocks(rows, size)) == list(rows)


def test_filter_of_the_query_holds_in_every_block(users):
    rows = users.filter(name="name 1").order_by("pk")
    assert [user.pk for user in in_blocks(rows, 2)] == [1, 5, 9, 13, 17, 21, 25, 29]


def test_block_is_read_in_one_statement(users, django_assert_num_queries):
    rows = in_blocks(users.order_by("pk"), 10)
    with django_assert_num_queries(1):
        assert [next(rows).pk for _ in range(10)] == list(range(1, 11))
    # A row that goes meanwhile moves none of the others.
    models.User.objects.filter(pk__lt=5).delete()
    assert [user.pk for user in rows] == list(range(11, 31))


def test_exports_keep_no_cursor_open():
    exported = [*(BASE_DIR / "dashboard").rglob("*.py"), *(BASE_DIR / "api").rglob("*.py")]
    exported += [BASE_DIR / "scheduling/reports" / f"{name}.py" for name in ("drill_down", "minute_rows")]
    assert [str(path) for path in exported if ".iterator(" in path.read_text()] == []
