"""What a list has in a week of minutes is counted in time that grows with the minutes, no faster."""

import time

import psutil
import pytest
from django.db import connection

from scheduling import models, store
from scheduling.core import keys
from tests.scheduling.lists_of_ids import NOON

pytestmark = pytest.mark.django_db(transaction=True)

START = NOON.replace(second=0)


def add(task: models.Task, minutes: int) -> float:
    """Add to so many minutes; return how many seconds of a processor that took, here and in the server."""
    first = keys.minute_number_of_bucket(keys.bucket_at(task.queue_id, START))
    buckets = [keys.bucket_at_number(task.queue_id, first + number) for number in range(minutes)]
    began = processor_seconds()
    with store.write():
        store.add_to_task_buckets(task.pk, {bucket: {"waiting_count": 1} for bucket in buckets})
    return processor_seconds() - began


def processor_seconds() -> float:
    """A busy machine takes time from a process, but no processor time."""
    if connection.vendor == "sqlite":
        return time.process_time()
    connection.ensure_connection()
    # Started by the tests, so on this machine. Its figure has hundredths.
    server = psutil.Process(connection.connection.info.backend_pid).cpu_times()
    return time.process_time() + server.user + server.system


def test_time_to_add_to_minutes_grows_linearly(transactional_db):
    queue = models.Queue.objects.create(name="default", created_at=NOON)
    tasks = [make_task(queue, name) for name in ("short", "long")]
    # Ten times as many minutes, a tenth as often: a ratio of 1 if it is linear, and of 10 if it is quadratic.
    few = sum(add(tasks[0], 800) for _ in range(20))
    many = sum(add(tasks[1], 8_000) for _ in range(2))
    assert many < 4 * few
    counted = models.TaskBucket.objects.filter(task=tasks[1]).values_list("waiting_count", flat=True)
    assert list(counted) == [2] * 8_000


def make_task(queue: models.Queue, name: str) -> models.Task:
    return models.Task.objects.create(
        name=name,
        queue=queue,
        list=models.IdList.objects.create(created_at=NOON),
        ids_count=0,
        waiting_count=0,
        first_minute_at=START,
        last_minute_at=START,
        created_at=NOON,
        created_by="a test",
        same_as_digest="",
    )
