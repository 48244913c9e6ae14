"""The feed of outcomes: whoever reads it while others write gets each outcome, in the order of commits."""

import random
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import keys
from scheduling.dispatch import claims
from scheduling.dispatch.messages import ClaimRequest, Result, TickResult
from scheduling.models import Status
from scheduling.reports import outcomes
from scheduling.tasks import cancellation
from scheduling.upkeep import retention
from tests.scheduling.placed import make_queue, place

from .test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db(transaction=True)

LATER = MINUTE + timedelta(minutes=1)


def read(after=outcomes.BEGINNING, *, limit=1_000, **filters) -> outcomes.Page:
    return outcomes.read(after, limit=limit, **filters)


def read_all(*, limit=1_000, **filters) -> list[outcomes.Outcome]:
    page = read(limit=limit, **filters)
    rows = list(page.rows)
    while not page.is_last:
        page = read(page.end, limit=limit, **filters)
        rows += page.rows
    return rows


def shown(rows) -> list[tuple[int, str, int]]:
    return [(row.user_id, row.status.word, row.attempts) for row in rows]


def places_of(task: models.Task) -> list[int]:
    return list(models.Assignment.objects.filter(task=task).order_by("pk").values_list("pk", flat=True))


def end(places, status=Status.FAILED) -> None:
    store.set_outcomes([(key, status, 1, 5) for key in places], was=Status.WAITING)


def tick(queue, *, results=(), **requests_) -> TickResult:
    """A tick at the start of the minute that claims all of it, or as much as it may."""
    request = ClaimRequest(queue, 60.0, **{"immediate": False, **requests_})
    return claims.commit_tick(
        owner=1,
        elapsed=lambda: 0.0,
        requests={keys.bucket_at(queue.pk, MINUTE): request},
        results=results,
        open_batches={item.claim.batch_id for item in results},
        now=lambda: MINUTE,
    )


@contextmanager
def in_thread(work):
    """Run work in a thread, with a connection of its own; wait for it at the end."""
    errors = []

    def run():
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    assert not errors
    assert not thread.is_alive()


# --- The order of commits ---


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer")
def test_reader_gets_what_an_older_transaction_commits_last():
    task = place(make_queue(rpm=60), {MINUTE: [1, 2]}, at=BEFORE)
    first, second = places_of(task)
    is_written, may_commit = threading.Event(), threading.Event()

    def commit_last():
        with store.write():
            end([first])
            is_written.set()
            assert may_commit.wait(30)

    with in_thread(commit_last):
        try:
            assert is_written.wait(30)
            with store.write():
                end([second])
            page = read()
            assert shown(page.rows) == [(2, "failed", 1)]
        finally:
            may_commit.set()
    assert shown(read(page.end).rows) == [(1, "failed", 1)]
    assert shown(read().rows) == [(2, "failed", 1), (1, "failed", 1)]


def test_reader_skips_nothing_while_many_commit():
    """Writers keep their transactions open for random times; one in five is rolled back, or loses its connection."""
    writers, each = 4, 40
    tasks = [
        place(make_queue(f"q{number}", rpm=1_000), {MINUTE: range(1, each + 1)}, at=BEFORE)
        for number in range(writers)
    ]
    committed, is_over = [], threading.Event()

    def write(task, seed):
        rng = random.Random(seed)
        for key in places_of(task):
            fate = rng.random()
            try:
                with store.write():
                    with transaction.atomic():
                        end([key])
                        transaction.set_rollback(rng.random() < 0.1)
                    is_there = not models.Assignment.objects.filter(pk=key, status=Status.WAITING).exists()
                    threading.Event().wait(rng.random() / 200)
                    if fate < 0.1:
                        raise ZeroDivisionError
                    if fate < 0.2 and connection.vendor == "postgresql":
                        connection.connection.close()
                if is_there:
                    committed.append(key)
            except ZeroDivisionError:
                pass
            except Exception:
                connection.close()

    result, positions = [], []

    def follow():
        position = outcomes.BEGINNING
        while True:
            was_over = is_over.is_set()
            page = read(position, limit=7)
            result.extend(row.position.key for row in page.rows)
            positions.extend(row.position for row in page.rows)
            position = page.end
            if was_over and page.is_last:
                return

    with in_thread(follow):
        try:
            threads = [
                threading.Thread(target=lambda t=t, n=n: (write(t, n), connection.close()))
                for n, t in enumerate(tasks)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            is_over.set()
    ended = models.Assignment.objects.filter(status=Status.FAILED).values_list("pk", flat=True)
    assert sorted(result) == sorted(ended)
    assert set(committed) == set(ended)
    assert positions == sorted(positions)


def test_savepoint_that_is_rolled_back_leaves_no_outcome():
    first, second, third = places_of(place(make_queue(rpm=60), {MINUTE: [1, 2, 3]}, at=BEFORE))
    with store.write():
        end([first])
        with transaction.atomic():
            end([second])
            transaction.set_rollback(True)
        with transaction.atomic():
            end([third])
    assert shown(read().rows) == [(1, "failed", 1), (3, "failed", 1)]


def test_outcome_outside_of_a_transaction_is_there():
    (key,) = places_of(place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE))
    assert store.set_status([key], Status.CANCELLED, was=Status.WAITING) == 1
    assert shown(read().rows) == [(1, "cancelled", 0)]


def test_entries_of_a_clock_that_was_set_back_come_last():
    first, second = places_of(place(make_queue(rpm=60), {MINUTE: [1, 2]}, at=BEFORE))
    with store.write():
        end([first])
    ahead = models.OutcomeEntry.objects.get().pk + 3_600_000_000
    models.OutcomeEntry.objects.update(id=ahead)
    with store.write():
        end([second])
    assert list(models.OutcomeEntry.objects.order_by("pk").values_list("pk", flat=True)) == [ahead, ahead + 1]


