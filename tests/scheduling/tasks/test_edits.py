"""A task is cancelled, renamed, or gets another list: whole or not at all."""

from datetime import timedelta

import pytest
from django.db import transaction

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.core.errors import (
    BadFields,
    PastPeak,
    StaleVersion,
    StillPlacing,
    TaskCancelled,
    UnexpectedCount,
)
from scheduling.dispatch import claims, messages
from scheduling.intake import acceptance, allocation
from scheduling.lists import stored_lists
from scheduling.placement import ledger, moves
from scheduling.queues import operations
from scheduling.reports import id_history
from scheduling.tasks import cancellation, edits
from scheduling.upkeep import reconciliation
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
LATER = NOON + timedelta(minutes=1)


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


def cancel(task, by, at=LATER) -> cancellation.Cancelled:
    return cancellation.cancel(task, by=by, now=lambda: at)


def send(task, count: int, *, status=models.Status.SUCCEEDED) -> list[int]:
    """Let the first `count` of the task's rows have an outcome; return their IDs."""
    waiting = models.Assignment.objects.filter(task=task, status=models.Status.WAITING)
    rows = list(waiting.order_by("pk")[:count])
    counters = ledger.Counters()
    for row in rows:
        counters.change(task.pk, row.bucket_id, models.Status.WAITING, status)
    counters.write()
    models.Assignment.objects.filter(pk__in=[row.pk for row in rows]).update(status=status)
    return [row.user_id for row in rows]


def statuses(task) -> dict[int, models.Status]:
    rows = models.Assignment.objects.filter(task=task)
    return {user: models.Status(status) for user, status in rows.values_list("user_id", "status")}


def fills() -> list[int]:
    return list(models.Bucket.objects.order_by("pk").values_list("filled_count", flat=True))


# --- cancel ---


def test_cancel_frees_places_at_once_and_rows_follow(queue, by, tmp_path):
    task = submit(shuffled(25_000), tmp_path, by=by).task
    write_all()
    assert cancel(task, by) == {"cancelled": 25_000, "already_sent": 0, "in_flight": 0}
    assert fills() == [0] * 15
    assert set(statuses(task).values()) == {models.Status.WAITING}, "no row is touched by the cancel itself"
    cancellation.update_rows(task.pk, lambda: LATER)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    task.refresh_from_db()
    assert task.state_at(LATER) == models.TaskState.CANCELLED
    check_counters()
    check_log()


def test_cancel_reports_cancelled_sent_and_in_flight(queue, by, tmp_path):
    task = submit(range(1, 1_001), tmp_path, by=by).task
    write_all()
    send(task, 200)
    send(task, 50, status=models.Status.FAILED)
    send(task, 30, status=models.Status.IN_FLIGHT)
    assert cancel(task, by) == {"cancelled": 720, "already_sent": 250, "in_flight": 30}
    cancellation.update_rows(task.pk, lambda: LATER)
    check_counters()
    check_log()


def test_second_cancel_gives_the_same_answer_and_changes_nothing(queue, by, tmp_path):
    task = submit(range(1, 1_001), tmp_path, by=by).task
    write_all()
    send(task, 10)
    first = cancel(task, by)
    version = models.Task.objects.get().version
    assert cancel(task, by, LATER + timedelta(days=1)) == first
    task.refresh_from_db()
    assert (task.version, task.cancelled_at) == (version, LATER)
    assert models.Activity.objects.filter(verb="cancelled").count() == 1


def test_next_list_takes_the_places_freed_by_a_cancel(queue, by, tmp_path):
    first = submit(range(1, 1_001), tmp_path, by=by).task
    where = places_by_plan(first)
    cancel(first, by)
    second = submit(range(5_001, 6_001), tmp_path, by=by, at=LATER).task
    assert places_by_plan(second) == where
    write_all(LATER)
    cancellation.update_rows(first.pk, lambda: LATER)
    check_counters()
    check_log()


def places_by_plan(task) -> dict[int, int]:
    waits = models.TaskBucket.objects.filter(task=task, waiting_count__gt=0)
    return dict(waits.values_list("bucket_id", "waiting_count"))


