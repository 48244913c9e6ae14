"""The capacity of each minute: hours by the wall clock, ramps, quotas, and how a list is planned over them."""

import re
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import settings as properties
from hypothesis import strategies as st

from scheduling.core import allocator, capacity, clock
from scheduling.core.capacity import Hours, Quota, Ramp, Shape

BERLIN = "Europe/Berlin"
# Where clocks change by an hour, by half an hour, and at midnight.
ZONES = (BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu", "UTC")
MINUTE, QUARTER = clock.MINUTE, clock.QUARTER


def hours(*spans, zone=BERLIN, closed=()):
    return Hours.read({"zone": zone, "open": list(spans), "closed": list(closed)})


def open_minutes(table, day: date) -> int:
    return sum(sum(mask) for mask in table.masks(day))


def is_open_word_for_word(table: Hours, at: datetime) -> bool:
    """A span belongs to the day on which it begins; a closed date closes all its local minutes."""
    local = at.astimezone(table.zone)
    minute = local.hour * 60 + local.minute
    if local.date() in table.closed:
        return False
    for weekday, begin, end in table.spans:
        if weekday == local.weekday() and begin <= minute < end:
            return True
        if weekday == (local.weekday() - 1) % 7 and begin <= minute + 1440 < end:
            return True
    return False


# --- Hours ---


def test_hours_are_half_open_and_weekly():
    table = hours("mon-fri 09:00-18:00")
    assert open_minutes(table, date(2026, 11, 30)) == 9 * 60
    assert open_minutes(table, date(2026, 11, 29)) == 0
    for at, is_open in (("07:59", False), ("08:00", True), ("16:59", True), ("17:00", False)):
        assert table.is_open(datetime.fromisoformat(f"2026-11-30T{at}:00+00:00")) == is_open


def test_hours_across_midnight_belong_to_the_day_on_which_they_begin():
    table = hours("fri 22:00-02:00", closed=["2026-12-05"])
    friday, saturday = date(2026, 12, 4), date(2026, 12, 5)
    assert open_minutes(table, friday) == 120
    assert open_minutes(table, saturday) == 0, "a closed date closes all its minutes"
    assert open_minutes(table, date(2026, 11, 28)) == 120, "what is left of Friday's span"


def test_closed_date_does_not_close_what_it_spills_into_the_next_day():
    # The minutes of Saturday are Saturday's, whoever's span they are in.
    table = hours("fri 22:00-02:00", closed=["2026-12-04"])
    assert open_minutes(table, date(2026, 12, 4)) == 0
    assert open_minutes(table, date(2026, 12, 5)) == 120


@pytest.mark.parametrize(
    ("day", "zone", "minutes"),
    [
        ("2027-03-28", BERLIN, 23 * 60),
        ("2026-10-25", BERLIN, 25 * 60),
        ("2026-03-08", "America/New_York", 23 * 60),
        ("2026-11-01", "America/New_York", 25 * 60),
        ("2026-10-04", "Australia/Lord_Howe", 23 * 60 + 30),
        ("2026-04-05", "Australia/Lord_Howe", 24 * 60 + 30),
        ("2026-11-30", "Asia/Kathmandu", 24 * 60),
    ],
)
def test_days_on_which_clocks_change_have_23_and_25_hours(day, zone, minutes):
    table = hours("mon-sun 00:00-24:00", zone=zone)
    assert open_minutes(table, date.fromisoformat(day)) == minutes


def test_hour_that_comes_twice_is_open_twice_and_the_skipped_one_never():
    night = hours("mon-sun 02:00-03:00")
    assert open_minutes(night, date(2026, 10, 25)) == 120
    assert open_minutes(night, date(2027, 3, 28)) == 0
    assert open_minutes(night, date(2026, 10, 26)) == 60


spans = st.builds(
    lambda weekday, begin, length: (
        f"{capacity.DAYS[weekday]} {begin // 60:02}:{begin % 60:02}"
        f"-{(begin + length) % 1440 // 60:02}:{(begin + length) % 60:02}"
    ),
    st.integers(0, 6),
    st.integers(0, 1439),
    st.integers(1, 1439),
)
days = st.dates(date(2026, 1, 1), date(2030, 12, 31)) | st.sampled_from(
    [
        date(2026, 10, 25),
        date(2026, 10, 24),
        date(2027, 3, 28),
        date(2026, 11, 1),
        date(2026, 3, 8),
        date(2026, 4, 5),
    ]
)


@given(st.lists(spans, min_size=1, max_size=4), st.sampled_from(ZONES), days, st.booleans())
@properties(max_examples=60)
def test_masks_are_what_the_wall_clock_says_minute_by_minute(texts, zone, day, is_closed):
    table = hours(*texts, zone=zone, closed=[day.isoformat()] if is_closed else [])
    begin = datetime(day.year, day.month, day.day, tzinfo=table.zone).astimezone(UTC)
    minutes = [is_open for mask in table.masks(day) for is_open in mask]
    expected = [is_open_word_for_word(table, begin + k * MINUTE) for k in range(len(minutes))]
    assert [bool(minute) for minute in minutes] == expected
    assert table.is_open(begin) == expected[0]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (
            {"zone": "Europe/Nowhere", "open": ["mon 09:00-10:00"]},
            "There is no time zone named 'Europe/Nowhere'.",
        ),
        *[
            ({"zone": zone, "open": ["mon 09:00-10:00"]}, "There is no time zone")
            for zone in ("localtime", "posixrules", "Factory", "right/UTC", "posix/UTC")
        ],
        ({"zone": "../../etc/passwd", "open": ["mon 09:00-10:00"]}, "There is no time zone"),
        ({"open": []}, "Hours need at least one span"),
        ({"open": "mon 09:00-10:00"}, "Hours need at least one span"),
        ({"open": ["monday 09:00-10:00"]}, "is not a span"),
        ({"open": ["mon 9-10"]}, "is not a span"),
        ({"open": [7]}, "7 is not a span"),
        ({"open": ["foo 09:00-10:00"]}, "must begin with a weekday"),
        ({"open": ["mon 09:60-10:00"]}, "has an invalid time"),
        ({"open": ["mon 09:00-25:00"]}, "has an invalid time"),
        ({"open": ["mon 09:00-09:00"]}, "is empty"),
        ({"open": ["mon 09:00-10:00"], "closed": ["25.12.2026"]}, "'25.12.2026' is not a date"),
        ({"open": ["mon 09:00-10:00"], "closed": None}, "must be a list of dates"),
        ({"open": ["mon 09:00-10:00"], "closed": "2026-12-25"}, "must be a list of dates"),
        ({}, "Hours need at least one span"),
        ({"open": ["mon 09:00-10:00"], "opened": 1}, "Hours have no field 'opened'."),
    ],
)
def test_hours_that_cannot_be_read_are_refused_with_a_sentence(form, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        Hours.read(form)


# --- Ramps ---

DAILY = {"from": "2026-11-30", "start_rpm": 50, "factor": 1.5, "every": 1, "unit": "days"}


def test_ramp_by_days_multiplies_each_local_day_up_to_rpm():
    ramp = Ramp.read(DAILY, capacity.zone(BERLIN))
    at = datetime(2026, 11, 29, 23, 0, tzinfo=UTC)
    assert ramp.rpm_at(at - MINUTE, 1_000) == 0
    assert [ramp.rpm_at(at + n * timedelta(days=1), 300) for n in range(6)] == [50, 75, 112, 168, 253, 300]
    assert ramp.steps_to(300) == 5
    assert ramp.rpm_at(at + timedelta(days=10_000), 300) == 300


def test_ramp_is_worked_out_as_on_paper():
    ramp = Ramp.read({**DAILY, "start_rpm": 100, "factor": 1.15})
    assert [ramp.rpm_of(step, 1_000) for step in range(3)] == [100, 115, 132]
    assert ramp.rpm_of(10**8, 1_000) == 1_000


def test_ramp_by_minutes_begins_at_its_time():
    ramp = Ramp.read(
        {"from": "2026-11-30T09:07:00Z", "start_rpm": 10, "factor": 2, "every": 5, "unit": "minutes"}
    )
    at = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
    shape = Shape(rpm=60, ramp=ramp)
    assert shape.capacities(at) == (0,) * 7 + (10,) * 5 + (20,) * 3
    assert shape.capacities(at + QUARTER) == (20,) * 2 + (40,) * 5 + (60,) * 8


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "weeks"}, {"start_rpm": 0}, {"start_rpm": True}, {"factor": 1}, {"factor": "2"},
        {"factor": float("nan")},
        {"every": 0}, {"every": 1.5}, {"from": "tomorrow"}, {"from": "2026-11-30T09:00:00", "unit": "minutes"},
        {"from": None, "unit": "minutes"}, {"from": "0001-01-01"}, {"from": "9999-12-31"}, {"until": 7},
        {"from": "0001-01-01T00:00:00+14:00", "unit": "minutes"},
    ],
)  # fmt: skip
def test_ramp_that_cannot_be_read_is_refused(change):
    with pytest.raises(ValueError, match=r"ramp|date"):
        Ramp.read({**DAILY, **change})


