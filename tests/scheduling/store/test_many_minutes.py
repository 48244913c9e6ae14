"""What a list has in a week of minutes is counted in time that grows with the minutes, no faster."""

import time

import pytest
from django.db import connection

from scheduling import models, store
from scheduling.core import keys
from tests.scheduling.lists_of_ids import NOON

pytestmark = pytest.mark.django_db(transaction=True)

START = NOON.replace(second=0)


def seconds_for(task: models.Task, minutes: int) -> float:
    first = keys.minute_number_of_bucket(keys.bucket_at(task.queue_id, START))
    buckets = [keys.bucket_at_number(task.queue_id, first + number) for number in range(minutes)]
    # A busy machine takes time from a process, but no processor time: that of a server can't be seen from here.
    now = time.process_time if connection.vendor == "sqlite" else time.perf_counter
    seconds = []
    for _ in range(2):
        began = now()
        with store.write():
            store.add_to_task_buckets(task.pk, {bucket: {"waiting_count": 1} for bucket in buckets})
        seconds.append(now() - began)
    return min(seconds)


def test_time_to_add_to_minutes_grows_linearly(transactional_db):
    queue = models.Queue.objects.create(name="default", created_at=NOON)
    tasks = [make_task(queue, name) for name in ("short", "long")]
    few, many = seconds_for(tasks[0], 800), seconds_for(tasks[1], 8_000)
    assert many < 40 * few
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
