"""A plan worked out by the rules alone: one ID after the other, minute by minute, without any formula."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MINUTE, QUARTER = timedelta(minutes=1), timedelta(minutes=15)
LONGEST = timedelta(days=400)
Form = Mapping[str, Any]


def is_open(hours: Form | None, minute: datetime) -> bool:
    """By the local wall clock; a span belongs to the day on which it begins, a closed date closes all its minutes."""
    if not hours:
        return True
    local = minute.astimezone(ZoneInfo(hours.get("zone", "UTC")))
    if local.date().isoformat() in hours.get("closed", ()):
        return False
    return any(_in_span(span, local) for span in hours["open"])


def _in_span(span: str, local: datetime) -> bool:
    days, times = span.split(" ")
    begin, end = times.split("-")
    first, _, last = days.partition("-")
    weekdays, day = [DAYS.index(first)], DAYS.index(first)
    while day != DAYS.index(last or first):
        day = (day + 1) % 7
        weekdays.append(day)
    now, today, yesterday = f"{local:%H:%M}", local.weekday(), (local.weekday() - 1) % 7
    if begin < end:
        return today in weekdays and begin <= now < end
    return (today in weekdays and begin <= now) or (yesterday in weekdays and now < end)


def ramp_rpm(ramp: Form | None, rpm: int, zone: str, minute: datetime) -> int:
    """min(rpm, floor(start_rpm * factor^k)), k whole steps since `from`; 0 before it."""
    if not ramp:
        return rpm
    steps = 0
    if ramp["unit"] == "minutes":
        begin = datetime.fromisoformat(ramp["from"])
        if minute < begin:
            return 0
        while begin + (steps + 1) * ramp["every"] * MINUTE <= minute:
            steps += 1
    else:
        begins_on, today = date.fromisoformat(ramp["from"]), minute.astimezone(ZoneInfo(zone)).date()
        if today < begins_on:
            return 0
        while begins_on + timedelta(days=(steps + 1) * ramp["every"]) <= today:
            steps += 1
    # Exactly, as somebody works it out on paper.
    value = Fraction(ramp["start_rpm"])
    for _ in range(steps):
        value *= Fraction(str(ramp["factor"]))
        if value >= rpm:
            return rpm
    return min(rpm, int(value))


def period(quota: Form, minute: datetime) -> str:
    """The hour, day or month of the quota's zone; the same hour of two offsets is two hours."""
    form = {"hour": "%Y-%m-%d %H %z", "day": "%Y-%m-%d", "month": "%Y-%m"}[quota["per"]]
    return minute.astimezone(ZoneInfo(quota.get("zone", "UTC"))).strftime(form)


def _periods(fields: Form, minute: datetime) -> list[tuple[int, tuple[int, str]]]:
    """The limit of each quota, with the key of its period."""
    return [
        (quota["limit"], (number, period(quota, minute))) for number, quota in enumerate(fields["quotas"])
    ]


class Budget:
    """What a target allows, and who has places there. fields: rpm, hours, quotas, in the forms of the API."""

    def __init__(self, fields: Form) -> None:
        self.fields = fields
        self.queues: list[Queue] = []
        self.booked: Counter[tuple[int, str]] = Counter()
        self.capacity, self.periods = cache(self._capacity), cache(self._periods_of)

    def _capacity(self, minute: datetime) -> float:
        rpm = self.fields.get("rpm") or float("inf")
        return rpm if is_open(self.fields.get("hours"), minute) else 0

    def _periods_of(self, minute: datetime) -> list[tuple[int, tuple[int, str]]]:
        return _periods(self.fields, minute)

    def filled(self, minute: datetime) -> int:
        return sum(queue.fill[minute] for queue in self.queues)


