"""Lists that start as soon as there is room: the first free places, never past rpm."""

from datetime import UTC, datetime, timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.core import clock, keys
from scheduling.core.errors import PastHorizon
from scheduling.intake import acceptance
from scheduling.placement import reservations, rules
from scheduling.proof import minutes
from tests.scheduling.lists_of_ids import check_counters, places, submit, write_all
from tests.scheduling.placed import make_queue, minutes_of, place

# In the middle of a minute of the window that runs; the next two minutes that can be written to are 12:21, 12:22.
AT = datetime(2031, 3, 5, 12, 20, 30, tzinfo=UTC)
NEXT = datetime(2031, 3, 5, 12, 21, tzinfo=UTC)
BEFORE = datetime(2031, 3, 5, 11, 50, tzinfo=UTC)
RUNNING = datetime(2031, 3, 5, 12, 0, tzinfo=UTC)
START = reservations.Start.FIRST_FREE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by():
    return Actor.command_line()


def check_all() -> None:
    """The counters are those of the rows, and every check of the plan holds."""
    write_all(AT)
    check_counters()
    differences = minutes.piece((0, 0), AT).differences
    # `place` puts IDs where a test wants them, and not where the rules would.
    assert not [difference for difference in differences if difference.check != "places follow the rules"]


def test_first_free_takes_places_in_the_running_then_open_then_later_windows(by, tmp_path):
    queue = make_queue("default", rpm=2, overflow=models.Overflow.DISPERSE)
    place(queue, {NEXT: [901], NEXT + clock.MINUTE: [902, 903]}, at=BEFORE)
    running, open_ = clock.running_window_start(AT), clock.open_window_start(AT)
    accepted = submit(range(1, 50), tmp_path, by=by, at=AT, start=START)
    result = minutes_of(accepted.plan)
    # 12:21 has one place, 12:22 none; from 12:23 on two each.
    assert result[NEXT] == 1
    assert NEXT + clock.MINUTE not in result
    assert all(count == 2 for minute, count in result.items() if minute > NEXT)
    assert sum(result.values()) == 49
    assert [keys.starts_at_of_window(window.window_id) for window in accepted.plan.windows] == [
        running, open_, open_ + clock.QUARTER,
    ]  # fmt: skip
    check_all()
    # In the order of the list, minute after minute.
    placed = places(accepted.task)
    in_order = [keys.minute_of_bucket(keys.bucket_id(*placed[user])) for user in range(1, 50)]
    assert in_order == sorted(in_order)
    assert in_order[0] == NEXT


@pytest.mark.parametrize("overflow", models.Overflow.values)
@pytest.mark.parametrize("ids_count", [1, 100, 2_000])
def test_first_free_never_goes_past_rpm(by, tmp_path, overflow, ids_count):
    queue = make_queue("default", rpm=30, overflow=overflow)
    # A window that disperse has filled past rpm.
    place(queue, {clock.runs_at(clock.open_window_start(AT)) + clock.MINUTE: range(5_000, 5_100)}, at=BEFORE)
    accepted = submit(range(1, ids_count + 1), tmp_path, by=by, at=AT, start=START)
    for window in accepted.plan.windows:
        for before, added in zip(window.before, window.added, strict=True):
            assert added == 0 or before + added <= 30
    check_all()


def test_first_free_is_what_a_dry_run_says(by, tmp_path):
    make_queue("default", rpm=2)
    submission = acceptance.Submission("a list", start=START)
    text = acceptance.preview(submission, 40, at=AT)
    assert text == submit(range(1, 41), tmp_path, by=by, at=AT, start=START).plan
    assert text.first_at == NEXT


def test_first_free_skips_sealed_minutes(by):
    queue = make_queue("default", rpm=2)
    for seconds, minute in ((0, 21), (56, 21), (57.5, 22), (59.9, 22)):
        at = AT.replace(second=0) + timedelta(seconds=seconds)
        assert reservations.plan(queue, 1, at=at, start=START).first_at == NEXT.replace(minute=minute), at
    # One that another host has sealed, whatever the clock says.
    place(queue, {NEXT: [1]}, at=BEFORE)
    models.Bucket.objects.filter(pk=keys.bucket_at(queue.pk, NEXT)).update(sealed_at=AT)
    assert reservations.plan(queue, 1, at=AT, start=START).first_at == NEXT + clock.MINUTE