def test_ramp_with_a_small_factor_counts_its_steps_at_once():
    ramp = Ramp.read({**DAILY, "from": "2026-11-01", "start_rpm": 1, "factor": 1.0000000001})
    count = ramp.steps_to(5)
    assert ramp.rpm_of(count, 5) == 5
    assert ramp.rpm_of(count - 1, 5) == 4
    assert "ramp, day" in Shape(rpm=5, ramp=ramp).reason_at(datetime(2026, 11, 30, tzinfo=UTC))


# --- Quotas ---


@pytest.mark.parametrize(
    ("per", "at", "begin", "hours_long"),
    [
        ("day", "2026-10-25T12:00", "2026-10-24T22:00", 25),
        ("day", "2027-03-28T12:00", "2027-03-27T23:00", 23),
        ("day", "2026-11-30T22:59", "2026-11-29T23:00", 24),
        ("day", "2026-11-30T23:00", "2026-11-30T23:00", 24),
        ("month", "2026-10-25T12:00", "2026-09-30T22:00", 31 * 24 + 1),
        ("month", "2026-12-31T22:59", "2026-11-30T23:00", 31 * 24),
        ("hour", "2026-10-25T00:30", "2026-10-25T00:00", 1),
        ("hour", "2026-10-25T01:30", "2026-10-25T01:00", 1),
    ],
)
def test_periods_of_a_quota_are_those_of_its_zone(per, at, begin, hours_long):
    quota = Quota.read({"limit": 10, "per": per, "zone": BERLIN})
    result = quota.period_of(datetime.fromisoformat(f"{at}:00+00:00"))
    assert result[0] == datetime.fromisoformat(f"{begin}:00+00:00")
    assert result[1] - result[0] == timedelta(hours=hours_long)


