"""Both databases keep the same promises behind scheduling.store."""

import itertools
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from scheduling import models, store
from scheduling.core import keys
from scheduling.store import blocks

pytestmark = pytest.mark.django_db(transaction=True)

STARTS_AT = datetime(2031, 3, 5, 12, tzinfo=UTC)
LARGEST = 2**63 - 1


@pytest.fixture
def queue():
    return models.Queue.objects.create(name="default", rpm=5, created_at=STARTS_AT)


@pytest.fixture
def window(queue):
    window_id = keys.window_id(queue.pk, STARTS_AT)
    store.create_windows([window_id], capacity=5)
    return window_id


def test_database_clock_advances_within_a_transaction():
    with transaction.atomic():
        first = store.now()
        time.sleep(0.01)
        assert store.now() > first
    assert first.tzinfo is UTC
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)


def test_frozen_transaction_keeps_nobody_waiting_for_long(queue, settings):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one gate, and the runner replaces who is stuck behind it")
    settings.FROZEN_TRANSACTION_SECONDS = 0.3
    frozen = connection.copy()
    try:
        frozen.set_autocommit(False)
        with frozen.cursor() as cursor:
            cursor.execute("UPDATE scheduling_queue SET rpm = 7")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")
            assert models.Queue.objects.select_for_update().get(pk=queue.pk).rpm == 5
        with pytest.raises(DatabaseError), frozen.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        frozen.close()


def test_windows_are_created_with_fifteen_empty_buckets_once(queue, window):
    store.add_to_buckets({keys.bucket_id(window, 0): {"filled_count": 2, "waiting_count": 2}})
    store.create_windows([window, window + 1], capacity=9)
    assert models.Window.objects.get(pk=window).starts_at == STARTS_AT
    assert models.Window.objects.get(queue=queue, starts_at=STARTS_AT).pk == window
    first = models.Bucket.objects.filter(window=window).order_by("pk")
    assert [bucket.index for bucket in first] == list(range(15))
    assert (first[0].filled_count, first[0].capacity) == (2, 5)
    assert set(models.Bucket.objects.filter(window=window + 1).values_list("capacity", flat=True)) == {9}


def test_counters_are_added_to_in_one_statement(window):
    first = keys.bucket_id(window, 0)
    store.add_to_buckets(
        {first + 14: {"filled_count": 1, "waiting_count": 1}, first: {"filled_count": 3, "failed_count": 3}}
    )
    store.add_to_buckets({first: {"failed_count": -1, "succeeded_count": 1}})
    store.add_to_buckets({})
    bucket = models.Bucket.objects.get(pk=first)
    assert (bucket.filled_count, bucket.failed_count, bucket.succeeded_count) == (3, 2, 1)
    assert models.Bucket.objects.get(pk=first + 14).waiting_count == 1


@pytest.mark.parametrize(
    "wrong", [{"filled_count": -1, "waiting_count": -1}, {"filled_count": 1}, {"moved_count": -1}]
)
def test_database_refuses_an_impossible_counter(window, wrong):
    with pytest.raises(IntegrityError):
        store.add_to_buckets({keys.bucket_id(window, 0): wrong})


def test_assignments_get_the_keys_of_their_groups(window):
    key = keys.assignment_id(keys.bucket_id(window, 0), 0)
    store.insert_assignments(7, [(key, [5, LARGEST]), (key + 100, [1])], status=models.Status.WAITING)
    rows = models.Assignment.objects.order_by("pk").values_list(
        "pk", "user_id", "task_id", "status", "attempts"
    )
    assert list(rows) == [(key, 5, 7, 1, 0), (key + 1, LARGEST, 7, 1, 0), (key + 100, 1, 7, 1, 0)]
    row = models.Assignment.objects.get(user_id=LARGEST)
    assert row.started_after_ms is None
    assert row.bucket_id == keys.bucket_id(window, 0)


def test_id_is_in_a_task_at_most_once(window):
    key = keys.assignment_id(keys.bucket_id(window, 0), 0)
    store.insert_assignments(7, [(key, [5])], status=models.Status.WAITING)
    store.insert_assignments(8, [(key + 1, [5])], status=models.Status.WAITING)
    with pytest.raises(IntegrityError), transaction.atomic():
        store.insert_assignments(7, [(key + 2, [5])], status=models.Status.WAITING)


def test_existing_users_keep_their_names(window):
    models.User.objects.create(pk=2, name="Zoë", created_at=STARTS_AT)
    store.insert_users([1, 2, LARGEST], at=STARTS_AT + timedelta(microseconds=1))
    users = {user.pk: (user.name, user.created_at) for user in models.User.objects.all()}
    assert users[2] == ("Zoë", STARTS_AT)
    assert users[LARGEST] == ("", STARTS_AT + timedelta(microseconds=1))


def test_task_buckets_are_created_or_added_to(window):
    task = make_task()
    first = keys.bucket_id(window, 0)
    store.add_to_task_buckets(task.pk, {first + 3: {"waiting_count": 2}, first: {"waiting_count": 1}})
    store.add_to_task_buckets(task.pk, {first + 3: {"waiting_count": -2, "moved_count": 2}})
    rows = models.TaskBucket.objects.order_by("bucket_id")
    assert list(rows.values_list("bucket_id", "waiting_count", "moved_count")) == [
        (first, 1, 0),
        (first + 3, 0, 2),
    ]