def test_first_free_leaves_time_to_write_a_long_list(by, settings):
    settings.WRITE_RATE = 1_000
    queue = make_queue("default", rpm=100_000)
    # 90 s to write: 12:22 is sealed before that.
    assert reservations.plan(queue, 90_000, at=AT, start=START).first_at == NEXT + 2 * clock.MINUTE


def test_first_free_keeps_to_headroom_brake_and_the_running_windows_own_rpm(by):
    queue = make_queue("default", rpm=10, headroom=4)
    assert minutes_of(reservations.plan(queue, 7, at=AT, start=START)) == {NEXT: 6, NEXT + clock.MINUTE: 1}
    queue.brake_per_minute = 2
    assert minutes_of(reservations.plan(queue, 3, at=AT, start=START)) == {NEXT: 2, NEXT + clock.MINUTE: 1}
    queue.brake_per_minute, queue.headroom = 0, 0
    place(queue, {NEXT: [1]}, at=BEFORE)
    models.Bucket.objects.update(capacity=3)
    assert minutes_of(reservations.plan(queue, 3, at=AT, start=START)) == {NEXT: 2, NEXT + clock.MINUTE: 1}


def test_first_free_with_not_before_begins_no_earlier(by):
    queue = make_queue("default", rpm=10)
    for not_before, first in (
        (NEXT - timedelta(hours=1), NEXT),
        (NEXT + timedelta(minutes=2), NEXT + timedelta(minutes=2)),
        (NEXT + timedelta(minutes=2, seconds=1), NEXT + timedelta(minutes=3)),
        (NEXT + timedelta(hours=5), NEXT + timedelta(hours=5)),
    ):
        plan = reservations.plan(queue, 1, at=AT, not_before=not_before, start=START)
        assert plan.first_at == first, not_before


def test_first_free_ends_at_the_horizon_under_either_policy_and_never_at_max_peak(by, settings):
    settings.HORIZON_DAYS = 1
    queue = make_queue("default", rpm=1, max_peak=1)
    place(queue, {NEXT + clock.MINUTE: range(1, 10)}, at=BEFORE)
    reservations.check(queue, reservations.plan(queue, 10, at=AT, start=START), at=AT)
    with pytest.raises(PastHorizon):
        reservations.check(queue, reservations.plan(queue, 1_500, at=AT, start=START), at=AT)


def test_first_free_arms_the_minutes_of_the_window_that_runs(by, tmp_path):
    make_queue("default", rpm=2)
    submit(range(1, 4), tmp_path, by=by, at=AT, start=START)
    numbers = set(models.Minute.objects.values_list("pk", flat=True))
    assert clock.minute_number(NEXT) in numbers
    assert clock.minute_number(NEXT + clock.MINUTE) in numbers


def test_first_free_long_list_is_written_by_ranges_of_ids_too(by, tmp_path, monkeypatch):
    monkeypatch.setattr(acceptance, "SEGMENT_IDS", 1_000)
    monkeypatch.setattr(acceptance, "SHORT", 100)
    queue = make_queue("default", rpm=100)
    accepted = submit(range(1, 2_501), tmp_path, by=by, at=AT, start=START)
    assert models.Segment.objects.filter(first_position=None).exists()
    check_all()
    first = keys.bucket_at(queue.pk, NEXT)
    in_first = {user for user, place in places(accepted.task).items() if keys.bucket_id(*place) == first}
    assert in_first == set(range(1, 101))


def test_first_free_place_explains_itself(by, tmp_path):
    queue = make_queue("default", rpm=2)
    task = submit(range(1, 4), tmp_path, by=by, at=AT, start=START).task
    given_place = rules.of_places(3, {task.pk: keys.bucket_at(queue.pk, NEXT + clock.MINUTE)})[task.pk]
    assert given_place.sentence == "the first free place when the list was accepted (rule 1)"
