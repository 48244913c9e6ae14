"""Lists are written by real clusters, whatever dies."""

import random
import threading
import time
from collections import Counter

import pytest
from django.db import connection, transaction

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import allocator
from scheduling.intake import acceptance
from tests.patience import wait_until
from tests.scheduling.lists_of_ids import check_counters, check_log, shuffled, spool_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=store.now())


def submit(ids, folder, **fields) -> models.Task:
    with spool_of(ids, folder) as spool:
        submission = acceptance.Submission(**{"task_name": "a list", **fields})
        by = Actor.command_line()
        return acceptance.submit(submission, spool, by=by, now=store.now, render=lambda a: None).task


def written() -> bool:
    return not models.Segment.objects.unwritten().exists()


def check_all(*tasks_and_ids) -> None:
    for task, ids in tasks_and_ids:
        users = Counter(models.Assignment.objects.filter(task=task).values_list("user_id", flat=True))
        assert users == Counter(ids)
    check_counters()
    check_log()


def test_list_is_written_as_soon_as_it_is_accepted(queue, tmp_path, start_cluster):
    start_cluster()
    first = submit([1], tmp_path)
    wait_until(written, "the cluster is up and writes")
    second = submit([2, 3], tmp_path)
    wait_until(written, "written")
    check_all((first, [1]), (second, [2, 3]))


def test_short_list_is_placed_before_four_long_ones_that_came_first(queue, tmp_path, start_cluster):
    start_cluster()
    submit([1], tmp_path)
    wait_until(written, "the cluster is up and writes")
    for number in range(4):
        submit(range(number * 10**6 + 10, number * 10**6 + 300_010), tmp_path, task_name=f"long {number}")
    task = submit([900_000_000], tmp_path)
    wait_until(models.Assignment.objects.filter(task=task).exists, "the short list is placed")
    assert not written(), "the long ones are still being written"
    wait_until(written, "the long ones are written")


@pytest.mark.parametrize(
    "victim",
    [
        "worker",
        pytest.param("sentinel", marks=pytest.mark.faults),
        pytest.param("everything", marks=pytest.mark.faults),
    ],
)
def test_killing_any_process_loses_and_repeats_no_id(queue, tmp_path, start_cluster, victim):
    cluster = start_cluster()
    ids = shuffled(400_000)
    task = submit(ids, tmp_path)
    segments = models.Segment.objects
    wait_until(segments.filter(written_count__gt=0).exists, "it is being written")
    if victim == "worker":
        for child in cluster.children:
            if child.ppid() != cluster.process.pid and child.cpu_times().user > 0.3:
                child.kill()
                break
    elif victim == "sentinel":
        cluster.kill_the_sentinel()
        cluster.kill()
        start_cluster()
    else:
        cluster.kill()
        start_cluster()
    assert not written(), "it was killed in the middle"
    wait_until(written, "the task goes on by itself")
    check_all((task, ids))


def test_writing_waits_while_the_database_is_locked(queue, tmp_path, start_cluster):
    start_cluster()
    ids = shuffled(300_000)
    task = submit(ids, tmp_path)
    segments = models.Segment.objects
    wait_until(segments.filter(written_count__gt=0).exists, "it is being written")
    with transaction.atomic(), connection.cursor() as cursor:
        # On SQLite the transaction itself keeps all others from writing.
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE scheduling_assignment IN ACCESS EXCLUSIVE MODE")
        rows = models.Assignment.objects.count()
        time.sleep(4)
        assert models.Assignment.objects.count() == rows < 300_000
    wait_until(written, "it goes on")
    check_all((task, ids))


def test_forty_senders_at_once_fill_as_if_one_after_the_other(queue, tmp_path, start_cluster):
    start_cluster()
    start = threading.Barrier(40)
    failures = []

    def send(number: int) -> None:
        try:
            ids = range(number * 1000 + 1, number * 1000 + 1 + random.Random(number).randrange(20, 200))
            start.wait()
            submit(ids, tmp_path, task_name=f"sender {number}")
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    wait_until(written, "all are written")
    counts = list(models.Task.objects.values_list("ids_count", flat=True))
    windows = models.Window.objects.order_by("pk")
    assert len(counts) == 40
    fills = [list(w.buckets.order_by("pk").values_list("filled_count", flat=True)) for w in windows]
    # A quarter may have ended meanwhile: then two windows share them out.
    for fill in fills:
        assert fill == list(allocator.fill_after((0,) * 15, 120, sum(fill)))
    assert sum(map(sum, fills)) == sum(counts)
    check_counters()
    check_log()
