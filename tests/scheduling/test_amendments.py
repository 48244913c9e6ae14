"""A task is cancelled, renamed, or gets another list: whole or not at all."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import allocation, amendments, claims, clock, keys, models, sweep
from scheduling.errors import BadFields, StaleVersion

from .lists_of_ids import NOON, check_counters, check_log, places, shuffled, submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)
LATER = NOON + timedelta(minutes=1)


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=120, created_at=NOON)


def cancel(task, by, at=LATER) -> amendments.Cancelled:
    return amendments.cancel(task, by=by, now=lambda: at)


def send(task, count: int, *, status=models.Status.SUCCEEDED) -> list[int]:
    """Let the first `count` of the task's rows have an outcome; return their IDs."""
    waiting = models.Assignment.objects.filter(task=task, status=models.Status.WAITING)
    rows = list(waiting.order_by("pk")[:count])
    counters = claims.Counters()
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


def test_a_cancel_frees_the_places_at_once_and_the_rows_follow(queue, by, tmp_path):
    task = submit(shuffled(25_000), tmp_path, by=by).task
    write_all()
    assert cancel(task, by) == {"cancelled": 25_000, "already_sent": 0, "in_flight": 0}
    assert fills() == [0] * 15
    assert set(statuses(task).values()) == {models.Status.WAITING}, "no row is touched by the cancel itself"
    amendments.follow_cancel(task.pk, lambda: LATER)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    task.refresh_from_db()
    assert task.state_at(LATER) == models.TaskState.CANCELLED
    check_counters()
    check_log()


def test_its_numbers_tell_cancelled_sent_and_in_flight_apart(queue, by, tmp_path):
    task = submit(range(1, 1_001), tmp_path, by=by).task
    write_all()
    send(task, 200)
    send(task, 50, status=models.Status.FAILED)
    send(task, 30, status=models.Status.IN_FLIGHT)
    assert cancel(task, by) == {"cancelled": 720, "already_sent": 250, "in_flight": 30}
    amendments.follow_cancel(task.pk, lambda: LATER)
    check_counters()
    check_log()


def test_again_it_gives_the_same_answer_and_changes_nothing(queue, by, tmp_path):
    task = submit(range(1, 1_001), tmp_path, by=by).task
    write_all()
    send(task, 10)
    first = cancel(task, by)
    version = models.Task.objects.get().version
    assert cancel(task, by, LATER + timedelta(days=1)) == first
    task.refresh_from_db()
    assert (task.version, task.cancelled_at) == (version, LATER)
    assert models.Activity.objects.filter(verb="cancelled").count() == 1


def test_the_next_list_takes_the_places_that_a_cancel_gave_back(queue, by, tmp_path):
    first = submit(range(1, 1_001), tmp_path, by=by).task
    where = places_by_plan(first)
    cancel(first, by)
    second = submit(range(5_001, 6_001), tmp_path, by=by, at=LATER).task
    assert places_by_plan(second) == where
    write_all(LATER)
    amendments.follow_cancel(first.pk, lambda: LATER)
    check_counters()
    check_log()


def places_by_plan(task) -> dict[int, int]:
    waits = models.TaskBucket.objects.filter(task=task, waiting_count__gt=0)
    return dict(waits.values_list("bucket_id", "waiting_count"))


def test_a_list_that_is_still_being_written_is_cancelled_whole(queue, by, tmp_path, monkeypatch):
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
    amendments.follow_cancel(task.pk, lambda: LATER)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    assert fills() == [0] * 15
    check_counters()


def test_rows_follow_only_once_all_of_them_are_there(queue, by, tmp_path):
    task = submit(range(1, 101), tmp_path, by=by).task
    cancel(task, by, NOON)
    amendments.follow_cancel(task.pk, lambda: NOON)
    assert models.Task.objects.get().cancel_position == 0
    write_all()
    amendments.follow_cancel(task.pk, lambda: NOON)
    assert models.Task.objects.get().cancel_position == 100


