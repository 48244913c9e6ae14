"""check_plan says nothing of what is right, and names each kind of what isn't, as two numbers."""

import itertools
from array import array
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models import F

from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.dispatch import overdue
from scheduling.lists import stored_lists
from scheduling.models import MoveReason, Status
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

AFTER = MINUTE + timedelta(seconds=70)


@pytest.fixture
def ran():
    """A minute that ran half, and whose rest was late."""
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 20)
    overdue.run(lambda: AFTER)
    return task


def differences() -> list[str]:
    return [str(difference) for difference in proof.check(lambda: AFTER)]


def test_correct_plan_has_no_violations(ran):
    assert differences() == []


def test_list_that_is_being_written_has_no_violations():
    place(make_queue(rpm=60), {MINUTE: range(1, 41)}, at=BEFORE, written=False)
    models.Segment.objects.create(
        task=models.Task.objects.get(),
        list=models.IdList.objects.get(),
        number=0,
        first_position=0,
        ids_count=40,
    )
    assert differences() == []


def test_missing_row_is_found(ran):
    models.Assignment.objects.filter(status=Status.SUCCEEDED).first().delete()
    [counter, ids] = differences()
    assert counter.endswith("14 by the tables, 13 found")
    assert ids.startswith(f"every ID has its row: task {ran.pk}, ")
    assert ids.endswith("40 by the tables, 39 found")


def test_wrong_counter_is_found(ran):
    models.TaskBucket.objects.filter(succeeded_count__gt=0).update(succeeded_count=F("succeeded_count") + 1)
    assert len(differences()) == 3


def test_fill_that_the_log_does_not_explain_is_found(ran):
    models.Bucket.objects.filter(pk=keys.bucket_at(ran.queue_id, MINUTE)).update(
        filled_count=F("filled_count") + 1, waiting_count=F("waiting_count") + 1
    )
    assert any("the log ends in the fill" in words for words in differences())


def test_fill_without_any_log_line_is_found():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1]}, at=BEFORE)
    assert differences() == []
    models.Reservation.objects.all().delete()
    version, fill = differences()
    assert "version" in version
    assert version.endswith("1 by the tables, 0 found")
    assert fill.startswith("the log ends in the fill")
    assert fill.endswith("1 by the tables, 0 found")


def test_window_version_without_a_log_line_is_found(ran):
    window = models.Window.objects.get(pk=keys.window_of_bucket(keys.bucket_at(ran.queue_id, MINUTE)))
    models.Window.objects.filter(pk=window.pk).update(version=F("version") + 3)
    [words] = differences()
    assert words.endswith(f"{window.version + 3} by the tables, {window.version} found")


def test_finished_task_with_waiting_ids_is_found(ran):
    models.Task.objects.update(finished_at=AFTER)
    [words] = differences()
    waiting = models.Task.objects.get().waiting_count
    assert words.endswith(f"task {ran.pk}: 0 by the tables, {waiting} found")


@pytest.mark.parametrize("column", ["started_count", "repeats_count"])
def test_starts_and_repeats_without_rows_are_found(ran, column):
    bucket = models.Bucket.objects.get(pk=keys.bucket_at(ran.queue_id, MINUTE))
    models.Bucket.objects.filter(pk=bucket.pk).update(**{column: F(column) + 5})
    [words] = differences()
    was = getattr(bucket, column)
    assert words.endswith(f"bucket {bucket.pk}: {was + 5} by the tables, {was} found")


def test_places_against_the_rules_are_found():
    place(make_queue(rpm=60), {MINUTE + timedelta(minutes=1): range(1, 41)}, at=BEFORE)
    assert any("places follow the rules" in words for words in differences())


def test_swapped_ids_are_found():
    task = place(make_queue(rpm=20), {MINUTE: range(1, 21), MINUTE + clock.MINUTE: range(21, 41)}, at=BEFORE)
    assert differences() == []
    here, second = (models.Assignment.objects.get(user_id=user) for user in (5, 25))
    models.Assignment.objects.filter(pk=here.pk).update(user_id=-1)
    models.Assignment.objects.filter(pk=second.pk).update(user_id=5)
    models.Assignment.objects.filter(pk=here.pk).update(user_id=25)
    [words] = differences()
    assert words.startswith(f"every place is explained: task {task.pk}, ")
    assert words.endswith("such as ID 5: 40 by the tables, 38 found")


def test_moved_id_without_a_move_is_found(ran):
    move = models.Move.objects.filter(reason=MoveReason.LATE).first()
    move.delete()
    moved, explained = differences()
    assert explained.endswith(f"such as ID {move.user_id}: 40 by the tables, 39 found")
    assert moved.startswith(f"what moved has its move: bucket {move.from_bucket_id}: ")


