"""The calendar of a queue: its coming days, and when a list would be done."""

import re
from datetime import date, timedelta

import pytest

from scheduling import models, store
from scheduling.core import clock
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db

ADDRESS = "/dashboard/calendar/"


def days_of(page) -> list:
    return page.context["days"]


def test_calendar_shows_fourteen_days_in_the_zone_of_the_operator(queue, sign_in):
    page = sign_in("viewer", time_zone="Asia/Kolkata").get(ADDRESS)
    days = days_of(page)
    assert len(days) == 14
    # 18:30 UTC is midnight in India.
    assert {f"{day.begins_at:%H:%M}" for day in days} == {"18:30"}
    assert {day.capacity for day in days[1:]} == {120 * 1440}
    assert days[0].capacity <= 120 * 1440
    assert "Asia/Kolkata" in squeezed(page)
    assert page.content.count(b'?queue=default">') == 14


def test_day_on_which_clocks_change_has_another_capacity(queue, sign_in, monkeypatch):
    monkeypatch.setattr("dashboard.views.calendar.timezone.localdate", lambda at: date(2026, 10, 20))
    at = store.now().replace(year=2026, month=10, day=20, hour=8, minute=0, second=0, microsecond=0)
    monkeypatch.setattr("dashboard.views.calendar.store.now", lambda: at)
    days = days_of(sign_in("viewer", time_zone="Europe/Berlin").get(ADDRESS))
    assert [day.capacity // (120 * 60) for day in days[1:]] == [24] * 4 + [25] + [24] * 8


def test_planned_ids_are_on_their_day_and_no_longer_free(queue, place, sign_in, monkeypatch):
    at = store.now()
    monkeypatch.setattr(store, "now", lambda: at)
    client = sign_in("viewer")
    before = days_of(client.get(ADDRESS))
    place(range(1, 1001))
    after = days_of(client.get(ADDRESS))
    assert sum(day.planned for day in after) == 1000
    assert sum(day.free for day in before) - sum(day.free for day in after) == 1000


def test_list_that_is_imagined_gets_the_times_that_it_would_get(queue, place, sign_in, monkeypatch):
    at = store.now()
    monkeypatch.setattr(store, "now", lambda: at)
    queue.overflow = models.Overflow.CARRY_OVER
    queue.save()
    page = sign_in("viewer").get(ADDRESS, {"queue": "default", "ids": "4000"})
    plan = page.context["imagined"]["plan"]
    assert not models.Task.objects.exists()
    assert not models.Bucket.objects.exists()
    assert not models.Reservation.objects.exists()
    task = place(range(1, 4001))
    assert (plan.first_at, plan.last_at) == (task.first_minute_at, task.last_minute_at)
    assert page.context["imagined"]["ends_at"] == task.last_minute_at + clock.MINUTE
    assert "A list of <b>4,000 IDs</b> would start at" in squeezed(page)


def test_imagined_list_that_would_be_refused_says_why(queue, sign_in):
    models.Queue.objects.update(overflow=models.Overflow.CARRY_OVER, rpm=1)
    client = sign_in("viewer")
    page = client.get(ADDRESS, {"ids": "1000000"})
    assert "It would be refused: The list would not be done until" in squeezed(page)
    models.Queue.objects.update(overflow=models.Overflow.DISPERSE, rpm=120, max_peak=150)
    page = client.get(ADDRESS, {"ids": "100000"})
    assert "above the queue&#x27;s max_peak of 150" in squeezed(page)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"queue": "nosuch"}, "There is no queue named"),
        ({"ids": "0"}, "is not a number from 1"),
        ({"ids": "10000001"}, "a list has at most 10,000,000 IDs"),
    ],
)
def test_calendar_refuses_what_can_not_be_meant(queue, sign_in, query, text):
    page = sign_in("viewer").get(ADDRESS, query)
    assert page.status_code == 400
    assert text in squeezed(page)


def test_calendar_without_queues_says_so(db, sign_in):
    models.Queue.objects.all().delete()
    assert "There is no queue yet." in squeezed(sign_in("viewer").get(ADDRESS))


def test_calendar_says_that_a_queue_is_paused_or_braked(queue, sign_in):
    client = sign_in("viewer")
    models.Queue.objects.update(brake_per_minute=5)
    assert "braked to 5 a minute" in squeezed(client.get(ADDRESS))
    models.Queue.objects.update(paused_at=store.now() - timedelta(minutes=1))
    assert "The queue is paused." in squeezed(client.get(ADDRESS))


def test_queue_page_links_to_its_calendar(queue, sign_in):
    page = squeezed(sign_in("viewer").get("/dashboard/queues/default/"))
    (address,) = re.findall(r'href="([^"]*calendar[^"]*)"', page)
    assert address == f"{ADDRESS}?queue=default"
