"""Queues with hours and ramps, compared with a reference that places one ID at a time, by the documentation alone."""

import math
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.dispatch import overdue
from scheduling.placement import reservations, shapes
from scheduling.placement.reservations import Start
from scheduling.queues import operations, rates
from scheduling.reports import stories
from scheduling.tasks import holds
from tests.scheduling.lists_of_ids import check_counters, check_log, places, submit, write_all
from tests.scheduling.placed import make_queue
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# The days before clocks change, in three zones; of one they change by half an hour.
CHANGES = [
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
]
OFFICE = {"zone": "Europe/Berlin", "open": ["mon-fri 09:00-18:00"]}
# A Friday, at 17:20 in Berlin: lists run from 17:30 on.
FRIDAY = datetime(2026, 11, 27, 16, 20, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


class Reference:
    """The rules as the documentation has them: one ID at a time, one minute at a time."""

    def __init__(self, queue: models.Queue) -> None:
        self.queue = queue
        self.fill: Counter[datetime] = Counter()
        self.booked: Counter[tuple] = Counter()
        self.is_open, self.capacity, self.periods = map(cache, (self._is_open, self._capacity, self._periods))

    def _is_open(self, minute: datetime) -> bool:
        hours = self.queue.hours
        if not hours:
            return True
        local = minute.astimezone(ZoneInfo(hours["zone"]))
        if local.date().isoformat() in hours.get("closed", ()):
            return False
        now, yesterday = f"{local:%H:%M}", local.date() - timedelta(days=1)
        for span in hours["open"]:
            days, times = span.split(" ")
            begin, end = times.split("-")
            first, _, last = days.partition("-")
            a, b = DAYS.index(first), DAYS.index(last or first)
            meant = {(a + n) % 7 for n in range((b - a) % 7 + 1)}
            crosses = end <= begin
            if local.weekday() in meant and begin <= now and (crosses or now < end):
                return True
            if crosses and yesterday.weekday() in meant and now < end:
                return True
        return False

    def _capacity(self, minute: datetime) -> int:
        queue = self.queue
        if not self.is_open(minute):
            return 0
        if not queue.ramp:
            return queue.rpm
        ramp = queue.ramp
        if ramp["unit"] == "minutes":
            steps = math.floor(
                (minute - datetime.fromisoformat(ramp["from"])) / timedelta(minutes=ramp["every"])
            )
        else:
            zone = ZoneInfo(queue.hours["zone"]) if queue.hours else UTC
            since = minute.astimezone(zone).date() - date.fromisoformat(ramp["from"])
            steps = since.days // ramp["every"]
        return 0 if steps < 0 else min(queue.rpm, math.floor(ramp["start_rpm"] * ramp["factor"] ** steps))

    def for_lists(self, minute: datetime) -> int:
        return max(0, self.capacity(minute) - self.queue.headroom)

    def _periods(self, minute: datetime) -> list[tuple]:
        """The period of each quota in which a minute lies; the same hour of two offsets is two hours."""
        found = []
        for number, quota in enumerate(self.queue.quotas):
            local = minute.astimezone(ZoneInfo(quota.get("zone", "UTC")))
            form = {"hour": "%Y-%m-%d %H %z", "day": "%Y-%m-%d", "month": "%Y-%m"}[quota["per"]]
            found.append((number, local.strftime(form)))
        return found

    def has_quota(self, minute: datetime) -> bool:
        return all(self.booked[one] < self.queue.quotas[one[0]]["limit"] for one in self.periods(minute))

    def place(self, count: int, window: datetime) -> Counter:
        """Place a list that is accepted into the window that runs from `window` on."""
        added: Counter[datetime] = Counter()
        for _ in range(count):
            if self.queue.overflow == models.Overflow.DISPERSE:
                window = self._window(window)
            minute = self._minute(window)
            if self.queue.overflow == models.Overflow.CARRY_OVER:
                # What is full, or past its quota, stays so for the rest of the list.
                window = minute
            self.fill[minute] += 1
            self.booked.update(self.periods(minute))
            added[minute] += 1
        return added

    def _window(self, window: datetime) -> datetime:
        """The window itself while it may take an ID, otherwise the next one that may."""
        while not self.has_quota(window) or not any(
            self.for_lists(window + k * clock.MINUTE) for k in range(15)
        ):
            window += clock.QUARTER
        return window

    def _minute(self, window: datetime) -> datetime:
        if self.queue.overflow == models.Overflow.CARRY_OVER:
            minute = window
            while self.fill[minute] >= self.for_lists(minute) or not self.has_quota(minute):
                minute += clock.MINUTE
            return minute
        minutes = [window + k * clock.MINUTE for k in range(15)]
        opened = [minute for minute in minutes if self.for_lists(minute)]
        for minute in opened:
            if self.fill[minute] < self.for_lists(minute):
                return minute
        return min(opened, key=lambda minute: (self.fill[minute], minute))


def invented(dice: random.Random) -> tuple[dict, datetime]:
    """A queue's fields, and a time near a change of clocks at which lists are accepted."""
    zone, day = dice.choice(CHANGES)
    at = datetime.fromisoformat(f"{day}T{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:07+00:00")

    def time() -> str:
        return f"{dice.randint(0, 23):02}:{dice.choice([0, 15, 17, 30, 59]):02}"

    def span() -> str:
        days = dice.choice(DAYS) if dice.random() < 0.3 else f"{dice.choice(DAYS)}-{dice.choice(DAYS)}"
        begin, end = time(), time()
        return f"{days} {begin}-{end if end != begin else '24:00'}"

    hours = {"zone": zone, "open": [span() for _ in range(dice.randint(1, 3))]}
    if dice.random() < 0.3:
        hours["closed"] = [f"{at + timedelta(days=1):%Y-%m-%d}"]
    ramp = {
        "from": f"{at + timedelta(days=dice.randint(-3, 1)):%Y-%m-%d}",
        "start_rpm": dice.randint(1, 5),
        "factor": dice.choice([1.5, 2, 1.1]),
        "every": dice.randint(1, 2),
        "unit": "days",
    }
    if dice.random() < 0.3:
        ramp |= {"unit": "minutes", "every": dice.randint(5, 300), "from": f"{at:%Y-%m-%dT%H:%M}:00Z"}
    fields = {
        "rpm": dice.randint(2, 9),
        "overflow": dice.choice(["carry_over", "disperse"]),
        "hours": hours if dice.random() < 0.8 else None,
        "ramp": ramp if dice.random() < 0.5 else None,
    }
    quotas = [
        {"limit": dice.randint(20, 60), "per": dice.choice(["hour", "day"]), "zone": dice.choice(CHANGES)[0]}
        for _ in range(dice.choice([0, 0, 1, 2]))
    ]
    return {**fields, "headroom": dice.choice([0, 0, 1]), "quotas": quotas}, at


@pytest.mark.parametrize("seed", range(24))
def test_lists_are_placed_as_the_reference_places_them(seed, tmp_path, settings):
    settings.HORIZON_DAYS = 366
    dice = random.Random(seed)
    fields, at = invented(dice)
    queue = operations.create(name="q", fields=fields, by=BY, at=at)
    reference = Reference(queue)
    for number in range(3):
        count = dice.randint(1, 150)
        plan = reservations.plan(queue, count, at=at)
        window = clock.runs_at(clock.first_window(at, ids=count, unwritten=(), rate=10**6))

        expected = reference.place(count, window)

        assert {
            keys.minute_of_bucket(keys.bucket_id(w.window_id, k)): n
            for w in plan.windows
            for k, n in enumerate(w.added)
            if n
        } == expected, (number, fields)
        task = submit(range(1, count + 1), tmp_path, by=BY, at=at, queue_name="q").task
        assert task.ids_count == count
        write_all(at)
    assert {
        bucket.minute_at: bucket.filled_count for bucket in models.Bucket.objects.filter(filled_count__gt=0)
    } == {minute: count for minute, count in reference.fill.items() if count}
    for bucket in models.Bucket.objects.all():
        assert bucket.capacity == reference.capacity(bucket.minute_at), bucket.minute_at
    assert [str(each) for each in proof.check(lambda: at)] == []
    check_log()


def filled() -> dict[datetime, int]:
    return {
        bucket.minute_at: bucket.filled_count for bucket in models.Bucket.objects.filter(filled_count__gt=0)
    }


@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_list_on_friday_evening_goes_on_on_monday_morning(tmp_path, overflow):
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
    wanted = {"hours": OFFICE}

    effect = operations.effect_of(queue, wanted, at=at)
    assert filled() == before, "nothing is changed yet"
    queue = operations.update(queue, wanted, by=BY, now=lambda: at)
    while rates.refit(lambda: at):
        continue

    reference = Reference(queue)
    open_until = clock.runs_at(clock.open_window_start(at)) + clock.QUARTER
    for minute, count in filled().items():
        assert minute < open_until or reference.is_open(minute), minute
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
    ("fields", "said"),
    [
        ({"hours": {"zone": "Mars/Phobos", "open": ["mon 09:00-10:00"]}}, "no time zone"),
        ({"hours": {"zone": "UTC", "open": []}}, "at least one span"),
        ({"hours": {"zone": "UTC", "open": ["mon 9-10"]}}, "not a span"),
        ({"hours": {"zone": "UTC", "open": ["mon 09:00-10:00"], "shut": 1}}, "no field"),
        ({"hours": "weekdays"}, "object"),
        ({"ramp": {"from": "2026-11-30", "start_rpm": 0, "factor": 2, "every": 1}}, "start_rpm"),
        ({"ramp": {"from": "30.11.", "start_rpm": 1, "factor": 2, "every": 1}}, "not a date"),
        (
            {"ramp": {"from": "2026-11-30", "start_rpm": 1, "factor": 2, "every": 1, "unit": "minutes"}},
            "with Z",
        ),
    ],
)
def test_invalid_hours_and_ramps_are_refused_with_a_sentence(fields, said):
    with pytest.raises(operations.BadFields, match=said):
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
def test_quotas_that_mean_nothing_are_refused(quotas):
    with pytest.raises(operations.BadFields, match="quotas"):
        operations.create(name="q", fields={"quotas": quotas}, by=BY, at=FRIDAY)