class Queue:
    """A queue and its plan. fields: in the forms of the API."""

    def __init__(self, fields: Form, budget: Budget | None = None) -> None:
        self.fields, self.budget = fields, budget
        self.fill: Counter[datetime] = Counter()
        self.booked: Counter[tuple[int, str]] = Counter()
        self.own_capacity, self.periods = cache(self._own_capacity), cache(self._periods_of)
        if budget is not None:
            budget.queues.append(self)

    def _own_capacity(self, minute: datetime) -> int:
        hours = self.fields.get("hours")
        if not is_open(hours, minute):
            return 0
        zone = hours.get("zone", "UTC") if hours else "UTC"
        return ramp_rpm(self.fields.get("ramp"), self.fields["rpm"], zone, minute)

    def capacity(self, minute: datetime) -> float:
        """The smaller of the queue's and of what other queues leave of the target's."""
        own = self.own_capacity(minute)
        return own if self.budget is None else min(own, self.limit(minute))

    def limit(self, minute: datetime) -> float:
        if self.budget is None:
            return float("inf")
        return max(0, self.budget.capacity(minute) - self.budget.filled(minute) + self.fill[minute])

    def for_lists(self, minute: datetime) -> float:
        return max(0, self.capacity(minute) - self.fields.get("headroom", 0))

    def _periods_of(self, minute: datetime) -> list[tuple[int, tuple[int, str]]]:
        return _periods(self.fields, minute)

    def _booked(self, minute: datetime) -> Iterator[tuple[int, Counter[tuple[int, str]], tuple[int, str]]]:
        """Each quota that applies: its limit, where it is booked, and the period in which the minute lies."""
        for limit, key in self.periods(minute):
            yield limit, self.booked, key
        if self.budget is not None:
            for limit, key in self.budget.periods(minute):
                yield limit, self.budget.booked, key

    def has_quota(self, minute: datetime) -> bool:
        return all(booked[key] < limit for limit, booked, key in self._booked(minute))

    def take(self, minute: datetime) -> None:
        self.fill[minute] += 1
        for _, booked, key in self._booked(minute):
            booked[key] += 1

    def copy(self, *, unbooked: bool = False) -> "Queue":
        """A queue with the same plan, to try something. unbooked: nothing is booked on its quotas."""
        budget = None
        if self.budget is not None:
            budget = Budget(self.budget.fields)
            budget.queues = [queue for queue in self.budget.queues if queue is not self]
            budget.booked = Counter() if unbooked else Counter(self.budget.booked)
            budget.capacity, budget.periods = self.budget.capacity, self.budget.periods
        result = Queue(self.fields, budget)
        result.own_capacity, result.periods = self.own_capacity, self.periods
        result.fill = Counter(self.fill)
        result.booked = Counter() if unbooked else Counter(self.booked)
        return result

    # --- Placing ---

    def place(self, count: int, first: datetime) -> Counter[datetime]:
        """Place a list from the minute on with which a window begins to run."""
        if self.fields["overflow"] == "carry_over":
            return self._carry_over(count, first, self.for_lists)
        added: Counter[datetime] = Counter()
        window = first
        for _ in range(count):
            while (minute := self._dispersed(window)) is None:
                window += QUARTER
                assert window - first < LONGEST
            self.take(minute)
            added[minute] += 1
        return added

    def _dispersed(self, window: datetime) -> datetime | None:
        if not self.has_quota(window):
            return None
        opened = [m for m in (window + k * MINUTE for k in range(15)) if self.for_lists(m)]
        opened = [m for m in opened if self.fill[m] < self.limit(m)]
        for minute in opened:
            if self.fill[minute] < self.for_lists(minute):
                return minute
        return min(opened, key=lambda m: (self.fill[m], m), default=None)

    def _carry_over(
        self, count: int, first: datetime, level: Callable[[datetime], float], share: bool = True
    ) -> Counter[datetime]:
        added: Counter[datetime] = Counter()
        percent = self.fields.get("max_share_percent", 100) if share else 100
        if self.fields["overflow"] == "disperse":
            percent = 100
        minute = first

        def has_room() -> bool:
            share = (
                self.capacity(minute) if percent == 100 else max(1, self.capacity(minute) * percent // 100)
            )
            return added[minute] < share and self.fill[minute] < level(minute) and self.has_quota(minute)

        for _ in range(count):
            while not has_room():
                minute += MINUTE
                assert minute - first < LONGEST
            self.take(minute)
            added[minute] += 1
        return added

    def fill_up(self, minute: datetime, filled: int) -> int:
        """Return how many IDs lists could plan of a minute that holds so many, and take these places."""
        count = 0
        while filled + count < self.for_lists(minute) and self.has_quota(minute):
            self.take(minute)
            count += 1
        return count

    def place_first_free(self, count: int, first: datetime) -> Counter[datetime]:
        """Place a list that starts at the first free places from a minute on."""
        return self._carry_over(count, first, self.for_lists)

    def place_late(self, count: int, first: datetime) -> Counter[datetime]:
        """Place late IDs or retries, which may use the headroom, from a minute on."""
        return self._carry_over(count, first, self.capacity, share=False)
