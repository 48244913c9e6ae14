"""A COMMIT whose answer is lost is recognised: what it wrote is there, and nothing is done a second time."""

import pytest
from django.db import OperationalError, connection

from operators.actor import Actor
from scheduling import models, store
from scheduling.intake import acceptance, allocation
from tests.scheduling.lists_of_ids import NOON, check_counters, places, submit

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.command_line()


@pytest.fixture(autouse=True)
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


class Commits:
    """The database's COMMITs; the answer to the one chosen is lost, after or before it took effect."""

    def __init__(self, monkeypatch):
        self.lost = ""
        real = connection._commit

        def commit():
            lost, self.lost = self.lost, ""
            if lost != "before":
                real()
            if lost:
                raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(connection, "_commit", commit)


@pytest.fixture
def commits(monkeypatch, settings):
    monkeypatch.setattr(store, "RECOGNISE_SECONDS", 0.5)
    return Commits(monkeypatch)


def lose_within(commits: Commits, monkeypatch, module, name: str, *, when: str) -> None:
    """Lose the answer to the next COMMIT once `name` has been called."""
    real = getattr(module, name)

    def called(*args, **kwargs):
        commits.lost = when
        monkeypatch.setattr(module, name, real)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize("ids_count", [3, 40_000], ids=["short", "by a draft"])
@pytest.mark.parametrize(
    "key", [None, acceptance.IdempotencyKey("me", "k", "f")], ids=["without key", "with key"]
)
def test_acceptance_with_a_lost_commit_response_answers_normally(
    commits, monkeypatch, tmp_path, ids_count, key
):
    lose_within(commits, monkeypatch, acceptance, "place", when="after")
    accepted = submit(range(1, ids_count + 1), tmp_path, by=BY, key=key)
    task = models.Task.objects.get()
    assert (accepted.task, accepted.answer, accepted.repeated) == (task, {"task_id": task.pk}, False)
    assert models.IdList.objects.count() == 1
    assert task.list.accepted_at is not None
    if key:
        assert submit(range(1, ids_count + 1), tmp_path, by=BY, key=key).answer == accepted.answer
        assert models.Task.objects.count() == 1


@pytest.mark.parametrize("ids_count", [3, 40_000], ids=["short", "by a draft"])
def test_acceptance_that_was_not_committed_fails_and_leaves_nothing(
    commits, monkeypatch, tmp_path, ids_count
):
    lose_within(commits, monkeypatch, acceptance, "place", when="before")
    with pytest.raises(OperationalError):
        submit(range(1, ids_count + 1), tmp_path, by=BY)
    assert not models.Task.objects.exists()
    assert not models.IdList.objects.exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_slice_with_a_lost_commit_is_written_once_and_the_rest_at_once(commits, monkeypatch, tmp_path, when):
    task = submit(range(1, 25_001), tmp_path, by=BY).task
    lose_within(commits, monkeypatch, store, "insert_users", when=when)
    # Within the first run, without waiting for a lease to pass.
    allocation.write_segments(lambda: NOON, seconds=60)
    assert set(places(task)) == set(range(1, 25_001))
    assert models.Task.objects.get().placed_at == NOON
    check_counters()


def test_error_before_the_commit_is_no_lost_commit(queue):
    def change():
        raise OperationalError("the connection is lost")

    with pytest.raises(OperationalError):
        store.write_and_recognise(change, lambda _: True)


def test_part_of_a_larger_transaction_is_never_considered_committed(queue, commits):
    def larger():
        with store.write():
            store.write_and_recognise(lambda: models.Queue.objects.update(rpm=7), lambda _: True)
            commits.lost = "before"

    with pytest.raises(OperationalError):
        larger()
    assert models.Queue.objects.get().rpm == 120
