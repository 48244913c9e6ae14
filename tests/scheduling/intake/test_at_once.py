"""A short list is written by the transaction that accepts it, and is what a job would have made of it."""

from datetime import timedelta

import pytest
from django_q.models import OrmQ

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock
from scheduling.intake import acceptance, allocation
from scheduling.placement.reservations import Start
from tests.scheduling.lists_of_ids import (
    NOON,
    check_counters,
    check_log,
    places,
    shuffled,
    spool_of,
    submit,
    write_all,
)

pytestmark = pytest.mark.django_db(transaction=True)

COLUMNS = [
    (models.Assignment, ("id", "user_id", "task_id", "status", "attempts", "started_after_ms")),
    (models.TaskBucket, ("task_id", "bucket_id", "waiting_count")),
    (models.Bucket, ("id", "filled_count", "waiting_count", "next_ordinal")),
    (models.Segment, ("task_id", "list_id", "number", "first_position", "ids_count", "written_count")),
    (models.User, ("id", "name")),
]


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=2, created_at=NOON)


@pytest.fixture
def at_once(settings):
    settings.WRITE_AT_ONCE_IDS = 100


def allocations() -> int:
    return sum(job.task["func"] == "scheduling.jobs.allocate" for job in OrmQ.objects.all())


def tables() -> list[list[tuple]]:
    return [list(model.objects.order_by("pk").values_list(*columns)) for model, columns in COLUMNS]


@pytest.mark.parametrize("overflow", ["disperse", "carry_over"])
@pytest.mark.parametrize("start", list(Start))
def test_rows_written_at_once_equal_those_of_a_job(queue, by, tmp_path, settings, overflow, start):
    models.Queue.objects.update(overflow=overflow)
    written = []
    for ids_at_once in (100, 0):
        settings.WRITE_AT_ONCE_IDS = ids_at_once
        for count in (1, 70, 3):
            # The next minute would be near.
            submit(shuffled(count), tmp_path, by=by, start=start, not_before=NOON + timedelta(minutes=5))
        assert models.Segment.objects.unwritten().exists() == (not ids_at_once)
        write_all()
        check_counters()
        check_log()
        assert models.Task.objects.filter(placed_at=None).count() == 0
        written.append(tables())
        if ids_at_once:
            _empty()
    own, other = (_without_keys(item) for item in written)
    assert own == other


def _empty() -> None:
    for model in (
        models.Segment, models.TaskBucket, models.Assignment, models.Task, models.Chunk, models.IdList, models.User,
        models.Reservation, models.Bucket, models.Window,
    ):  # fmt: skip
        model.objects.all().delete()


def _without_keys(contents: list[list[tuple]]) -> list[list[tuple]]:
    """Tasks and lists got other keys in the second run: their order says which is which."""
    numbers = {task: n for n, task in enumerate(sorted({row[0] for row in contents[3]}))}
    lists = {row[1]: n for n, row in enumerate(contents[3])}
    assignments, task_buckets, buckets, segments, users = contents
    return [
        [(key, user, numbers[task], *rest) for key, user, task, *rest in assignments],
        [(numbers[task], *rest) for task, *rest in task_buckets],
        buckets,
        [(numbers[task], lists[id_list], *rest) for task, id_list, *rest in segments],
        users,
    ]


def test_task_is_placed_in_the_answer_and_needs_no_job(queue, by, tmp_path, at_once):
    accepted = submit(range(1, 101), tmp_path, by=by)
    assert accepted.task.state_at(NOON) == models.TaskState.PLACED
    assert allocations() == 0
    assert set(places(accepted.task)) == set(range(1, 101))
    assert proof.check(lambda: NOON) == []


def test_longer_list_is_left_to_a_job(queue, by, tmp_path, at_once):
    task = submit(range(1, 102), tmp_path, by=by).task
    assert task.state_at(NOON) == models.TaskState.PLACING
    assert allocations() == 1
    assert not models.Assignment.objects.exists()


def test_list_whose_first_minute_is_near_is_left_to_a_job(queue, by, tmp_path, at_once):
    last = clock.quarter_start(NOON) + clock.QUARTER - clock.MINUTE
    sealed = last + clock.MINUTE - timedelta(seconds=clock.SEAL_SECONDS)
    assert submit([1], tmp_path, by=by, at=sealed - allocation.NEAR).task.placed_at is None
    before = sealed - allocation.NEAR - timedelta(seconds=1)
    assert submit([2], tmp_path, by=by, at=before).task.placed_at == before


def test_preview_that_is_committed_is_written_at_once(queue, by, tmp_path, at_once):
    draft = acceptance.write_draft(spool_of([3, 1, 2], tmp_path), at=NOON)
    accepted = acceptance.accept(
        acceptance.Submission("x"), draft, by=by, now=lambda: NOON, render=lambda accepted: None
    )
    assert set(places(accepted.task)) == {1, 2, 3}
    check_counters()