def test_whoever_comes_later_goes_on_where_a_dead_follower_stopped(queue, by, tmp_path, monkeypatch):
    task = submit(shuffled(25_000), tmp_path, by=by).task
    write_all()
    cancel(task, by)
    real, calls = amendments.store.cancel_rows, []

    def die_in_the_second(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(amendments.store, "cancel_rows", die_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        amendments.follow_cancel(task.pk, lambda: LATER)
    monkeypatch.undo()
    assert list(sweep.unfollowed()) == [task]
    amendments.follow_cancel(task.pk, lambda: LATER)
    assert not sweep.unfollowed().exists()
    check_counters()


def test_a_job_that_has_no_time_left_calls_the_next(queue, by, tmp_path):
    task = submit(shuffled(100), tmp_path, by=by).task
    write_all()
    cancel(task, by)
    before = jobs("follow_cancel")
    amendments.follow_cancel(task.pk, lambda: LATER, seconds=-1)
    assert jobs("follow_cancel") == before + 1
    assert models.Task.objects.get().cancel_position == 0


def jobs(name: str) -> int:
    from django_q.models import OrmQ

    return sum(job.func().endswith(name) for job in OrmQ.objects.all())


def test_a_task_that_is_done_stays_done(queue, by, tmp_path):
    task = submit(range(1, 11), tmp_path, by=by).task
    write_all()
    send(task, 10)
    claims.finish([task.pk], at=LATER)
    assert cancel(task, by) == {"cancelled": 0, "already_sent": 10, "in_flight": 0}
    task.refresh_from_db()
    assert task.state_at(LATER) == models.TaskState.DONE


def test_a_cancel_for_an_older_version_is_refused(queue, by, tmp_path):
    task = submit(range(1, 11), tmp_path, by=by).task
    amendments.rename(task, "other", by=by, at=NOON)
    with pytest.raises(StaleVersion):
        amendments.cancel(task, by=by, now=lambda: NOON, if_version=1)
    assert models.Task.objects.get().cancelled_at is None


def test_what_a_claim_gives_back_after_the_cancel_is_cancelled_too(queue, by, tmp_path):
    task = submit(range(1, 101), tmp_path, by=by).task
    write_all()
    minute = clock.minutes(clock.open_window_start(NOON))[0]
    bucket = keys.bucket_at(queue.pk, minute)
    want = claims.Want(queue=queue, until=20.0, immediate=False)
    taken = claims.turn(owner=7, offset=lambda: 0.0, wants={bucket: want}, now=lambda: minute).claimed
    assert len(taken) > 10
    answer = cancel(task, by, minute)
    assert answer == {"cancelled": 100 - len(taken), "already_sent": 0, "in_flight": len(taken)}
    kept = [claims.Kept(claimed, models.Status.WAITING) for claimed in taken]
    claims.turn(
        owner=7, offset=lambda: 1.0, wants={}, kept=kept, batch_ids={taken[0].batch_id}, now=lambda: minute
    )
    amendments.follow_cancel(task.pk, lambda: minute)
    assert set(statuses(task).values()) == {models.Status.CANCELLED}
    check_counters()
    check_log()


# --- rename ---


def test_a_rename_makes_a_new_version_and_leaves_its_line(queue, by, tmp_path):
    task = submit([1], tmp_path, by=by).task
    amendments.rename(task, "spring", by=by, at=LATER, if_version=1)
    stored = models.Task.objects.get()
    assert (stored.name, stored.version) == ("spring", 2)
    line = models.Activity.objects.get(verb="renamed")
    assert (line.before, line.after) == ({"task_name": "a list"}, {"task_name": "spring"})


def test_of_two_renames_of_one_version_the_second_is_refused(queue, by, tmp_path):
    task = submit([1], tmp_path, by=by).task
    amendments.rename(task, "spring", by=by, at=LATER, if_version=1)
    with pytest.raises(StaleVersion):
        amendments.rename(task, "summer", by=by, at=LATER, if_version=1)
    assert models.Task.objects.get().name == "spring"


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_name_has_1_to_200_characters(queue, by, tmp_path, name):
    task = submit([1], tmp_path, by=by).task
    with pytest.raises(BadFields):
        amendments.rename(task, name, by=by, at=LATER)