def test_places_of_a_list_are_added_to_what_its_task_has(window):
    task = make_task()
    first = keys.bucket_id(window, 0)
    store.add_to_task_buckets(task.pk, {first: {"moved_count": 1}})
    store.place_in_task_buckets(task.pk, {first + 3: 2, first: 4})
    store.place_in_task_buckets(task.pk, {first + 3: 1})
    rows = models.TaskBucket.objects.order_by("bucket_id")
    assert list(rows.values_list("bucket_id", "waiting_count", "moved_count")) == [
        (first, 4, 1),
        (first + 3, 3, 0),
    ]


def test_only_windows_that_are_there_get_their_next_version(window):
    store.create_windows([window + 2], capacity=5)
    assert store.next_versions([window]) == {window: 1}
    assert store.next_versions([window + 2, window + 1, window]) == {window: 2, window + 2: 1}
    assert not models.Window.objects.filter(pk=window + 1).exists()


def test_cancel_changes_waiting_rows_only(window):
    key = keys.assignment_id(keys.bucket_id(window, 0), 0)
    store.insert_assignments(7, [(key, [1, 2, 3])], status=models.Status.WAITING)
    store.insert_assignments(8, [(key + 9, [1])], status=models.Status.WAITING)
    models.Assignment.objects.filter(user_id=2).update(status=models.Status.SUCCEEDED)
    assert store.cancel_rows(7, [1, 2, 99]) == 1
    statuses = models.Assignment.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == [5, 3, 1, 1]


def test_moves_are_stored_for_each_id(window):
    first = keys.bucket_id(window, 0)
    store.insert_moves(7, [([1, 2], first, first + 1), ([3], first, first + 2)], reason="late", at=STARTS_AT)
    moves = models.Move.objects.order_by("user_id").values_list("user_id", "to_bucket_id", "moved_at")
    assert list(moves) == [(1, first + 1, STARTS_AT), (2, first + 1, STARTS_AT), (3, first + 2, STARTS_AT)]


def test_short_writers_wait_little_behind_bulk_ones(window):
    """Two that write in bulk all the time, and one who wants in now and then."""
    stop, written = threading.Event(), itertools.count(1)
    count = 0

    def write_in_bulk(first: int) -> None:
        nonlocal count
        while not stop.is_set():
            with store.bulk_write():
                store.insert_users(range(first, first + 3000), at=STARTS_AT)
            count = next(written)
            first += 3000
        connection.close()

    threads = [threading.Thread(target=write_in_bulk, args=(first,)) for first in (1, 10_000_000)]
    for thread in threads:
        thread.start()
    waits = []
    for _ in range(20):
        time.sleep(0.01)
        before = count
        with store.write():
            models.Window.objects.filter(pk=window).update(version=1)
            waits.append(count - before)
    stop.set()
    for thread in threads:
        thread.join()
    # How many bulk writes came first. On PostgreSQL nobody waits for them.
    if connection.vendor == "sqlite":
        assert max(waits) < 10, waits


def make_task():
    from tests.scheduling.lists_of_ids import NOON

    id_list = models.IdList.objects.create(created_at=NOON)
    return models.Task.objects.create(
        name="x",
        queue=models.Queue.objects.get(),
        list=id_list,
        ids_count=0,
        waiting_count=0,
        first_minute_at=NOON,
        last_minute_at=NOON,
        created_at=NOON,
        created_by="a test",
        same_as_digest="",
    )


def test_unknown_change_of_state_is_refused(window):
    key = keys.assignment_id(keys.bucket_id(window, 0), 0)
    store.insert_assignments(7, [(key, [1])], status=models.Status.SUCCEEDED)
    with pytest.raises(ValueError, match="succeeded never becomes failed"):
        store.set_status([key], models.Status.FAILED, was=models.Status.SUCCEEDED)
    assert models.Assignment.objects.get().status == models.Status.SUCCEEDED


def test_rows_are_read_in_parts_by_key(queue):
    for number in range(7):
        models.Queue.objects.create(name=f"q{number}", rpm=number + 1, created_at=STARTS_AT)
    whole = list(models.Queue.objects.order_by("pk").values_list("pk", "name"))
    assert list(blocks.values_in_blocks(models.Queue.objects.all(), "name", size=3)) == whole
    assert list(blocks.values_in_blocks(models.Queue.objects.none(), "name")) == []


def test_position_of_bytes_is_where_they_begin(queue):
    id_list = models.IdList.objects.create(created_at=STARTS_AT)
    data = (7).to_bytes(8, "little") + (1 << 40).to_bytes(8, "little") + LARGEST.to_bytes(8, "little")
    models.Chunk.objects.create(list=id_list, number=0, first_position=0, ids_count=3, ids=data)
    for expected, position in ((7, 1), (1 << 40, 9), (LARGEST, 17), (8, 0)):
        at = store.PositionOfBytes("ids", expected.to_bytes(8, "little"))
        assert models.Chunk.objects.annotate(at=at).values_list("at", flat=True).get() == position


def _cache_size():
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size")
        return cursor.fetchone()[0]


def test_large_cache_is_given_back(settings):
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has one cache for all connections")
    settings.SQLITE_CACHE_MIB = 48
    before = _cache_size()
    with store.large_cache():
        assert _cache_size() == -48 * 1024
    assert _cache_size() == before
    with store.write(), store.large_cache():
        assert _cache_size() == before


def test_data_of_ids_are_those_of_the_task_alone():
    store.insert_data(7, [(1, '{"a":1}'), (2, '{"a":2}'), (-3, '{"a":"ü"}')])
    store.insert_data(8, [(1, '{"a":9}')])
    assert store.data_of(7, [-3, 1, 5]) == {1: '{"a":1}', -3: '{"a":"ü"}'}
    assert store.data_of(7, []) == {}
