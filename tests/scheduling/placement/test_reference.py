"""Plans of invented queues, compared with a reference that places one ID at a time, by the documentation alone.

Hours in several zones, on the days on which clocks change; ramps, quotas, shares and headroom; budgets of a target,
whose queues have places already; lists, late IDs and what is free of each day.
"""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.placement import reservations
from scheduling.placement.reservations import Start
from scheduling.queues import operations, targets
from scheduling.reports import coming_days
from tests.scheduling import lists_of_ids
from tests.scheduling.lists_of_ids import check_log, write_all
from tests.scheduling.placed import minutes_of
from tests.scheduling.placement import reference

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
ORIGIN, URL = "https://api.vendor.example:443", "https://api.vendor.example/in"
RATE = 10**9
# The days before clocks change, in three zones; of one they change by half an hour.
CHANGES = [
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
]
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]


class Dice(random.Random):
    """Invents the fields of queues and targets."""

    def happens(self, probability: float) -> bool:
        return self.random() < probability

    def time(self) -> str:
        return f"{self.randint(0, 23):02}:{self.choice([0, 15, 17, 30, 59]):02}"

    def span(self) -> str:
        days = self.choice([self.choice(reference.DAYS), "mon-sun", "-".join(self.sample(reference.DAYS, 2))])
        begin, end = self.time(), self.time()
        return f"{days} {begin}-{end if end != begin else '24:00'}"

    def hours(self, zone: str, at: datetime) -> dict[str, Any]:
        closed = [f"{at + timedelta(days=self.randint(0, 2)):%Y-%m-%d}"] if self.happens(0.3) else []
        return {"zone": zone, "open": [self.span() for _ in range(self.randint(1, 3))], "closed": closed}

    def ramp(self, at: datetime) -> dict[str, Any]:
        ramp = {
            "from": f"{at + timedelta(days=self.randint(-3, 1)):%Y-%m-%d}",
            "start_rpm": self.choice([1, 2, 3, 5, 10, 20]),
            "factor": self.choice([1.1, 1.15, 1.4, 1.5, 2]),
            "every": self.randint(1, 2),
            "unit": "days",
        }
        if self.happens(0.4):
            begin = at + timedelta(minutes=self.randint(-500, 200))
            ramp |= {"unit": "minutes", "every": self.randint(5, 300), "from": f"{begin:%Y-%m-%dT%H:%M}:00Z"}
        return ramp

    def quotas(self) -> list[dict[str, Any]]:
        periods = self.choices(["hour", "day", "month"], [3, 3, 1], k=self.choice([0, 0, 1, 2, 3]))
        limits = {"hour": (20, 80), "day": (20, 80), "month": (200, 400)}
        return [
            {"limit": self.randint(*limits[per]), "per": per, "zone": self.choice(ZONES)} for per in periods
        ]

    def queue(self, zone: str, at: datetime) -> dict[str, Any]:
        overflow = self.choice(["carry_over", "disperse"])
        return {
            "rpm": self.randint(3, 30),
            "overflow": overflow,
            "hours": self.hours(zone, at) if self.happens(0.6) else None,
            "ramp": self.ramp(at) if self.happens(0.4) else None,
            "headroom": self.choice([0, 0, 1, 2]),
            "quotas": self.quotas(),
            "max_share_percent": self.choice([100, 40, 7]) if overflow == "carry_over" else 100,
        }

    def budget(self, at: datetime) -> dict[str, Any]:
        hours = self.hours(self.choice(ZONES), at) if self.happens(0.3) else None
        return {"rpm": self.randint(3, 25), "hours": hours, "quotas": self.quotas()}


