"""The IDs of a list stand in chunks, in its order, and are read no further than they are needed."""

from array import array

import pytest

from scheduling import models
from scheduling.lists import stored_lists
from tests.scheduling.lists_of_ids import NOON, shuffled

pytestmark = pytest.mark.django_db

LENGTH = 2 * stored_lists.CHUNK_IDS + 1_000


@pytest.fixture
def stored(db):
    ids = shuffled(LENGTH)
    id_list = models.IdList.objects.create(created_at=NOON)
    blocks = (
        array("q", ids[n : n + stored_lists.CHUNK_IDS]) for n in range(0, LENGTH, stored_lists.CHUNK_IDS)
    )
    assert stored_lists.write(id_list, blocks) == LENGTH
    return id_list.pk, ids


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 1),
        (0, LENGTH),
        (stored_lists.CHUNK_IDS - 1, 2),
        (stored_lists.CHUNK_IDS, stored_lists.CHUNK_IDS),
        (LENGTH - 1, 50),
        (LENGTH, 5),
        (7, 0),
    ],
)
def test_ids_of_returns_any_part_in_list_order(stored, first, count):
    list_id, ids = stored
    assert list(stored_lists.ids_of(list_id, first, count)) == ids[first : first + count]


def test_part_within_one_chunk_reads_one_row(stored, django_assert_num_queries):
    with django_assert_num_queries(1) as captured:
        stored_lists.ids_of(stored[0], stored_lists.CHUNK_IDS + 3, 1_000)
    assert "BETWEEN" not in captured[0]["sql"]
    assert '"number" >= 1' in captured[0]["sql"]
    assert '"number" <= 1' in captured[0]["sql"]


@pytest.mark.parametrize("size", [1_000, stored_lists.CHUNK_IDS, 3 * stored_lists.CHUNK_IDS])
def test_blocks_may_have_any_size(stored, size):
    list_id, ids = stored
    blocks = list(stored_lists.blocks(list_id, size))
    assert [user for block in blocks for user in block] == ids
    assert all(len(block) == size for block in blocks[:-1])


def test_position_of_finds_every_id(stored):
    list_id, ids = stored
    for position in (0, 17, stored_lists.CHUNK_IDS - 1, stored_lists.CHUNK_IDS, LENGTH - 1):
        assert stored_lists.position_of(list_id, ids[position]) == position
    assert stored_lists.position_of(list_id, LENGTH + 1) is None


def test_position_of_ignores_bytes_that_span_two_ids(db):
    id_list = models.IdList.objects.create(created_at=NOON)
    stored_lists.write(id_list, [array("q", [1 << 40, 3 << 40, 1])])
    # From the sixth byte on, the first two read as 1; from the fifth on, as 256.
    assert stored_lists.position_of(id_list.pk, 1) == 2
    assert stored_lists.position_of(id_list.pk, 256) is None


def test_largest_id_is_stored_unchanged(db):
    id_list = models.IdList.objects.create(created_at=NOON)
    stored_lists.write(id_list, [array("q", [models.MAX_ID, 1])])
    assert list(stored_lists.ids_of(id_list.pk, 0, 2)) == [models.MAX_ID, 1]
    assert stored_lists.position_of(id_list.pk, models.MAX_ID) == 0
