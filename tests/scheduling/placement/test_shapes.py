"""Queues with hours, ramps and quotas: what their plans are, and what changes of them do."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.core.errors import NoFreeSlot
from scheduling.dispatch import overdue, recovery, test_request
from scheduling.placement import quotas, reservations, shapes
from scheduling.placement.reservations import Start
from scheduling.queues import operations, rates
from scheduling.reports import stories
from scheduling.tasks import holds
from tests.scheduling.lists_of_ids import check_counters, check_log, places, submit, write_all
from tests.scheduling.placed import make_queue
from tests.scheduling.placement import reference
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
OFFICE = {"zone": "Europe/Berlin", "open": ["mon-fri 09:00-18:00"]}
# A Friday, at 17:20 in Berlin: lists run from 17:30 on.
FRIDAY = datetime(2026, 11, 27, 16, 20, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


def filled() -> dict[datetime, int]:
    return {
        bucket.minute_at: bucket.filled_count for bucket in models.Bucket.objects.filter(filled_count__gt=0)
    }


@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_list_on_friday_evening_continues_on_monday_morning(tmp_path, overflow):
    queue = operations.create(
        name="q", fields={"rpm": 2, "hours": OFFICE, "overflow": overflow}, by=BY, at=FRIDAY
    )

    submit(range(1, 101), tmp_path, by=BY, at=FRIDAY, queue_name="q")

    if overflow == "carry_over":
        # 30 minutes on Friday, and then from nine.
        assert len(filled()) == 50
        assert sorted(filled())[29:31] == [MONDAY - timedelta(days=2, hours=15, minutes=1), MONDAY]
    else:
        assert filled() == {FRIDAY + timedelta(minutes=10 + k): 6 + (k < 10) for k in range(15)}
    assert shapes.reason_at(queue, MONDAY - timedelta(hours=1)) == "0: closed until Monday 09:00"


def test_disperse_passes_over_windows_without_an_open_minute(tmp_path):
    operations.create(name="q", fields={"rpm": 2, "hours": OFFICE}, by=BY, at=FRIDAY)

    submit(range(1, 61), tmp_path, by=BY, at=FRIDAY + timedelta(hours=2), queue_name="q")

    assert filled() == {MONDAY + k * clock.MINUTE: 4 for k in range(15)}


def test_late_ids_and_retries_get_nothing_in_a_closed_minute(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 60, "hours": OFFICE}, by=BY, at=FRIDAY)
    task = submit(range(1, 11), tmp_path, by=BY, at=FRIDAY + timedelta(minutes=20), queue_name="q").task
    write_all(FRIDAY + timedelta(minutes=20))
    closing = FRIDAY + timedelta(hours=1)

    assert overdue.run(lambda: closing) == 10

    assert {row.minute_at for row in models.Assignment.objects.filter(task=task)} == {MONDAY}
    assert [str(each) for each in proof.check(lambda: closing)] == []
    assert next(reservations.free(queue, 1, FRIDAY + timedelta(hours=3)))[0] == keys.bucket_at(
        queue.pk, MONDAY
    )
    held = holds.hold(task, by=BY, now=lambda: closing)
    assert holds.effect_of_resume(held, at=closing).ends_at == MONDAY + clock.MINUTE
    check_counters()


def test_first_free_minutes_of_a_closed_queue_are_those_after_it_opens(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 60, "hours": OFFICE}, by=BY, at=FRIDAY)

    plan = reservations.plan(queue, 90, at=FRIDAY + timedelta(hours=1), start=Start.FIRST_FREE)

    assert (plan.first_at, plan.last_at) == (MONDAY, MONDAY + clock.MINUTE)


@pytest.mark.parametrize("is_closed", [False, True])
def test_closed_minute_starts_no_request(tmp_path, is_closed):
    queue = operations.create(name="q", fields={"rpm": 60}, by=BY, at=BEFORE)
    submit(range(1, 11), tmp_path, by=BY, at=BEFORE, queue_name="q")
    write_all(BEFORE)
    if is_closed:
        models.Bucket.objects.update(capacity=0)

    worker = SimulatedWorker(queue)
    worker.serve(0, 60)

    assert len(worker.sent) == (0 if is_closed else 10)


@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_change_of_hours_shows_its_effect_and_moves_what_no_longer_fits(tmp_path, overflow):
    queue = operations.create(name="q", fields={"rpm": 2, "overflow": overflow}, by=BY, at=FRIDAY)
    for ids in (range(1, 101), range(101, 131)):
        submit(ids, tmp_path, by=BY, at=FRIDAY, queue_name="q")
    at = FRIDAY + timedelta(minutes=16)
    later = submit(range(1, 91), tmp_path, by=BY, at=at + timedelta(minutes=45), queue_name="q").task
    write_all(at)
    before = filled()
    fields = {"hours": OFFICE}

    effect = operations.effect_of(queue, fields, at=at)
    assert filled() == before, "nothing is changed yet"
    queue = operations.update(queue, fields, by=BY, now=lambda: at)
    while rates.refit(lambda: at):
        continue

    open_until = clock.runs_at(clock.open_window_start(at)) + clock.QUARTER
    for minute, count in filled().items():
        assert minute < open_until or reference.is_open(queue.hours, minute), minute
        assert overflow == "disperse" or count <= 2
    assert effect.moved_count == models.Move.objects.filter(reason="rpm").count() > 0
    assert effect.after.ends_at == max(filled()) + clock.MINUTE
    assert sum(filled().values()) == sum(before.values())
    assert len(places(later)) == 90
    assert [str(each) for each in proof.check(lambda: at)] == []
    check_counters()
    check_log()


def test_windows_that_are_open_keep_their_hours(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 2}, by=BY, at=FRIDAY)

    operations.update(
        queue, {"hours": {"zone": "UTC", "open": ["sun 00:00-24:00"]}}, by=BY, now=lambda: FRIDAY
    )

    opened = FRIDAY - timedelta(minutes=5)
    capacities = dict(models.Bucket.objects.order_by("pk").values_list("window__starts_at", "capacity"))
    assert capacities == {opened - clock.QUARTER: 2, opened: 2}
    plan = reservations.plan(models.Queue.objects.get(), 40, at=FRIDAY)
    assert plan.first_at == FRIDAY + timedelta(minutes=10), "the open window still takes them"


def test_million_ids_within_sending_hours_are_planned_in_consecutive_runs(
    django_assert_max_num_queries, settings
):
    settings.HORIZON_DAYS = 366
    queue = make_queue(rpm=9, overflow="carry_over", hours=OFFICE)
    with django_assert_max_num_queries(4):
        plan = reservations.plan(queue, 1_000_000, at=FRIDAY)
    assert plan.ids_count == 1_000_000
    assert plan.last_at is not None
    assert timedelta(days=280) < plan.last_at - FRIDAY < timedelta(days=300)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"hours": {"zone": "Mars/Phobos", "open": ["mon 09:00-10:00"]}}, "no time zone"),
        ({"hours": {"zone": "UTC", "open": []}}, "at least one span"),
        ({"hours": {"zone": "UTC", "open": ["mon 9-10"]}}, "not a span"),
        ({"hours": {"zone": "UTC", "open": ["mon 09:00-10:00"], "shut": 1}}, "no field"),
        ({"hours": "weekdays"}, "no hours named"),
        ({"hours": ["weekdays"]}, "object"),
        ({"ramp": {"from": "2026-11-30", "start_rpm": 0, "factor": 2, "every": 1}}, "start_rpm"),
        ({"ramp": {"from": "30.11.", "start_rpm": 1, "factor": 2, "every": 1}}, "not a date"),
        (
            {"ramp": {"from": "2026-11-30", "start_rpm": 1, "factor": 2, "every": 1, "unit": "minutes"}},
            "with Z",
        ),
    ],
)
def test_invalid_hours_and_ramps_are_refused_with_a_sentence(fields, text):
    with pytest.raises(operations.BadFields, match=text):
        operations.create(name="q", fields=fields, by=BY, at=FRIDAY)


# --- Quotas ---

A_DAY = {"limit": 40, "per": "day", "zone": "Europe/Berlin"}


def by_day() -> Counter:
    days: Counter[str] = Counter()
    for minute, count in filled().items():
        days[f"{minute.astimezone(ZoneInfo('Europe/Berlin')):%a}"] += count
    return days


@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_quota_of_a_day_sends_the_rest_of_a_list_to_the_next_days(tmp_path, overflow):
    fields = {"rpm": 60, "quotas": [A_DAY], "overflow": overflow}
    operations.create(name="q", fields=fields, by=BY, at=FRIDAY)
    submit(range(1, 31), tmp_path, by=BY, at=FRIDAY, queue_name="q")

    submit(range(1, 61), tmp_path, by=BY, at=FRIDAY, queue_name="q")

    assert by_day() == {"Fri": 40, "Sat": 40, "Sun": 10}
    write_all(FRIDAY)
    assert [str(each) for each in proof.check(lambda: FRIDAY)] == []


def test_every_start_counts_towards_a_quota_and_late_ids_keep_to_it(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 60, "quotas": [A_DAY]}, by=BY, at=BEFORE)
    submit(range(1, 41), tmp_path, by=BY, at=BEFORE, queue_name="q")
    write_all(BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 20)
    sent = len(worker.sent)
    after = MINUTE + timedelta(minutes=3)

    moved = overdue.run(lambda: after)

    assert 0 < sent < 40
    assert moved == 40 - sent
    assert by_day() == {"Wed": 40}, "late IDs give back what they had booked"
    submit([999], tmp_path, by=BY, at=after, queue_name="q")
    assert by_day() == {"Wed": 40, "Thu": 1}
    ((bucket, _),) = reservations.free(queue, 1, after + timedelta(minutes=1))
    assert f"{keys.minute_of_bucket(bucket).astimezone(ZoneInfo('Europe/Berlin')):%a %H:%M}" == "Thu 00:00"


def test_late_ids_that_may_expire_give_back_what_they_had_booked(tmp_path):
    fields = {"rpm": 60, "quotas": [A_DAY], "late_policy": "expire", "late_after_seconds": 1800}
    operations.create(name="q", fields=fields, by=BY, at=BEFORE)
    task = submit(range(1, 41), tmp_path, by=BY, at=BEFORE, queue_name="q").task
    write_all(BEFORE)
    after = MINUTE + timedelta(minutes=3)
    held = holds.hold(task, by=BY, now=lambda: BEFORE)
    in_hold = holds.effect_of_resume(held, at=after).ends_at
    _, first = stories.next_minute(1, at=after)
    holds.resume(held, by=BY, now=lambda: after)

    overdue.run(lambda: after)

    assert models.Assignment.objects.with_status(models.Status.WAITING).count() == 40
    assert by_day() == {"Wed": 40}
    assert in_hold == max(filled()) + clock.MINUTE
    assert first == clock.next_unsealed_minute(after)


@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_quota_that_is_set_later_shows_its_effect_and_moves_what_is_past_it(tmp_path, overflow):
    queue = operations.create(name="q", fields={"rpm": 9, "overflow": overflow}, by=BY, at=FRIDAY)
    submit(range(1, 101), tmp_path, by=BY, at=FRIDAY, queue_name="q")
    write_all(FRIDAY)

    effect = operations.effect_of(queue, {"quotas": [A_DAY]}, at=FRIDAY)
    assert by_day() == {"Fri": 100}
    operations.update(queue, {"quotas": [A_DAY]}, by=BY, now=lambda: FRIDAY)
    assert rates.wake(at=FRIDAY)
    rates.refit(lambda: FRIDAY)

    assert by_day() == {"Fri": 40, "Sat": 40, "Sun": 20}
    assert effect.moved_count == 60
    assert effect.after.ends_at == max(filled()) + clock.MINUTE
    assert not rates.wake(at=FRIDAY)
    assert [str(each) for each in proof.check(lambda: FRIDAY)] == []
    check_counters()
    check_log()


def test_first_free_places_keep_to_a_quota(tmp_path):
    fields = {"rpm": 60, "quotas": [A_DAY, {"limit": 10, "per": "hour"}]}
    queue = operations.create(name="q", fields=fields, by=BY, at=FRIDAY)

    plan = reservations.plan(queue, 25, at=FRIDAY, start=Start.FIRST_FREE)

    hours = Counter(
        clock.runs_at(window.starts_at).hour for window in plan.windows for _ in range(window.ids_count)
    )
    assert hours == {16: 10, 17: 10, 18: 5}


@pytest.mark.parametrize(
    "quotas",
    [
        {"limit": 1, "per": "day"},
        [{"limit": 0, "per": "day"}],
        [{"limit": 1, "per": "week"}],
        [{"limit": 1, "per": "day", "zone": "Nowhere"}],
        [{"limit": 1, "per": "day", "of": "x"}],
        [A_DAY] * 6,
    ],
)
def test_invalid_quotas_are_refused(quotas):
    with pytest.raises(operations.BadFields, match="quotas"):
        operations.create(name="q", fields={"quotas": quotas}, by=BY, at=FRIDAY)


def test_rpm_changed_soon_after_the_hours_leaves_the_open_window_its_hours(tmp_path):
    sundays = {"zone": "UTC", "open": ["sun 00:00-24:00"]}
    queue = operations.create(
        name="q", fields={"rpm": 2, "hours": {"zone": "UTC", "open": ["fri 16:37-17:00"]}}, by=BY, at=FRIDAY
    )
    submit(range(1, 11), tmp_path, by=BY, at=FRIDAY, queue_name="q")
    operations.update(queue, {"hours": sundays}, by=BY, now=lambda: FRIDAY)
    opened = clock.open_window_start(FRIDAY)
    buckets = models.Bucket.objects.filter(window__starts_at=opened).order_by("pk")
    assert [bucket.capacity for bucket in buckets] == [0] * 7 + [2] * 8

    effect = operations.effect_of(models.Queue.objects.get(), {"rpm": 5}, at=FRIDAY)
    operations.update(models.Queue.objects.get(), {"rpm": 5}, by=BY, now=lambda: FRIDAY)
    assert [bucket.capacity for bucket in buckets.all()] == [0] * 7 + [5] * 8
    assert (effect.moved_count, effect.after.over_count) == (0, 0)
    # Both at once: the window keeps its hours, and the rpm acts on it.
    changes = {"rpm": 3, "hours": None}
    operations.update(models.Queue.objects.get(), changes, by=BY, now=lambda: FRIDAY)
    assert [bucket.capacity for bucket in buckets.all()] == [0] * 7 + [3] * 8
    later = models.Bucket.objects.filter(window__starts_at__gt=opened)
    assert {bucket.capacity for bucket in later} <= {3}


def test_possible_repeats_and_test_requests_count_towards_a_quota(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 60, "quotas": [A_DAY]}, by=BY, at=BEFORE)
    submit([1], tmp_path, by=BY, at=BEFORE, queue_name="q")
    models.Bucket.objects.filter(pk=keys.bucket_at(queue.pk, MINUTE)).update(repeats_count=3, tests_count=4)

    submit(range(2, 101), tmp_path, by=BY, at=BEFORE, queue_name="q")

    assert by_day() == {"Wed": 33, "Thu": 40, "Fri": 27}
    ((_, used),) = quotas.used(shapes.of(queue), [queue.pk], MINUTE)
    assert used == 7


def test_possible_repeat_past_a_quota_goes_to_the_next_period(tmp_path):
    fields = {"rpm": 60, "quotas": [A_DAY], "handler": "webhook", "webhook_url": "https://hook.test/"}
    queue = operations.create(name="q", fields=fields, by=BY, at=BEFORE)
    submit(range(1, 41), tmp_path, by=BY, at=BEFORE, queue_name="q")
    write_all(BEFORE)
    dead, alive = SimulatedWorker(queue, 1), SimulatedWorker(queue, 2)
    dead.serve(0, 10)
    dead.tick(10.1)
    recovery.recover(lambda: MINUTE + timedelta(seconds=26))
    repeats = models.Attempt.objects.filter(unknown=True).count()

    alive.serve(26.1, 60)
    after = MINUTE + timedelta(minutes=3)
    overdue.run(lambda: after)

    assert repeats > 0
    assert len(dead.sent) + len(alive.sent) == 40 - repeats
    assert by_day() == {"Wed": 40 - repeats, "Thu": repeats}
    assert [str(each) for each in proof.check(lambda: after)] == []


def test_test_request_is_not_sent_once_the_quota_is_booked(tmp_path):
    now = datetime.now(UTC)
    queue = operations.create(
        name="q", fields={"rpm": 60, "quotas": [{"limit": 2, "per": "month"}]}, by=BY, at=now
    )
    at = lambda: datetime.now(UTC)  # noqa: E731
    assert test_request.send_one(queue, by=BY, now=at, sleep=lambda seconds: None).outcome
    assert sum(models.Bucket.objects.values_list("tests_count", flat=True)) >= 1
    models.Bucket.objects.filter(tests_count__gt=0).update(tests_count=2)
    with pytest.raises(NoFreeSlot):
        test_request.send_one(queue, by=BY, now=at, sleep=lambda seconds: None)


def test_plan_check_finds_a_period_past_its_quota(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 60, "quotas": [A_DAY]}, by=BY, at=BEFORE)
    submit(range(1, 31), tmp_path, by=BY, at=BEFORE, queue_name="q")
    write_all(BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    after = MINUTE + timedelta(minutes=3)
    assert [str(each) for each in proof.check(lambda: after)] == []

    models.Bucket.objects.filter(started_count__gt=0).update(repeats_count=11)

    (differences,) = (
        each for each in proof.check(lambda: after) if each.check == "no period is past its quota"
    )
    assert (differences.said, differences.found) == (40, 41)
    # What had started before the quota was set stays started.
    lower = [{**A_DAY, "limit": 20}]
    operations.update(queue, {"quotas": lower}, by=BY, now=lambda: after)
    assert [each for each in proof.check(lambda: after) if each.check == "no period is past its quota"] == []


def test_plan_check_finds_what_started_during_a_hold_that_is_over(tmp_path):
    queue = operations.create(name="q", fields={"rpm": 60}, by=BY, at=BEFORE)
    task = submit(range(1, 31), tmp_path, by=BY, at=BEFORE, queue_name="q").task
    write_all(BEFORE)
    holds.hold(task, by=BY, now=lambda: BEFORE)
    holds.resume(task, by=BY, now=lambda: MINUTE + timedelta(seconds=20))
    SimulatedWorker(queue).serve(21, 60)
    after = MINUTE + timedelta(minutes=3)
    name = "nothing of a task on hold starts"
    assert [each for each in proof.check(lambda: after) if each.check == name] == []

    sent = models.Assignment.objects.filter(task=task, status=models.Status.SUCCEEDED).first()
    models.Assignment.objects.filter(pk=sent.pk).update(started_after_ms=5_000)

    (differences,) = (each for each in proof.check(lambda: after) if each.check == name)
    assert (differences.said, differences.found) == (0, 1)


def test_free_place_behind_half_a_year_of_closed_minutes_takes_few_queries(django_assert_max_num_queries):
    ramp = {"from": "2027-06-01", "start_rpm": 5, "factor": 2, "every": 1, "unit": "days"}
    queue = make_queue(rpm=9, overflow="carry_over", ramp=ramp)

    with django_assert_max_num_queries(6):
        places = list(reservations.free(queue, 7, FRIDAY))

    begin = keys.bucket_at(queue.pk, datetime(2027, 6, 1, tzinfo=UTC))
    assert places == [(begin, 5), (begin + 1, 2)]
