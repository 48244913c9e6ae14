"""Threads that wait for SQLite's one writer are committed together, each with its own result, order and error."""

import threading
from functools import partial

import pytest
from django.db import IntegrityError, OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext

from operators.actor import Actor
from scheduling import models, store
from scheduling.core.errors import PastPeak
from scheduling.intake import acceptance
from scheduling.sqlite.base import DatabaseWrapper
from scheduling.store import grouped
from tests.scheduling.lists_of_ids import NOON, check_counters, check_log, places, spool_of, submit

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.command_line()


@pytest.fixture(autouse=True)
def sqlite(transactional_db):
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's writers wait for a row at most")


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


class Threads:
    """Calls that begin in this order while another thread is at work, and so wait for it."""

    def __init__(self) -> None:
        self.is_waiting, self.may_go = threading.Event(), threading.Event()
        self.ended: dict[int, object] = {}
        self.commits = 0

    def run(self, calls) -> dict[int, object]:
        first = self._start(-1, partial(grouped.write_together, self._hold, lambda result: True))
        assert self.is_waiting.wait(20)
        threads = []
        for number, call in enumerate(calls):
            threads.append(self._start(number, call))
            while len(grouped._waiting) <= number:
                assert threads[-1].is_alive()
        self.may_go.set()
        for thread in (first, *threads):
            thread.join(30)
            assert not thread.is_alive()
        assert not grouped._waiting
        assert not grouped._is_led
        return self.ended

    def _hold(self) -> None:
        self.is_waiting.set()
        assert self.may_go.wait(20)

    def _start(self, number, call) -> threading.Thread:
        def body() -> None:
            try:
                self.ended[number] = call()
            except BaseException as error:
                self.ended[number] = error
            finally:
                connections.close_all()

        thread = threading.Thread(target=body)
        thread.start()
        return thread


@pytest.fixture
def threads(monkeypatch):
    # The first one takes as long as the test makes it.
    monkeypatch.setattr(grouped, "GROUP_SECONDS", 60)
    return Threads()


def insert(number: int) -> int:
    return models.Queue.objects.create(name=f"q{number}", created_at=NOON).pk


def write(change, is_there=lambda result: True):
    return partial(grouped.write_together, change, is_there)


def test_waiting_changes_are_made_in_order_in_one_transaction(threads, monkeypatch):
    commits = []
    real = DatabaseWrapper._commit
    monkeypatch.setattr(
        DatabaseWrapper, "_commit", lambda wrapper: (real(wrapper), commits.append(1))[0], raising=True
    )
    ended = threads.run([write(partial(insert, number)) for number in range(6)])
    names = dict(models.Queue.objects.values_list("pk", "name"))
    assert [names[ended[number]] for number in range(6)] == [f"q{number}" for number in range(6)]
    assert sorted(ended[number] for number in range(6)) == [ended[number] for number in range(6)]
    assert len(commits) == 1


def test_failed_change_of_a_group_leaves_nothing_and_the_others_continue(threads):
    def fail(number: int) -> None:
        insert(number)
        raise LookupError(number)

    ended = threads.run([write(partial(fail if number % 2 else insert, number)) for number in range(5)])
    assert [type(ended[number]) for number in range(5)] == [int, LookupError, int, LookupError, int]
    assert [ended[number].args for number in (1, 3)] == [(1,), (3,)]
    assert set(models.Queue.objects.values_list("name", flat=True)) == {"q0", "q2", "q4"}


def test_changes_rolled_back_with_another_are_made_again_alone(threads):
    def fail() -> None:
        insert(9)
        raise OperationalError("disk I/O error")

    ended = threads.run([write(partial(insert, 1)), write(fail), write(partial(insert, 2))])
    assert isinstance(ended[0], int)
    assert isinstance(ended[1], OperationalError)
    assert isinstance(ended[2], int)
    assert isinstance(ended[-1], type(None))
    assert set(models.Queue.objects.values_list("name", flat=True)) == {"q1", "q2"}


