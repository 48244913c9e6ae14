"""Lists for tests, made by the project's own spool, and what the tables say of them."""

import random
from array import array
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from scheduling import models
from scheduling.core import keys
from scheduling.intake import acceptance, allocation
from scheduling.parsing.spool import Spool

# Well inside a quarter: its window is open until 12:15 and runs from then on.
NOON = datetime(2031, 3, 5, 12, 0, 10, tzinfo=UTC)


def spool_of(ids, folder: Path, **options) -> Spool:
    spool = Spool(folder, **options)
    numbers = array("q", ids)
    for start in range(0, len(numbers), 16_384):
        spool.extend(numbers[start : start + 16_384])
    spool.finish()
    return spool


def shuffled(count: int, *, seed: int = 1, first: int = 1) -> list[int]:
    ids = list(range(first, first + count))
    random.Random(seed).shuffle(ids)
    return ids


def submit(
    ids, folder: Path, *, by, at: datetime = NOON, key=None, spool_options=None, **fields
) -> acceptance.Accepted:
    with spool_of(ids, folder, **(spool_options or {})) as spool:
        submission = acceptance.Submission(**{"task_name": "a list", **fields})
        return acceptance.submit(
            submission, spool, by=by, now=lambda: at, render=lambda a: {"task_id": a.task.pk}, key=key
        )


def write_all(at: datetime = NOON) -> None:
    """Let a worker write until nothing is left."""
    for _ in range(1000):
        if not models.Segment.objects.unwritten().exists():
            return
        allocation.write_segments(partial(_same, at))
        at += timedelta(milliseconds=1)
    raise AssertionError("the list is never written")


def places(task: models.Task) -> dict[int, tuple[int, int]]:
    """User ID to (window, bucket index) for each row of the task."""
    rows = models.Assignment.objects.filter(task=task)
    return {
        row.user_id: (keys.window_of_bucket(row.bucket_id), keys.index_of_bucket(row.bucket_id))
        for row in rows
    }


def check_counters() -> None:
    """Every counter is what counting says, where all lists are written and all cancels followed."""
    by_bucket: dict[int, Counter] = {}
    by_task: dict[int, Counter] = {}
    for row in models.Assignment.objects.all():
        word = models.Status(row.status).word
        by_bucket.setdefault(row.bucket_id, Counter())[word] += 1
        by_task.setdefault(row.task_id, Counter())[word] += 1
    for bucket in models.Bucket.objects.all():
        text = {s.word: getattr(bucket, s.counter) for s in models.Status}
        assert text == {s.word: by_bucket.get(bucket.pk, Counter())[s.word] for s in models.Status}, bucket.pk
    for task in models.Task.objects.all():
        text = {s.word: getattr(task, s.counter) for s in models.Status}
        assert text == {s.word: by_task.get(task.pk, Counter())[s.word] for s in models.Status}, task.pk


def check_log() -> None:
    """The reservation log, replayed, gives each window's fill."""
    for window in models.Window.objects.all():
        fill = [0] * 15
        lines = list(window.reservations.order_by("version"))
        assert [line.version for line in lines] == list(range(1, window.version + 1))
        for line in lines:
            assert line.fill_before == fill, (window.pk, line.version)
            fill = [a + b for a, b in zip(fill, line.deltas, strict=True)]
        assert fill == list(window.buckets.order_by("pk").values_list("filled_count", flat=True))


def _same(at: datetime) -> datetime:
    return at