def test_id_missing_from_its_list_is_found():
    task = place(make_queue(rpm=60), {MINUTE: range(1, 41)}, at=BEFORE)
    stored_lists.write(models.IdList.objects.create(created_at=BEFORE), [array("q", range(1, 40))])
    shorter = models.IdList.objects.latest("pk")
    models.Reservation.objects.update(list_id=shorter.pk)
    [words] = differences()
    assert words.startswith(f"a place has its ID: task {task.pk}, ")
    assert words.endswith("40 by the tables, 39 found")


def test_late_id_placed_past_rpm_is_found(ran):
    line = models.Reservation.objects.get(kind=models.ReservationKind.MOVE_IN)
    models.Reservation.objects.filter(pk=line.pk).update(rpm=20)
    [words] = differences()
    assert words.startswith("what is late stays within rpm")
    assert words.endswith("20 by the tables, 26 found")


def test_log_line_with_a_wrong_number_or_direction_is_found(ran):
    models.Reservation.objects.filter(kind=models.ReservationKind.MOVE_OUT).update(
        ids_count=3, kind="move_in"
    )
    assert [words.split(":")[0] for words in differences()] == [
        "a line counts its places",
        "a line of move_in has its direction",
    ]


def test_proof_in_small_pieces_finds_the_same(ran, monkeypatch):
    second = place(
        make_queue("r", rpm=20), {MINUTE: range(1, 21), MINUTE + clock.MINUTE: range(21, 41)}, at=BEFORE
    )
    models.Assignment.objects.filter(task=ran, status=Status.SUCCEEDED).first().delete()
    models.Assignment.objects.filter(task=second).last().delete()
    models.Bucket.objects.filter(started_count__gt=0).update(started_count=F("started_count") + 5)
    models.Task.objects.filter(pk=second.pk).update(finished_at=AFTER)
    whole = differences()
    assert len(whole) == 6
    monkeypatch.setattr(proof.minutes, "WINDOWS_AT_A_TIME", 1)
    monkeypatch.setattr(proof.tasks, "TASKS_AT_A_TIME", 1)
    monkeypatch.setattr(proof.places, "LINES_AT_A_TIME", 1)
    monkeypatch.setattr(proof.places, "IDS_AT_A_TIME", 7)
    in_pieces = list(proof.steps(lambda: AFTER))
    assert len(in_pieces) > 15
    assert sum(step.ids_count for step in in_pieces) == 80
    words = [str(difference) for step in in_pieces for difference in step.differences]
    # Where a part of a line is looked at, its numbers are of that part.
    assert len(words) == len(whole)
    assert set(words) & set(whole) == {
        difference for difference in whole if not difference.startswith("every ID has its row")
    }
    assert sum("7 by the tables, 6 found" in difference for difference in words) == 1


def test_proof_resumes_where_it_stopped(ran, monkeypatch):
    monkeypatch.setattr(proof.places, "IDS_AT_A_TIME", 7)
    steps = list(proof.steps(lambda: AFTER))
    for number, step in enumerate(steps, 1):
        rest = list(proof.steps(lambda: AFTER, stage=step.stage, cursor=step.cursor))
        assert rest == steps[number:]


def test_old_claim_is_found():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    SimulatedWorker(queue).tick(0)
    models.Batch.objects.update(lease_until=AFTER - timedelta(seconds=40))
    [words] = [words for words in differences() if "lease" in words]
    assert words.endswith("30 by the tables, 55 found")


def test_old_claim_that_grows_older_between_reads_is_found():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    SimulatedWorker(queue).tick(0)
    models.Batch.objects.update(lease_until=AFTER - timedelta(seconds=40))
    clock = (AFTER + timedelta(seconds=seconds) for seconds in itertools.count())
    [words] = [
        str(difference) for difference in proof.check(lambda: next(clock)) if "two leases" in difference.check
    ]
    assert int(words.split()[-2]) > 55


def test_claim_leased_for_a_day_is_found():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    SimulatedWorker(queue).tick(0)
    models.Batch.objects.update(lease_until=AFTER + timedelta(days=1))
    [words] = [words for words in differences() if "lease" in words]
    assert words.endswith("15 by the tables, 86400 found")


def test_check_plan_prints_violations_and_fails(ran):
    out = StringIO()
    call_command("check_plan", stdout=out)
    assert out.getvalue() == "The plan holds.\n"
    models.Assignment.objects.filter(status=Status.SUCCEEDED).first().delete()
    with pytest.raises(SystemExit) as stopped:
        call_command("check_plan", stdout=out)
    assert stopped.value.code == 1
    assert "2 things do not hold." in out.getvalue()