# --- Every way in which an ID ends ---


def test_ticks_list_what_they_record():
    queue = make_queue(rpm=60, handler="webhook")
    place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    claimed = tick(queue).claims
    statuses = (Status.SUCCEEDED, Status.FAILED, Status.WAITING)
    with_attempt = models.Attempt(
        task_id=claimed[1].task_id, user_id=2, number=1, bucket_id=claimed[1].bucket_id, started_at=MINUTE,
        http_status=404, error="answered 404", answer="no such customer",
    )  # fmt: skip
    results = [
        Result(
            claim,
            status,
            None if status == Status.WAITING else 10,
            with_attempt if claim.user_id == 2 else None,
        )
        for claim, status in zip(claimed, statuses, strict=True)
    ]
    tick(queue, results=results)
    rows = read().rows
    assert shown(rows) == [(1, "succeeded", 1), (2, "failed", 1)]
    assert [tuple(row.result) for row in rows] == [(None, "", ""), (404, "answered 404", "no such customer")]
    assert {row.queue_id for row in rows} == {queue.pk}


def test_ticks_that_record_at_once_add_one_entry_each():
    queue = make_queue(rpm=600)
    place(queue, {MINUTE: range(1, 501)}, at=BEFORE)
    recorded = iter(lambda: tick(queue, immediate=True, at_most=120).recorded_count, 0)
    assert list(recorded) == [120, 120, 120, 120, 20]
    assert shown(read().rows) == [(user, "succeeded", 1) for user in range(1, 501)]
    assert models.OutcomeEntry.objects.count() == 5


def test_cancelled_task_lists_its_ids_as_their_rows_follow():
    task = place(make_queue(rpm=60), {MINUTE: [1, 2]}, at=BEFORE)
    cancellation.cancel(task, by=Actor.system(), now=lambda: BEFORE)
    assert read().rows == []
    cancellation.update_rows(task.pk, lambda: BEFORE)
    assert shown(read().rows) == [(1, "cancelled", 0), (2, "cancelled", 0)]


def test_outcome_stays_once_its_id_is_sent_again():
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1, 2]}, at=BEFORE)
    first, second = places_of(task)
    with store.write():
        end([first, second])
    with store.write():
        key = places_of(task)[-1] + 1_000
        store.move_rows([(first, key)], status=Status.WAITING, was=Status.FAILED)
    assert shown(read().rows) == [(1, "failed", 1), (2, "failed", 1)]
    with store.write():
        store.set_outcomes([(key, Status.SUCCEEDED, 2, 7)], was=Status.WAITING)
    assert shown(read().rows) == [(1, "failed", 1), (2, "failed", 1), (1, "succeeded", 2)]


def test_rows_that_are_written_without_a_chance_are_listed():
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1]}, at=BEFORE)
    with store.write():
        store.insert_assignments(task.pk, [(places_of(task)[0] + 5, [7, 8])], status=Status.EXPIRED)
    assert shown(read().rows) == [(7, "expired", 0), (8, "expired", 0)]


# --- Pages, filters, retention ---


def test_hundred_thousand_outcomes_are_read_in_pages():
    queue = make_queue(rpm=100_000)
    place(queue, {MINUTE: range(1, 100_001)}, at=BEFORE)
    key = places_of(models.Task.objects.get())[0]
    rng, order = random.Random(3), list(range(key, key + 100_000))
    # Neighbours answer in any order.
    for start in range(0, 100_000, 2_500):
        batch = order[start : start + 2_500]
        rng.shuffle(batch)
        with store.write():
            end(batch[:2_000])
            end(batch[2_000:], Status.SUCCEEDED)
    rows = read_all(limit=1_000)
    assert len(rows) == 100_000
    assert len({row.user_id for row in rows}) == 100_000
    assert [row.position for row in rows] == sorted(row.position for row in rows)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_filters_give_the_same_on_pages_of_any_size(limit):
    mail, sms = make_queue("mail", rpm=60), make_queue("sms", rpm=60)
    tasks = [place(queue, {MINUTE: [1, 2], LATER: [3]}, at=BEFORE) for queue in (mail, sms, mail)]
    for part in range(3):
        with store.write():
            end([places_of(task)[part] for task in tasks])
    users = [row.user_id for row in read_all(limit=limit)]
    assert sorted(users) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    of_sms = read_all(limit=limit, queue_id=sms.pk)
    assert [row.user_id for row in of_sms] == [1, 2, 3]
    assert {row.queue_id for row in of_sms} == {sms.pk}
    of_task = read_all(limit=limit, task=tasks[2])
    assert [row.user_id for row in of_task] == [1, 2, 3]
    assert {row.task_id for row in of_task} == {tasks[2].pk}


def test_retention_deletes_entries_with_their_rows(settings):
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1, 2]}, at=BEFORE)
    first, second = places_of(task)
    with store.write():
        end([first, second])
    with store.write():
        store.move_rows([(first, first + 1_000)], status=Status.WAITING, was=Status.FAILED)
        store.set_outcomes([(first + 1_000, Status.SUCCEEDED, 2, 7)], was=Status.WAITING)
    after = MINUTE + timedelta(days=settings.RETENTION_DAYS + 1)
    assert retention.prune(lambda: after)
    assert models.OutcomeEntry.objects.count() == 2, "its window is not totalled yet"
    models.Window.objects.update(totalled_at=MINUTE)
    assert retention.prune(lambda: after)
    assert not models.OutcomeEntry.objects.exists()
    assert not models.FormerOutcome.objects.exists()