def test_hours_of_a_zone_with_minutes_begin_at_its_full_hours():
    quota = Quota.read({"limit": 10, "per": "hour", "zone": "Asia/Kathmandu"})
    begin, end = quota.period_of(datetime(2026, 11, 30, 12, 0, tzinfo=UTC))
    assert begin == datetime(2026, 11, 30, 11, 15, tzinfo=UTC)
    assert end == begin + timedelta(hours=1)


@pytest.mark.parametrize(
    "form",
    [
        {"limit": 0, "per": "day"}, {"limit": 5, "per": "week"}, {"limit": 5.0, "per": "day"},
        {"limit": 10**20, "per": "day"},
    ],
)  # fmt: skip
def test_quota_that_cannot_be_read_is_refused(form):
    with pytest.raises(ValueError, match="quota"):
        Quota.read(form)


# --- A queue's plan ---

shapes = st.builds(
    Shape,
    rpm=st.integers(1, 9),
    hours=st.none()
    | st.builds(
        lambda texts, zone: hours(*texts, zone=zone),
        st.lists(spans, min_size=1, max_size=3),
        st.sampled_from(ZONES),
    ),
    ramp=st.none()
    | st.builds(
        lambda day, every: Ramp.read({**DAILY, "from": f"2026-10-{day}", "start_rpm": 1, "every": every}),
        st.integers(20, 30),
        st.integers(1, 3),
    )
    | st.builds(
        lambda minute, every: Ramp.read(
            {
                "from": f"2026-10-24T12:{minute:02}:00Z",
                "start_rpm": 1,
                "factor": 2,
                "every": every,
                "unit": "minutes",
            }
        ),
        st.integers(0, 59),
        st.integers(1, 200),
    ),
    quotas=st.lists(
        st.builds(
            lambda limit, per, zone: Quota.read({"limit": limit, "per": per, "zone": zone}),
            st.integers(1, 99),
            st.sampled_from(capacity.PERIODS),
            st.sampled_from(ZONES),
        ),
        max_size=2,
    ).map(tuple),
)
# Two days before clocks change in Europe, on a quarter-hour.
starts = st.integers(0, 400).map(lambda n: datetime(2026, 10, 23, tzinfo=UTC) + n * QUARTER)