def test_constraint_that_fails_with_the_commit_is_the_error_of_its_own_change(threads):
    def without_list() -> None:
        models.Chunk.objects.create(list_id=12345, number=0, first_position=0, ids_count=1, ids=b"12345678")

    ended = threads.run([write(partial(insert, 1)), write(without_list)])
    assert isinstance(ended[0], int)
    assert isinstance(ended[1], IntegrityError)
    assert set(models.Queue.objects.values_list("name", flat=True)) == {"q1"}


def test_grouped_changes_are_looked_up_after_a_lost_commit_response(threads, monkeypatch):
    real = DatabaseWrapper._commit
    lost = []

    def commit(wrapper) -> None:
        real(wrapper)
        if not lost:
            lost.append(1)
            raise OperationalError("the answer was lost")

    monkeypatch.setattr(DatabaseWrapper, "_commit", commit)
    monkeypatch.setattr(store, "RECOGNISE_SECONDS", 0.2)
    ended = threads.run([write(partial(insert, 1)), write(partial(insert, 2), lambda result: False)])
    assert isinstance(ended[0], int)
    assert isinstance(ended[1], OperationalError)


@pytest.mark.parametrize("when", ["before", "after"])
def test_request_that_repeats_one_of_the_same_commit_has_its_fate(
    threads, queue, tmp_path, monkeypatch, when
):
    real = DatabaseWrapper._commit
    lost = []

    def commit(wrapper) -> None:
        if when == "after" or lost:
            real(wrapper)
        if not lost:
            lost.append(1)
            raise OperationalError("the answer was lost")

    monkeypatch.setattr(store, "RECOGNISE_SECONDS", 0.2)
    key = acceptance.IdempotencyKey("me", "k", "f")
    call = partial(submit, [1, 2], tmp_path, by=BY, key=key)
    monkeypatch.setattr(DatabaseWrapper, "_commit", commit)
    ended = threads.run([call, call])
    monkeypatch.undo()
    if when == "before":
        assert {type(ended[0]), type(ended[1])} == {OperationalError}
        assert not models.Task.objects.exists()
    else:
        assert [ended[0].repeated, ended[1].repeated] == [False, True]
        assert ended[0].answer == ended[1].answer
        assert models.Task.objects.count() == 1


def test_change_that_fails_alone_needs_no_savepoint(threads):
    with CaptureQueriesContext(connection) as captured, pytest.raises(LookupError):
        grouped.write_together(lambda: {}["none"], lambda result: True)
    assert [query["sql"].split()[0] for query in captured] in (["BEGIN", "ROLLBACK"], ["BEGIN"])


def test_waiting_lists_are_placed_as_if_submitted_one_by_one(threads, queue, tmp_path, settings):
    settings.WRITE_AT_ONCE_IDS = 100
    models.Queue.objects.update(rpm=2, max_peak=3)
    sizes = (1, 20, 7, 40, 2)

    def list_of(number: int):
        return partial(
            submit, range(100 * number, 100 * number + sizes[number]), tmp_path, by=BY, task_name=f"{number}"
        )

    ended = threads.run([list_of(number) for number in range(len(sizes))])
    together = {
        number: places(item.task) for number, item in ended.items() if number >= 0 and hasattr(item, "task")
    }
    refused = {number for number, item in ended.items() if isinstance(item, PastPeak)}
    check_counters()
    check_log()
    for model in (
        models.Segment, models.TaskBucket, models.Assignment, models.Task, models.Chunk, models.IdList,
        models.Reservation, models.Bucket, models.Window,
    ):  # fmt: skip
        model.objects.all().delete()
    for number in range(len(sizes)):
        try:
            assert places(list_of(number)().task) == together[number]
        except PastPeak:
            assert number in refused
    assert refused
    assert len(together) + len(refused) == len(sizes)


def test_preview_and_list_may_wait_together(threads, queue, tmp_path):
    with spool_of([1, 2], tmp_path) as spool:
        draft = acceptance.write_draft(spool, at=NOON)
    accept = partial(
        acceptance.accept,
        acceptance.Submission("a preview"),
        draft,
        by=BY,
        now=lambda: NOON,
        render=lambda accepted: None,
    )
    ended = threads.run([accept, partial(submit, [3], tmp_path, by=BY)])
    assert ended[0].task.ids_count == 2
    assert ended[1].task.ids_count == 1