def test_list_that_is_being_written_is_cancelled_completely(queue, by, tmp_path, monkeypatch):
    task = submit(shuffled(30_000), tmp_path, by=by).task
    real, written = allocation._write_slice, []

    def one_slice_then_a_cancel(*args, **kwargs):
        real(*args, **kwargs)
        if not written:
            written.append(cancel(task, by, NOON))

    monkeypatch.setattr(allocation, "_write_slice", one_slice_then_a_cancel)
    write_all()
    assert written == [{"cancelled": 30_000, "already_sent": 0, "in_flight": 0}]
    assert sorted(statuses(task)) == list(range(1, 30_001))
    cancellation.update_rows(task.pk, lambda: LATER)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    assert fills() == [0] * 15
    check_counters()


def test_cancelled_rows_follow_only_once_all_are_written(queue, by, tmp_path):
    task = submit(range(1, 101), tmp_path, by=by).task
    cancel(task, by, NOON)
    cancellation.update_rows(task.pk, lambda: NOON)
    assert models.Task.objects.get().cancel_position == 0
    write_all()
    cancellation.update_rows(task.pk, lambda: NOON)
    assert models.Task.objects.get().cancel_position == 100


def test_cancel_of_rows_resumes_where_a_dead_process_stopped(queue, by, tmp_path, monkeypatch):
    task = submit(shuffled(25_000), tmp_path, by=by).task
    write_all()
    cancel(task, by)
    real, calls = edits.store.cancel_rows, []

    def die_in_the_second(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(edits.store, "cancel_rows", die_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        cancellation.update_rows(task.pk, lambda: LATER)
    monkeypatch.undo()
    assert list(reconciliation.unfinished_cancels()) == [task]
    cancellation.update_rows(task.pk, lambda: LATER)
    assert not reconciliation.unfinished_cancels().exists()
    check_counters()


def test_cancel_job_out_of_time_queues_the_next(queue, by, tmp_path):
    task = submit(shuffled(100), tmp_path, by=by).task
    write_all()
    cancel(task, by)
    before = jobs("follow_cancel")
    cancellation.update_rows(task.pk, lambda: LATER, seconds=-1)
    assert jobs("follow_cancel") == before + 1
    assert models.Task.objects.get().cancel_position == 0


def jobs(name: str) -> int:
    from django_q.models import OrmQ

    return sum(job.func().endswith(name) for job in OrmQ.objects.all())


def test_cancel_of_a_done_task_leaves_it_done(queue, by, tmp_path):
    task = submit(range(1, 11), tmp_path, by=by).task
    write_all()
    send(task, 10)
    ledger.finish([task.pk], at=LATER)
    assert cancel(task, by) == {"cancelled": 0, "already_sent": 10, "in_flight": 0}
    task.refresh_from_db()
    assert task.state_at(LATER) == models.TaskState.DONE


def test_cancel_of_a_stale_version_is_refused(queue, by, tmp_path):
    task = submit(range(1, 11), tmp_path, by=by).task
    edits.rename(task, "other", by=by, at=NOON)
    with pytest.raises(StaleVersion):
        cancellation.cancel(task, by=by, now=lambda: NOON, if_version=1)
    assert models.Task.objects.get().cancelled_at is None


def test_ids_returned_unsent_after_a_cancel_are_cancelled(queue, by, tmp_path):
    task = submit(range(1, 101), tmp_path, by=by).task
    write_all()
    minute = clock.minutes(clock.open_window_start(NOON))[0]
    bucket = keys.bucket_at(queue.pk, minute)
    want = messages.ClaimRequest(queue=queue, until=20.0, immediate=False)
    taken = claims.commit_tick(
        owner=7, elapsed=lambda: 0.0, requests={bucket: want}, now=lambda: minute
    ).claims
    assert len(taken) > 10
    answer = cancel(task, by, minute)
    assert answer == {"cancelled": 100 - len(taken), "already_sent": 0, "in_flight": len(taken)}
    kept_rows = [messages.Result(claimed, models.Status.WAITING) for claimed in taken]
    claims.commit_tick(
        owner=7,
        elapsed=lambda: 1.0,
        requests={},
        results=kept_rows,
        open_batches={taken[0].batch_id},
        now=lambda: minute,
    )
    cancellation.update_rows(task.pk, lambda: minute)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    check_counters()
    check_log()


# --- rename ---


def test_rename_increments_the_version_and_is_logged(queue, by, tmp_path):
    task = submit([1], tmp_path, by=by).task
    edits.rename(task, "spring", by=by, at=LATER, if_version=1)
    stored = models.Task.objects.get()
    assert (stored.name, stored.version) == ("spring", 2)
    line = models.Activity.objects.get(verb="renamed")
    assert (line.before, line.after) == ({"task_name": "a list"}, {"task_name": "spring"})


def test_second_rename_of_one_version_is_refused(queue, by, tmp_path):
    task = submit([1], tmp_path, by=by).task
    edits.rename(task, "spring", by=by, at=LATER, if_version=1)
    with pytest.raises(StaleVersion):
        edits.rename(task, "summer", by=by, at=LATER, if_version=1)
    assert models.Task.objects.get().name == "spring"


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_task_name_has_1_to_200_characters(queue, by, tmp_path, name):
    task = submit([1], tmp_path, by=by).task
    with pytest.raises(BadFields):
        edits.rename(task, name, by=by, at=LATER)


# --- another list ---


def replace(task, ids, folder, by, at=LATER, **options) -> edits.Replaced:
    with spool_of(ids, folder) as spool:
        return edits.replace(task, spool, by=by, now=lambda: at, **options)


def written(ids, folder, by):
    task = submit(ids, folder, by=by).task
    write_all()
    return task


def numbers(replaced) -> tuple[int, ...]:
    return (
        replaced.kept,
        replaced.added,
        replaced.cancelled,
        replaced.already_sent,
        replaced.in_flight,
    )


def names_each_row_once(task) -> list[int]:
    task.refresh_from_db()
    ids = list(stored_lists.ids_of(task.list_id, 0, task.ids_count + 1))
    assert len(ids) == task.ids_count == models.Assignment.objects.filter(task=task).count()
    assert set(ids) == set(statuses(task))
    return ids


def test_replacement_keeps_common_ids_cancels_the_rest_and_places_new_ones(queue, by, tmp_path):
    task = written(range(1, 1_001), tmp_path, by)
    before = places(task)
    replaced = replace(task, range(501, 1_301), tmp_path, by)
    assert numbers(replaced) == (500, 300, 500, 0, 0)
    assert replaced.plan.ids_count == 300
    write_all(LATER)
    after = places(task)
    assert all(after[user] == before[user] for user in range(501, 1_001))
    by_status = statuses(task)
    assert {by_status[user] for user in range(1, 501)} == {models.Status.CANCELLED}
    assert {by_status[user] for user in range(501, 1_301)} == {models.Status.WAITING}
    assert names_each_row_once(task) == [*range(501, 1_301), *range(1, 501)]
    check_counters()
    check_log()


def test_new_ids_take_the_places_of_cancelled_ones(queue, by, tmp_path):
    task = written(range(1, 1_801), tmp_path, by)
    assert fills() == [120] * 15
    replaced = replace(task, range(2_001, 3_801), tmp_path, by)
    assert replaced.plan.peak_per_minute == 120
    write_all(LATER)
    assert fills() == [120] * 15
    assert [places(task)[user][1] for user in (2_001, 2_120, 2_121, 3_800)] == [0, 0, 1, 14]
    check_counters()
    check_log()


def test_replacement_follows_the_plan_in_its_answer(queue, by, tmp_path):
    task = written(range(1, 301), tmp_path, by)
    replaced = replace(task, shuffled(600, first=151), tmp_path, by)
    write_all(LATER)
    rows = models.Assignment.objects.filter(task=task, user_id__gt=300)
    added = [0] * 15
    for row in rows:
        added[keys.index_of_bucket(row.bucket_id)] += 1
    assert tuple(added) == replaced.plan.windows[0].added


def test_replacement_counts_sent_ids_and_leaves_them(queue, by, tmp_path):
    task = written(range(1, 101), tmp_path, by)
    done = send(task, 30)
    failed = send(task, 10, status=models.Status.FAILED)
    flying = send(task, 5, status=models.Status.IN_FLIGHT)
    stays = [*done[:10], *failed[:4], flying[0]]
    replaced = replace(task, [*stays, 1_001], tmp_path, by)
    assert numbers(replaced) == (15, 1, 55, 20 + 6, 4)
    write_all(LATER)
    by_status = statuses(task)
    assert [by_status[user] for user in done] == [models.Status.SUCCEEDED] * 30
    assert [by_status[user] for user in flying] == [models.Status.IN_FLIGHT] * 5
    names_each_row_once(task)
    check_counters()
    check_log()


def test_id_cancelled_by_an_edit_can_be_added_again(queue, by, tmp_path):
    task = written(range(1, 101), tmp_path, by)
    first = places(task)
    replace(task, range(1, 11), tmp_path, by)
    replaced = replace(task, [5, 60, 200, 61], tmp_path, by)
    assert numbers(replaced) == (1, 3, 9, 0, 0)
    assert models.Task.objects.get().placed_at is None
    write_all(LATER)
    by_status = statuses(task)
    assert {user for user, status in by_status.items() if status == models.Status.WAITING} == {5, 60, 61, 200}
    move = models.Move.objects.get(user_id=60)
    assert move.reason == "edit"
    assert move.from_bucket_id == keys.bucket_id(*first[60])
    assert move.to_bucket_id == keys.bucket_id(*places(task)[60])
    assert names_each_row_once(task)[:4] == [5, 60, 200, 61]
    check_counters()
    check_log()


def test_replacing_back_and_forth_leaves_the_right_ids(queue, by, tmp_path):
    task = written(range(1, 301), tmp_path, by)
    for ids in (range(301, 601), range(1, 301), range(151, 451)):
        replace(task, ids, tmp_path, by)
        write_all(LATER)
    waiting = {user for user, status in statuses(task).items() if status == models.Status.WAITING}
    assert waiting == set(range(151, 451))
    names_each_row_once(task)
    check_counters()
    assert proof.check(lambda: LATER) == []


def test_earlier_removed_ids_are_not_counted_again(queue, by, tmp_path):
    task = written(range(1, 101), tmp_path, by)
    done = send(task, 50)
    assert numbers(replace(task, range(1_001, 1_011), tmp_path, by)) == (0, 10, 50, 50, 0)
    write_all(LATER)
    assert numbers(replace(task, range(1_001, 1_006), tmp_path, by)) == (5, 0, 5, 0, 0)
    assert [statuses(task)[user] for user in done] == [models.Status.SUCCEEDED] * 50
    names_each_row_once(task)


def test_id_already_sent_is_not_sent_again_when_added_back(queue, by, tmp_path):
    task = written(range(1, 101), tmp_path, by)
    done = send(task, 5)
    replace(task, [50], tmp_path, by)
    assert numbers(replace(task, [50, *done], tmp_path, by)) == (6, 0, 0, 0, 0)
    assert [statuses(task)[user] for user in done] == [models.Status.SUCCEEDED] * 5


def test_reordered_list_moves_nothing(queue, by, tmp_path):
    task = written(range(1, 101), tmp_path, by)
    before = places(task)
    assert numbers(replace(task, range(100, 0, -1), tmp_path, by)) == (100, 0, 0, 0, 0)
    assert places(task) == before
    assert names_each_row_once(task) == list(range(100, 0, -1))


def test_replacement_changes_name_payload_and_version(queue, by, tmp_path):
    task = written([1, 2], tmp_path, by)
    about = {"name": "spring", "payload": "2,3", "column": "user_id"}
    replaced = replace(task, [2, 3], tmp_path, by, if_version=1, **about)
    stored = models.Task.objects.get()
    assert replaced.task == stored
    assert (stored.name, stored.payload, stored.column, stored.version) == ("spring", "2,3", "user_id", 2)
    line = models.Activity.objects.get(verb="replaced")
    assert line.after["cancelled"] == 1
    assert line.after["added"] == 1


def test_task_without_waiting_ids_after_an_edit_is_done(queue, by, tmp_path):
    task = written([1, 2, 3], tmp_path, by)
    (done,) = send(task, 1)
    replace(task, [done], tmp_path, by)
    assert models.Task.objects.get().state_at(LATER) == models.TaskState.DONE


def test_done_task_continues_with_new_ids(queue, by, tmp_path):
    task = written([1], tmp_path, by)
    send(task, 1)
    ledger.finish([task.pk], at=NOON)
    replace(task, [1, 2], tmp_path, by)
    assert models.Task.objects.get().state_at(LATER) == models.TaskState.PLACING
    write_all(LATER)
    assert models.Task.objects.get().state_at(LATER) == models.TaskState.PLACED


def test_first_and_last_minute_follow_the_replaced_list(queue, by, tmp_path):
    task = written(range(1, 601), tmp_path, by)
    replace(task, range(121, 241), tmp_path, by)
    task.refresh_from_db()
    minute = NOON.replace(minute=16, second=0)
    assert (task.first_minute_at, task.last_minute_at) == (minute, minute)


def nothing_changed(task, before) -> bool:
    stored = models.Task.objects.get()
    tables = (models.IdList, models.Segment, models.Reservation)
    return (
        (stored.version, stored.list_id, statuses(task)) == before
        and [table.objects.count() for table in tables] == [1, 1, 1]
        and models.Chunk.objects.filter(list__accepted_at=None).count() == 0
    )


def test_replacement_past_max_peak_changes_nothing(queue, by, tmp_path):
    task = written(range(1, 101), tmp_path, by)
    before = (1, task.list_id, statuses(task))
    operations.update(queue, {"max_peak": 130}, by=by, now=lambda: NOON)
    with pytest.raises(PastPeak):
        replace(task, range(50, 3_000), tmp_path, by)
    assert nothing_changed(task, before)
    assert replace(task, range(50, 3_000), tmp_path, by, allow_peak=True).added == 2_899


def test_replacement_of_an_unexpected_count_changes_nothing(queue, by, tmp_path):
    task = written([1, 2], tmp_path, by)
    with pytest.raises(UnexpectedCount):
        replace(task, [1, 2, 3], tmp_path, by, expect=2)
    assert nothing_changed(task, (1, task.list_id, statuses(task)))


def test_replacement_that_dies_halfway_changes_nothing(queue, by, tmp_path, monkeypatch):
    task = written(range(1, 101), tmp_path, by)
    before = (1, task.list_id, statuses(task))

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(edits.acceptance, "place", die)
    with pytest.raises(KeyboardInterrupt):
        replace(task, range(50, 200), tmp_path, by)
    assert nothing_changed(task, before)
    check_counters()
    check_log()


def test_list_that_is_being_written_is_not_replaced(queue, by, tmp_path):
    task = submit([1, 2], tmp_path, by=by).task
    with pytest.raises(StillPlacing):
        replace(task, [1], tmp_path, by)


def test_cancelled_task_is_not_replaced(queue, by, tmp_path):
    task = written([1, 2], tmp_path, by)
    cancel(task, by)
    with pytest.raises(TaskCancelled):
        replace(task, [1], tmp_path, by)


def test_replacement_of_a_stale_version_is_refused(queue, by, tmp_path):
    task = written([1, 2], tmp_path, by)
    edits.rename(task, "other", by=by, at=NOON)
    with pytest.raises(StaleVersion):
        replace(task, [1], tmp_path, by, if_version=1)
    assert set(statuses(task).values()) == {models.Status.WAITING}


def test_edit_during_the_comparison_restarts_it(queue, by, tmp_path, monkeypatch):
    task = written(range(1, 101), tmp_path, by)
    real, calls = edits.acceptance.write_draft, []

    def somebody_else_is_first(*args, **kwargs):
        if not calls:
            calls.append(1)
            replace(task, range(51, 151), tmp_path, by)
            write_all(LATER)
        return real(*args, **kwargs)

    monkeypatch.setattr(edits.acceptance, "write_draft", somebody_else_is_first)
    assert numbers(replace(task, range(101, 201), tmp_path, by)) == (50, 50, 50, 0, 0)
    write_all(LATER)
    names_each_row_once(task)
    check_counters()
    check_log()


def test_ids_that_change_during_the_comparison_are_read_again(queue, by, tmp_path, monkeypatch):
    task = written(range(1, 301), tmp_path, by)
    real, calls = edits.acceptance.write_draft, []

    def meanwhile(*args, **kwargs):
        if not calls:
            calls.append(send(task, 20))
            calls.append(send(task, 5, status=models.Status.IN_FLIGHT))
            calls.append(move_on(queue, task, 30))
        return real(*args, **kwargs)

    monkeypatch.setattr(edits.acceptance, "write_draft", meanwhile)
    assert numbers(replace(task, [1_001], tmp_path, by)) == (0, 1, 275, 20, 5)
    write_all(LATER)
    assert {statuses(task)[user] for user in calls[2]} == {models.Status.CANCELLED}
    check_counters()
    check_log()


def move_on(queue, task, count: int) -> list[int]:
    """Move the first of the task's waiting rows, as late ones are; return their IDs."""
    waiting = models.Assignment.objects.filter(task=task, status=models.Status.WAITING).order_by("pk")[:count]
    rows = [moves.Row(row.pk, row.user_id, row.task_id, row.attempts) for row in waiting]
    with transaction.atomic():
        moves.move(
            queue,
            rows,
            from_minute=NOON.replace(minute=40, second=0),
            reason="late",
            was=models.Status.WAITING,
            at=NOON,
        )
    return [row.user_id for row in rows]


def test_resend_during_the_comparison_is_noticed(queue, by, tmp_path, monkeypatch):
    task = written(range(1, 101), tmp_path, by)
    done = send(task, 10)
    real, calls = edits.acceptance.write_draft, []

    def meanwhile(*args, **kwargs):
        if not calls:
            calls.append(1)
            rows = models.Assignment.objects.filter(user_id__in=done[:3])
            again = [moves.Row(row.pk, row.user_id, row.task_id, row.attempts) for row in rows]
            minute = NOON.replace(minute=40, second=0)
            was = models.Status.SUCCEEDED
            with transaction.atomic():
                moves.move(queue, again, from_minute=minute, reason="operator", was=was, at=NOON)
        return real(*args, **kwargs)

    monkeypatch.setattr(edits.acceptance, "write_draft", meanwhile)
    assert numbers(replace(task, [1_001], tmp_path, by)) == (0, 1, 93, 7, 0)
    check_log()


def test_unneeded_list_order_is_deleted(queue, by, tmp_path):
    task = written(range(1, 11), tmp_path, by)
    first = task.list_id
    lists_after = []
    for ids in (range(5, 21), range(7, 31)):
        replace(task, ids, tmp_path, by)
        write_all(LATER)
        lists_after.append(models.Task.objects.get().list_id)
    acceptance.sweep_drafts(at=LATER + timedelta(hours=2))
    remaining = set(models.IdList.objects.values_list("pk", flat=True))
    assert lists_after[0] not in remaining
    placed = set(models.Segment.objects.values_list("list_id", flat=True))
    assert remaining == {lists_after[1]} | placed
    assert first in placed


def test_every_id_has_the_same_place_before_and_after_its_row_is_written(queue, by, tmp_path):
    task = written(range(1, 301), tmp_path, by)
    replace(task, range(1, 101), tmp_path, by)
    replace(task, [*range(90, 201), *range(1_001, 1_101)], tmp_path, by)
    task = models.Task.objects.get()
    before = id_history.places_of(task, 0, task.ids_count, at=LATER)
    assert [place.user_id for place in before] == list(stored_lists.ids_of(task.list_id, 0, task.ids_count))
    write_all(LATER)
    after = id_history.places_of(models.Task.objects.get(), 0, task.ids_count, at=LATER)
    assert [(p.user_id, p.bucket_id, p.status) for p in before] == [
        (p.user_id, p.bucket_id, p.status) for p in after
    ]


def test_replaced_task_can_be_cancelled_completely(queue, by, tmp_path):
    task = written(range(1, 301), tmp_path, by)
    replace(task, range(201, 501), tmp_path, by)
    assert cancel(task, by)["cancelled"] == 300
    write_all(LATER)
    cancellation.update_rows(task.pk, lambda: LATER)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    assert fills() == [0] * 15
    check_counters()
    check_log()


def test_long_lists_are_compared_in_parts(queue, by, tmp_path, monkeypatch):
    from scheduling.lists import differences

    monkeypatch.setattr(differences, "PART_IDS", 7_000)
    task = written(shuffled(40_000), tmp_path, by)
    replaced = replace(task, shuffled(40_000, seed=2, first=15_001), tmp_path, by)
    assert numbers(replaced) == (25_000, 15_000, 15_000, 0, 0)
    write_all(LATER)
    waiting = {user for user, status in statuses(task).items() if status == models.Status.WAITING}
    assert waiting == set(range(15_001, 55_001))
    ids = names_each_row_once(task)
    assert ids[:40_000] == shuffled(40_000, seed=2, first=15_001)
    check_counters()
    check_log()


def test_replacement_under_carry_over_uses_the_next_windows(queue, by, tmp_path):
    operations.update(queue, {"overflow": "carry_over"}, by=by, now=lambda: NOON)
    task = written(range(1, 4_001), tmp_path, by)
    replaced = replace(task, [*range(3_001, 4_001), *range(5_001, 9_001)], tmp_path, by)
    assert numbers(replaced) == (1_000, 4_000, 3_000, 0, 0)
    write_all(LATER)
    assert max(fills()) == 120
    assert sum(fills()) == 5_000
    check_counters()
    check_log()
