"""The coming days of a queue: capacity by hours, ramp and quotas, what is planned, and what is free."""

from datetime import UTC, datetime, timedelta

import pytest

from operators.actor import Actor
from scheduling import demo, models
from scheduling.core import clock
from scheduling.placement import reservations
from scheduling.reports.coming_days import coming_days
from tests.scheduling.placed import make_queue

pytestmark = pytest.mark.django_db

# A Wednesday.
AT = datetime(2026, 11, 25, 12, 0, 10, tzinfo=UTC)
MIDNIGHT = AT.replace(hour=0, second=0)
DAY = timedelta(days=1)
BOUNDS = [(MIDNIGHT + n * DAY, MIDNIGHT + (n + 1) * DAY) for n in range(14)]


def of(queue: models.Queue, at: datetime = AT):
    return coming_days(queue, BOUNDS, at=at)


def take(queue: models.Queue, ids: int, at: datetime = AT) -> models.Task:
    """Accept a list, whose rows aren't written."""
    return demo.submit(queue.name, "x", list(range(1, ids + 1)), by=Actor.system(), now=lambda: at)


def test_today_counts_from_the_next_minute_on():
    today, tomorrow = of(make_queue(rpm=60))[:2]
    first = clock.next_unsealed_minute(AT)
    assert today.capacity == today.free == (MIDNIGHT + DAY - first) // clock.MINUTE * 60
    assert (tomorrow.capacity, tomorrow.planned, tomorrow.free) == (60 * 1440, 0, 60 * 1440)


def test_reserve_for_late_ids_is_not_for_lists():
    assert of(make_queue(rpm=60, headroom=10))[1].free == 50 * 1440


def test_hours_close_the_weekend():
    hours = {"zone": "UTC", "open": ["mon-fri 09:00-17:00"], "closed": ["2026-12-01"]}
    days = of(make_queue(rpm=60, hours=hours))
    open_day = 60 * 60 * 8
    expected = [open_day, open_day, 0, 0, open_day, 0, open_day, open_day, open_day, 0, 0, open_day, open_day]
    assert [day.capacity for day in days[1:]] == expected


def test_ramp_grows_from_day_to_day():
    ramp = {"from": "2026-11-26", "start_rpm": 10, "factor": 2, "every": 1, "unit": "days"}
    days = of(make_queue(rpm=60, ramp=ramp))
    assert [day.capacity // 1440 for day in days[:6]] == [0, 10, 20, 40, 60, 60]


def test_days_of_a_list_over_several_days_add_up_to_it():
    queue = make_queue(rpm=10, overflow="carry_over")
    plan = reservations.plan(queue, 20_000, at=AT)
    take(queue, 20_000)
    days = of(queue)
    by_day = [0] * 14
    for window in plan.windows:
        by_day[(clock.runs_at(window.starts_at) - MIDNIGHT) // DAY] += window.ids_count
    assert [day.planned for day in days] == by_day
    assert all(day.free == day.capacity - day.planned for day in days)


def test_minute_above_its_limit_takes_no_room_from_others():
    queue = make_queue(rpm=10)
    take(queue, 1_000)
    today = of(queue)[0]
    assert today.planned == 1_000
    assert today.free == today.capacity - 150


def test_quota_of_a_day_is_its_capacity_and_what_was_booked_is_not_free():
    queue = make_queue(rpm=60, quotas=[{"limit": 5_000, "per": "day", "zone": "UTC"}])
    take(queue, 7_000)
    days = of(queue)
    assert [(day.capacity, day.planned, day.free) for day in days[:3]] == [
        (5_000, 5_000, 0),
        (5_000, 2_000, 3_000),
        (5_000, 0, 5_000),
    ]


def test_rest_of_a_month_is_free_on_each_of_its_days():
    queue = make_queue(rpm=60, quotas=[{"limit": 4_000, "per": "month", "zone": "UTC"}])
    take(queue, 1_000)
    # Six days of November, eight of December.
    assert [day.free for day in of(queue)] == [3_000] * 6 + [4_000] * 8


@pytest.mark.parametrize("overflow", ["carry_over", "disperse"])
def test_list_as_long_as_what_is_free_until_the_end_of_a_day_ends_on_it(overflow):
    hours = {"zone": "UTC", "open": ["mon-fri 09:00-17:00"]}
    queue = make_queue(
        rpm=7, overflow=overflow, hours=hours, quotas=[{"limit": 100, "per": "hour", "zone": "UTC"}]
    )
    early = MIDNIGHT + timedelta(hours=6)
    take(queue, 37, early)
    free = sum(day.free for day in of(queue, early)[:3])
    assert free == 3 * 8 * 100 - 37
    last = reservations.plan(queue, free, at=early).last_at
    assert BOUNDS[2][0] <= last < BOUNDS[2][1]
    assert reservations.plan(queue, free + 1, at=early).last_at >= BOUNDS[3][0]


def test_coming_days_take_two_queries_whatever_is_planned(django_assert_num_queries):
    queue = make_queue(rpm=10, overflow="carry_over", quotas=[{"limit": 900, "per": "hour", "zone": "UTC"}])
    take(queue, 20_000)
    with django_assert_num_queries(2):
        of(queue)