@given(shapes, starts)
@properties(max_examples=80)
def test_stretches_are_the_capacities_and_periods_of_each_window(shape, runs_at):
    windows = []
    for stretch in shape.stretches(runs_at):
        windows += [(stretch.capacity, stretch.periods)] * stretch.windows
        if len(windows) >= 300:
            break
    for number, (capacities, periods) in enumerate(windows[:300]):
        at = runs_at + number * QUARTER
        assert capacities == shape.capacities(at), at
        assert [begin for _, begin in periods] == [quota.period_of(at)[0] for quota in shape.quotas], at


@given(shapes, starts, st.integers(0, 400))
@properties(max_examples=50)
def test_list_planned_over_stretches_never_exceeds_a_capacity_or_a_quota(shape, runs_at, n):
    stretches = list(islice(shape.stretches(runs_at), 40))
    quotas = shape.quotas_left(stretches, {})
    booked: Counter = Counter()
    total = 0
    for run in allocator.runs_within(stretches, n, fills={}, quotas=quotas):
        for number in range(run.windows):
            at = runs_at + (run.first + number) * QUARTER
            assert all(count <= most for count, most in zip(run.added, shape.capacities(at), strict=True))
            for k, quota in enumerate(shape.quotas):
                booked[k, quota.period_of(at)[0]] += sum(run.added)
            total += sum(run.added)
    assert all(count <= shape.quotas[k].limit for (k, _), count in booked.items())
    assert total <= n


def test_campaign_with_hours_and_a_daily_quota_is_planned_to_the_day():
    # 400,000 IDs at 3,000 a minute and 250,000 a day, weekdays from nine to six.
    shape = Shape(
        3_000,
        hours("mon-fri 09:00-18:00"),
        quotas=(Quota.read({"limit": 250_000, "per": "day", "zone": BERLIN}),),
    )
    runs_at = datetime(2026, 11, 30, 7, 0, tzinfo=UTC)
    stretches = list(islice(shape.stretches(runs_at), 30))
    quotas = shape.quotas_left(stretches, {})
    by_day: Counter = Counter()
    last = runs_at
    for run in allocator.runs_within(stretches, 400_000, fills={}, quotas=quotas):
        by_day[(runs_at + run.first * QUARTER).date()] += run.ids
        last = runs_at + (run.first + run.windows) * QUARTER
    assert by_day == {date(2026, 11, 30): 250_000, date(2026, 12, 1): 150_000}
    # From 09:00 in Berlin: 50 minutes of 3,000, in four windows.
    assert last == datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def test_booked_ids_are_taken_from_their_period():
    shape = Shape(100, quotas=(Quota.read({"limit": 50, "per": "day"}),))
    runs_at = datetime(2026, 11, 30, tzinfo=UTC)
    stretches = list(islice(shape.stretches(runs_at), 3))
    assert list(shape.quotas_left(stretches, {(0, runs_at): 20}).values()) == [30, 50, 50]


def test_reason_of_a_minute_is_a_few_words():
    shape = Shape(300, hours("mon-fri 09:00-18:00"), Ramp.read(DAILY, capacity.zone(BERLIN)))
    for at, reason in (
        ("2026-11-27T10:00", "0: the ramp has not begun"),
        ("2026-11-27T20:00", "0: closed until Monday 09:00"),
        ("2026-12-02T10:00", "112: ramp, day 3 of 5"),
        ("2026-12-07T10:00", "300: rpm"),
    ):
        assert shape.reason_at(datetime.fromisoformat(f"{at}:00+00:00")) == reason


def test_year_with_hours_and_a_quota_is_planned_in_little_time():
    shape = Shape(
        60,
        hours("mon-fri 09:00-18:00", "sat 10:00-12:30"),
        quotas=(Quota.read({"limit": 20_000, "per": "day", "zone": BERLIN}),),
    )
    runs_at = datetime(2026, 11, 30, tzinfo=UTC)

    def plan() -> float:
        began = time.process_time()
        stretches, windows = [], 0
        for stretch in shape.stretches(runs_at):
            stretches.append(stretch)
            windows += stretch.windows
            if windows >= 366 * 96:
                break
        runs = list(
            allocator.runs_within(stretches, 10**9, fills={}, quotas=shape.quotas_left(stretches, {}))
        )
        assert len(runs) > 300
        return time.process_time() - began

    plan()
    assert min(plan() for _ in range(5)) < 0.05


@given(
    st.lists(st.integers(0, 9), min_size=15, max_size=15),
    st.lists(st.integers(0, 9), min_size=15, max_size=15),
)
def test_smaller_of_two_capacities(first, second):
    result = capacity.smaller(tuple(first), tuple(second))
    assert all(a <= min(b, c) for a, b, c in zip(result, first, second, strict=True))
