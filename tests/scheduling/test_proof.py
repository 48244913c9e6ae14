"""check_plan says nothing of what is right, and names each kind of what isn't, as two numbers."""

import itertools
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models import F

from scheduling import keys, late, models, proof
from scheduling.models import Status

from .placed import make_queue, place
from .store.test_claims import BEFORE, MINUTE, SimulatedSeat

pytestmark = pytest.mark.django_db

AFTER = MINUTE + timedelta(seconds=70)


@pytest.fixture
def ran():
    """A minute that ran half, and whose rest was late."""
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    seat = SimulatedSeat(queue)
    seat.serve(0, 20)
    late.run(lambda: AFTER)
    return task


def found() -> list[str]:
    return [str(difference) for difference in proof.check(lambda: AFTER)]


def test_what_ran_and_what_was_late_holds(ran):
    assert found() == []


def test_lists_that_are_still_being_written_hold():
    place(make_queue(rpm=60), {MINUTE: range(1, 41)}, at=BEFORE, written=False)
    models.Segment.objects.create(
        task=models.Task.objects.get(),
        list=models.IdList.objects.get(),
        number=0,
        first_position=0,
        ids_count=40,
    )
    assert found() == []


def test_a_row_that_is_gone_is_named(ran):
    models.Assignment.objects.filter(status=Status.SUCCEEDED).first().delete()
    [counter, ids] = found()
    assert counter.endswith("14 by the tables, 13 found")
    assert ids.endswith(f"task {ran.pk}: 40 by the tables, 39 found")


def test_a_counter_that_drifted_is_named(ran):
    models.TaskBucket.objects.filter(succeeded_count__gt=0).update(succeeded_count=F("succeeded_count") + 1)
    assert len(found()) == 3


def test_a_fill_that_no_line_of_the_log_explains_is_named(ran):
    models.Bucket.objects.filter(pk=keys.bucket_at(ran.queue_id, MINUTE)).update(
        filled_count=F("filled_count") + 1, waiting_count=F("waiting_count") + 1
    )
    assert any("the log ends in the fill" in words for words in found())


def test_a_fill_without_any_line_is_named():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1]}, at=BEFORE)
    assert found() == []
    models.Reservation.objects.all().delete()
    version, fill = found()
    assert "version" in version
    assert version.endswith("1 by the tables, 0 found")
    assert fill.startswith("the log ends in the fill")
    assert fill.endswith("1 by the tables, 0 found")


def test_a_windows_version_that_no_line_has_is_named(ran):
    window = models.Window.objects.get(pk=keys.bucket_at(ran.queue_id, MINUTE) >> 4)
    models.Window.objects.filter(pk=window.pk).update(version=F("version") + 3)
    [words] = found()
    assert words.endswith(f"{window.version + 3} by the tables, {window.version} found")


def test_a_finished_task_of_which_something_waits_is_named(ran):
    models.Task.objects.update(finished_at=AFTER)
    [words] = found()
    waiting = models.Task.objects.get().waiting_count
    assert words.endswith(f"task {ran.pk}: 0 by the tables, {waiting} found")


@pytest.mark.parametrize("column", ["started_count", "repeats_count"])
def test_starts_and_repeats_that_left_nothing_are_named(ran, column):
    bucket = models.Bucket.objects.get(pk=keys.bucket_at(ran.queue_id, MINUTE))
    models.Bucket.objects.filter(pk=bucket.pk).update(**{column: F(column) + 5})
    [words] = found()
    was = getattr(bucket, column)
    assert words.endswith(f"bucket {bucket.pk}: {was + 5} by the tables, {was} found")


def test_places_that_are_not_by_the_rules_are_named():
    place(make_queue(rpm=60), {MINUTE + timedelta(minutes=1): range(1, 41)}, at=BEFORE)
    assert any("places follow the rules" in words for words in found())


def test_an_old_claim_is_named():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    SimulatedSeat(queue).turn(0)
    models.Batch.objects.update(lease_until=AFTER - timedelta(seconds=40))
    [words] = [words for words in found() if "lease" in words]
    assert words.endswith("30 by the tables, 55 found")


def test_an_old_claim_is_named_though_it_grows_older_between_two_looks():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    SimulatedSeat(queue).turn(0)
    models.Batch.objects.update(lease_until=AFTER - timedelta(seconds=40))
    clock = (AFTER + timedelta(seconds=seconds) for seconds in itertools.count())
    [words] = [str(one) for one in proof.check(lambda: next(clock)) if "two leases" in one.check]
    assert int(words.split()[-2]) > 55


def test_a_claim_that_is_leased_for_a_day_is_named():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    SimulatedSeat(queue).turn(0)
    models.Batch.objects.update(lease_until=AFTER + timedelta(days=1))
    [words] = [words for words in found() if "lease" in words]
    assert words.endswith("15 by the tables, 86400 found")


def test_the_command_prints_them_and_fails(ran):
    out = StringIO()
    call_command("check_plan", stdout=out)
    assert out.getvalue() == "The plan holds.\n"
    models.Assignment.objects.filter(status=Status.SUCCEEDED).first().delete()
    with pytest.raises(SystemExit) as stopped:
        call_command("check_plan", stdout=out)
    assert stopped.value.code == 1
    assert "2 things do not hold." in out.getvalue()