def invented(dice: Dice) -> tuple[dict[str, reference.Queue], datetime]:
    """Make queues, and return their references by name, and a time near a change of clocks."""
    zone, day = dice.choice(CHANGES)
    at = datetime.fromisoformat(f"{day}T{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:07+00:00")
    budget, sends = None, {}
    if dice.happens(0.7):
        budget, sends = reference.Budget(dice.budget(at)), {"handler": "webhook", "webhook_url": URL}
        targets.create(origin=ORIGIN, fields=budget.fields, by=BY, now=lambda: at)
    queues = {}
    for name in "abc"[: dice.randint(1, 3) if budget else 1]:
        fields = dice.queue(zone, at)
        operations.create(name=name, fields={**fields, **sends}, by=BY, at=at)
        queues[name] = reference.Queue(fields, budget)
    return queues, at


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 6, 7, 8, 9, 11, 12])
def test_plans_are_those_of_the_reference(seed, tmp_path, settings):
    settings.HORIZON_DAYS, settings.WRITE_RATE = 3_000, RATE
    dice = Dice(seed)
    queues, at = invented(dice)
    for number in range(dice.randint(2, 4)):
        name, count = dice.choice(list(queues)), dice.randint(1, 160)
        check_late(queues[name].copy(), name, count, at)
        start = dice.choice([Start.NEXT_WINDOW, Start.NEXT_WINDOW, Start.FIRST_FREE])
        plan = reservations.plan(models.Queue.objects.get(name=name), count, at=at, start=start)

        expected = placed(queues[name], count, start, at)

        assert minutes_of(plan) == expected, (number, name, start, queues[name].fields)
        ids = range(number * 1_000 + 1, number * 1_000 + 1 + count)
        lists_of_ids.submit(ids, tmp_path, by=BY, at=at, queue_name=name, start=start)
    for name, queue in queues.items():
        check_stored(queue, name)
        check_days(queue, name, at)
    write_all(at)
    assert [str(each) for each in proof.check(lambda: at)] == []
    check_log()


def placed(queue: reference.Queue, count: int, start: Start, at: datetime) -> Counter[datetime]:
    if start == Start.FIRST_FREE:
        return queue.place_first_free(
            count, clock.first_writable_minute(at, ids=count, unwritten=(), rate=RATE)
        )
    return queue.place(count, clock.runs_at(clock.first_window(at, ids=count, unwritten=(), rate=RATE)))


def check_late(queue: reference.Queue, name: str, count: int, at: datetime) -> None:
    """Late IDs would get the places of the reference."""
    first = clock.next_unsealed_minute(at)
    places = reservations.free(models.Queue.objects.get(name=name), count, first)
    assert {keys.minute_of_bucket(bucket): n for bucket, n in places} == queue.place_late(count, first)


def check_stored(queue: reference.Queue, name: str) -> None:
    """Fills and capacities are those of the reference."""
    buckets = models.Bucket.objects.filter(window__queue__name=name)
    stored = {bucket.minute_at: bucket.filled_count for bucket in buckets if bucket.filled_count}
    assert stored == {minute: count for minute, count in queue.fill.items() if count}
    for bucket in buckets:
        capacity = queue.own_capacity(bucket.minute_at)
        if queue.budget is not None:
            capacity = min(capacity, queue.budget.capacity(bucket.minute_at))
        assert bucket.capacity == capacity, bucket.minute_at


def check_days(queue: reference.Queue, name: str, at: datetime) -> None:
    """The calendar shows what is planned of each day, and how much more lists could plan."""
    zone = ZoneInfo("Europe/Berlin")
    midnights = [
        datetime.combine(at.astimezone(zone).date() + timedelta(days=number), datetime.min.time(), zone)
        for number in range(3)
    ]
    bounds = [(begin.astimezone(UTC), end.astimezone(UTC)) for begin, end in pairwise(midnights)]
    for day in coming_days.coming_days(models.Queue.objects.get(name=name), bounds, at=at):
        rest, whole = queue.copy(), queue.copy(unbooked=True)
        minute, planned, free, capacity = max(clock.next_unsealed_minute(at), day.begins_at), 0, 0, 0
        while minute < day.ends_at:
            planned += queue.fill[minute]
            free += rest.fill_up(minute, queue.fill[minute])
            capacity += whole.fill_up(minute, 0)
            minute += clock.MINUTE
        assert (day.planned, day.free, day.capacity) == (planned, free, capacity), (day, queue.fields)
