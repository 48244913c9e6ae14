"""How many requests each minute of a queue may make: rpm, sending hours, a ramp, and quotas for whole periods.

The capacity of a minute is a function of the minute alone, so it can be computed for any time ahead. `stretches` gives
it for a queue's windows from one on, as few and long stretches as there are changes: `allocator.runs_within` places a
list over them.

Local times go by the wall clock of a named zone. On the day on which clocks are set back, an hour comes twice and both
are open or closed as the table says; the hour that is skipped in spring doesn't exist.

Pure: standard library only (zoneinfo reads the zones of the machine). Times are aware; ValueError, as a sentence, for
anything that can't be read. Source: docs/hours.md.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scheduling.core import clock
from scheduling.core.allocator import BUCKETS, Fill, Stretch

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 1440
# What never changes is given in pieces of some years.
LONGEST_STRETCH = 4 * 366 * 96
PERIODS = ("hour", "day", "month")
LARGEST_QUOTA = 1_000_000_000_000
RAMP_YEARS = range(2000, 2200)
DAY = timedelta(days=1)
_ALL_OPEN = (1,) * BUCKETS
_DECIMALS = Context(prec=50, traps=[])

# Names that mean another zone on another machine, or count leap seconds.
_NOT_ZONES = re.compile(r"localtime|posixrules|Factory|(posix|right)/.*")
_SPAN = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? (\d\d):(\d\d)-(\d\d):(\d\d)")


def zone(name: str) -> ZoneInfo:
    """Return the time zone with this name."""
    try:
        if _NOT_ZONES.fullmatch(name):
            raise ZoneInfoNotFoundError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"There is no time zone named {name!r}.") from None


# --- Hours ---


@dataclass(frozen=True)
class Hours:
    """A weekly table in a zone. spans: (weekday, from, to) in minutes of the day on which the span begins.

    `to` may be past 1,440: a span across midnight belongs to the day on which it begins. closed: dates on which every
    local minute is closed, including those of a span that began the day before.
    """

    zone: ZoneInfo
    spans: tuple[tuple[int, int, int], ...]
    closed: frozenset[date] = frozenset()

    @classmethod
    def read(cls, form: Mapping[str, Any]) -> "Hours":
        """Read `{"zone": ..., "open": ["mon-fri 09:00-18:00"], "closed": ["2026-12-25"]}`."""
        unknown = set(form) - {"zone", "open", "closed", "name"}
        if unknown:
            raise ValueError(f"Hours have no field {min(unknown)!r}. Allowed: zone, open, closed.")
        opened = form.get("open")
        if not isinstance(opened, Sequence) or isinstance(opened, str) or not opened:
            raise ValueError("Hours need at least one span, such as 'mon-fri 09:00-18:00'.")
        closed = form.get("closed", ())
        if not isinstance(closed, Sequence) or isinstance(closed, str):
            raise ValueError("The closed days of hours must be a list of dates such as 2026-12-25.")
        spans = tuple(span for text in opened for span in _spans(text))
        return cls(zone(str(form.get("zone", "UTC"))), spans, frozenset(map(_date, closed)))

    def is_open(self, at: datetime) -> bool:
        """Whether the minute that begins at `at` is open."""
        local = at.astimezone(self.zone)
        return bool(self._table(local.date())[local.hour * 60 + local.minute])

    def mask_of(self, runs_at: datetime) -> Fill:
        """Return which minutes of the quarter-hour that begins at `runs_at` are open: 15 numbers, 0 or 1."""
        day = runs_at.astimezone(self.zone).date()
        return self.masks(day)[(runs_at - _bounds(day, self.zone)[0]) // clock.QUARTER]

    @cached_property
    def _of_weekday(self) -> tuple[tuple[bytes, bytes], ...]:
        """For each weekday: the minutes that its own spans open, and those that the day before's open."""
        own = [bytearray(MINUTES_A_DAY) for _ in DAYS]
        spilled = [bytearray(MINUTES_A_DAY) for _ in DAYS]
        for weekday, begin, end in self.spans:
            own[weekday][begin : min(end, MINUTES_A_DAY)] = b"\1" * (min(end, MINUTES_A_DAY) - begin)
            if end > MINUTES_A_DAY:
                spilled[(weekday + 1) % 7][: end - MINUTES_A_DAY] = b"\1" * (end - MINUTES_A_DAY)
        return tuple((bytes(day), bytes(before)) for day, before in zip(own, spilled, strict=True))

    def _table(self, day: date) -> bytes:
        """Which of the 1,440 wall-clock minutes of a date are open."""
        if day in self.closed:
            return bytes(MINUTES_A_DAY)
        return self._tables[day.weekday()]

    @cached_property
    def _tables(self) -> tuple[bytes, ...]:
        return tuple(
            bytes(a | b for a, b in zip(day, before, strict=True)) for day, before in self._of_weekday
        )

    @cached_property
    def _masks(self) -> dict[bytes, tuple[Fill, ...]]:
        return {}

    def masks(self, day: date) -> tuple[Fill, ...]:
        """Return, for each quarter-hour of a local date, which of its minutes are open: 15 numbers, 0 or 1.

        In the order of time: 96 of them, or 92 and 100 where clocks change.
        """
        table = self._table(day)
        begin, end = _bounds(day, self.zone)
        if end - begin == DAY and not _changes(begin, end, self.zone):
            if table not in self._masks:
                self._masks[table] = tuple(
                    tuple(table[first : first + BUCKETS]) for first in range(0, MINUTES_A_DAY, BUCKETS)
                )
            return self._masks[table]
        minutes = [begin + number * clock.MINUTE for number in range(round((end - begin) / clock.MINUTE))]
        opened = [int(self.is_open(minute)) for minute in minutes]
        return tuple(tuple(opened[first : first + BUCKETS]) for first in range(0, len(opened), BUCKETS))


def _spans(text: object) -> Iterator[tuple[int, int, int]]:
    """(weekday, from, to) for each day of `mon-fri 09:00-18:00`."""
    match = _SPAN.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a span such as 'mon-fri 09:00-18:00'.")
    first, last = match[1], match[2] or match[1]
    if first not in DAYS or last not in DAYS:
        raise ValueError(f"{text!r} must begin with a weekday: mon, tue, wed, thu, fri, sat or sun.")
    begin, end = int(match[3]) * 60 + int(match[4]), int(match[5]) * 60 + int(match[6])
    if max(int(match[4]), int(match[6])) > 59 or begin >= MINUTES_A_DAY or end > MINUTES_A_DAY:
        raise ValueError(f"{text!r} has an invalid time: times are from 00:00 to 24:00.")
    if begin == end:
        raise ValueError(f"{text!r} is empty: for a whole day, write 00:00-24:00.")
    if end < begin:
        end += MINUTES_A_DAY
    days = (DAYS.index(last) - DAYS.index(first)) % 7 + 1
    for number in range(days):
        yield (DAYS.index(first) + number) % 7, begin, end


def _date(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"{text!r} is not a date such as 2026-12-25.") from None


@lru_cache(maxsize=4096)
def _bounds(day: date, where: ZoneInfo) -> tuple[datetime, datetime]:
    """The moments at which a local date begins and ends."""
    begin, end = (datetime.combine(d, time(), where).astimezone(UTC) for d in (day, day + DAY))
    return begin, end


@lru_cache(maxsize=4096)
def _changes(begin: datetime, end: datetime, where: ZoneInfo) -> bool:
    """Whether the offset from UTC changes and changes back within a day that is as long as any other."""
    offset = begin.astimezone(where).utcoffset()
    return any((begin + n * timedelta(hours=3)).astimezone(where).utcoffset() != offset for n in range(8))


@lru_cache(maxsize=64)
def _runs_of(masks: tuple[Fill, ...]) -> tuple[tuple[int, Fill], ...]:
    """Equal masks that follow each other, as (windows, mask); the first of them last."""
    return tuple((sum(1 for _ in group), mask) for mask, group in groupby(masks))[::-1]


# --- Ramps ---


@dataclass(frozen=True)
class Ramp:
    """Requests per minute that grow: `min(rpm, floor(start_rpm * factor^k))`, k = whole steps since `begins_at`.

    A step lasts `every` minutes, or `every` local days of the zone. 0 before it begins.
    """

    begins_at: datetime
    start_rpm: int
    factor: float
    every: int
    unit: str
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    @classmethod
    def read(cls, form: Mapping[str, Any], where: ZoneInfo | None = None) -> "Ramp":
        """Read `{"from": ..., "start_rpm": 50, "factor": 1.5, "every": 1, "unit": "days"}`.

        where: in whose zone days begin; UTC without sending hours.
        """
        unknown = set(form) - {"from", "start_rpm", "factor", "every", "unit"}
        if unknown:
            raise ValueError(
                f"A ramp has no field {min(unknown)!r}. Allowed: from, start_rpm, factor, every, unit."
            )
        unit, where = str(form.get("unit", "days")), where or ZoneInfo("UTC")
        start_rpm, factor, every = form.get("start_rpm"), form.get("factor"), form.get("every")
        if unit not in ("days", "minutes"):
            raise ValueError(f"A ramp's unit must be days or minutes, not {unit}.")
        if type(start_rpm) is not int or start_rpm < 1:
            raise ValueError("A ramp's start_rpm must be a whole number of at least 1.")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 < factor <= 1_000:
            raise ValueError("A ramp's factor must be a number above 1, up to 1,000.")
        if type(every) is not int or not 1 <= every <= 100_000:
            raise ValueError("A ramp's every must be a whole number from 1 to 100,000.")
        try:
            begins_at: datetime | None = _ramp_start(form.get("from"), unit, where)
        except OverflowError:
            begins_at = None
        if begins_at is None or begins_at.year not in RAMP_YEARS:
            raise ValueError(
                f"A ramp's from must be in the years {RAMP_YEARS.start} to {RAMP_YEARS.stop - 1}."
            )
        return cls(begins_at, start_rpm, float(factor), every, unit, where)

    def rpm_at(self, at: datetime, rpm: int) -> int:
        """Return the requests per minute at `at`, up to rpm."""
        return self.rpm_of(self.steps_at(at), rpm)

    def steps_at(self, at: datetime) -> int:
        """Whole steps since it begins; negative before."""
        if self.unit == "minutes":
            return (at - self.begins_at) // (self.every * clock.MINUTE)
        begins_on = self.begins_at.astimezone(self.zone).date()
        return (at.astimezone(self.zone).date() - begins_on).days // self.every

    def rpm_of(self, step: int, rpm: int) -> int:
        """Return the requests per minute of a step, up to rpm."""
        if step < 0:
            return 0
        # As on paper: of floats, 100 * 1.15 is below 115. Past what a decimal holds it is infinite.
        growth = _DECIMALS.power(Decimal(repr(self.factor)), step)
        value = _DECIMALS.multiply(self.start_rpm, growth)
        return rpm if value >= rpm else int(value)

    @property
    def word(self) -> str:
        return "day" if self.unit == "days" and self.every == 1 else "step"

    def steps_to(self, rpm: int) -> int:
        """How many steps stay below rpm."""
        # A small factor takes billions of steps: the loop only mends what rounding leaves.
        step = max(0, int(math.log(rpm / self.start_rpm) / math.log(self.factor)) - 2)
        while self.rpm_of(step, rpm) < rpm:
            step += 1
        return step

    def step_begins_at(self, step: int) -> datetime:
        """The moment at which a step begins."""
        if self.unit == "minutes":
            return self.begins_at + step * self.every * clock.MINUTE
        begins_on = self.begins_at.astimezone(self.zone).date()
        return _bounds(begins_on + step * self.every * DAY, self.zone)[0]


def _ramp_start(text: object, unit: str, where: ZoneInfo) -> datetime:
    if unit == "days":
        return _bounds(_date(text), where)[0]
    at: datetime | None
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(
            "A ramp's from must be a time with Z if its unit is minutes, such as 2026-11-30T09:00:00Z."
        )
    return clock.minute_start(at)


# --- Quotas ---


@dataclass(frozen=True)
class Quota:
    """At most `limit` requests in each hour, day or month of a zone."""

    limit: int
    per: str
    zone: ZoneInfo

    @classmethod
    def read(cls, form: Mapping[str, Any]) -> "Quota":
        """Read `{"limit": 250000, "per": "day", "zone": "Europe/Berlin"}`."""
        limit, per = form.get("limit"), form.get("per")
        if type(limit) is not int or not 1 <= limit <= LARGEST_QUOTA:
            raise ValueError(f"A quota's limit must be a whole number from 1 to {LARGEST_QUOTA:,}.")
        if per not in PERIODS:
            raise ValueError("A quota's per must be hour, day or month.")
        return cls(limit, str(per), zone(str(form.get("zone", "UTC"))))

    def period_of(self, at: datetime) -> tuple[datetime, datetime]:
        """Return when the period that holds `at` begins and ends."""
        local = at.astimezone(self.zone)
        if self.per == "day":
            return _bounds(local.date(), self.zone)
        if self.per == "month":
            first = local.date().replace(day=1)
            following = (first + 31 * DAY).replace(day=1)
            return _bounds(first, self.zone)[0], _bounds(following, self.zone)[0]
        # By the wall clock, so that an hour of a zone begins at its full hour; one that comes twice is two.
        begin = at.astimezone(UTC) - timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        return begin, begin + timedelta(hours=1)


# --- A queue's plan ---


@dataclass(frozen=True)
class Shape:
    """What limits a queue, or a target, in each minute.

    target: what limits a queue's target, whose quotas are among the queue's.
    """

    rpm: int
    hours: Hours | None = None
    ramp: Ramp | None = None
    quotas: tuple[Quota, ...] = ()
    target: "Shape | None" = None

    def within(self, target: "Shape") -> "Shape":
        """Return this shape with the budget of a target, which also applies; the target's quotas come last."""
        return replace(self, quotas=self.quotas + target.quotas, target=replace(target, quotas=()))

    def capacity_at(self, minute: datetime) -> int:
        """How many requests the minute that begins at `minute` may make; quotas apart."""
        own = self._own_capacity_at(minute)
        return own if self.target is None else min(own, self.target.capacity_at(minute))

    def _own_capacity_at(self, minute: datetime) -> int:
        if self.hours is not None and not self.hours.is_open(minute):
            return 0
        return self.rpm if self.ramp is None else self.ramp.rpm_at(minute, self.rpm)

    def reason_at(self, minute: datetime) -> str:
        """Why the minute has its capacity, in a few words: "60: ramp, day 3 of 7"."""
        capacity = self._own_capacity_at(minute)
        if self.target is not None and self.target.capacity_at(minute) < capacity:
            return self.target.reason_at(minute).replace(": ", ": the target's budget, ", 1)
        if self.hours is not None and not self.hours.is_open(minute):
            opens_at = self.opens_at(minute)
            return "0: closed" + (
                f" until {opens_at.astimezone(self.hours.zone):%A %H:%M}" if opens_at else ""
            )
        if self.ramp is not None and capacity < self.rpm:
            step = self.ramp.steps_at(minute)
            if step < 0:
                return "0: the ramp has not begun"
            return f"{capacity}: ramp, {self.ramp.word} {step + 1} of {self.ramp.steps_to(self.rpm)}"
        return f"{capacity}: rpm"

    def opens_at(self, minute: datetime, *, within_days: int = 366) -> datetime | None:
        """The first open minute from `minute` on, within this many days."""
        if self.target is not None:
            return self._both_open_at(minute, within_days)
        if self.hours is None:
            return minute
        day = minute.astimezone(self.hours.zone).date()
        for _ in range(within_days):
            begin = _bounds(day, self.hours.zone)[0]
            for number, mask in enumerate(self.hours.masks(day)):
                for k, is_open in enumerate(mask):
                    at = begin + number * clock.QUARTER + k * clock.MINUTE
                    if is_open and at >= minute:
                        return at
            day += DAY
        return None

    def _both_open_at(self, minute: datetime, within_days: int) -> datetime | None:
        assert self.target is not None
        own, until = replace(self, target=None), minute + within_days * DAY
        at: datetime | None = minute
        while at is not None and at < until:
            opens_at = own.opens_at(at, within_days=within_days)
            at = self.target.opens_at(opens_at, within_days=within_days) if opens_at else None
            if at == opens_at:
                return at
        return None

    def capacities(self, runs_at: datetime) -> Fill:
        """The capacities of the window whose first minute begins at `runs_at`: 15 numbers."""
        own = self._level(runs_at, _ALL_OPEN if self.hours is None else self.hours.mask_of(runs_at))
        return own if self.target is None else smaller(own, self.target.capacities(runs_at))

    def _level(self, at: datetime, mask: Fill) -> Fill:
        """The capacities of a window, without its target's. mask: which of its minutes are open."""
        if self.ramp is None:
            return _open_at(self.rpm, mask)
        return tuple(
            self.ramp.rpm_at(at + k * clock.MINUTE, self.rpm) if is_open else 0
            for k, is_open in enumerate(mask)
        )

    def stretches(self, runs_at: datetime) -> Iterator[Stretch]:
        """Yield the windows from the one whose first minute begins at `runs_at` on, without end, as stretches.

        A stretch's periods are keys for `quotas_left`: (number of the quota, when its period begins).
        """
        own = self._own_stretches(runs_at)
        return own if self.target is None else _overlapping(own, self.target.stretches(runs_at))

    def _own_stretches(self, runs_at: datetime) -> Iterator[Stretch]:
        current: Stretch | None = None
        for windows, capacity, periods in self._windows(runs_at):
            if (
                current is not None
                and (current.capacity, current.periods) == (capacity, periods)
                and current.windows < LONGEST_STRETCH
            ):
                current = Stretch(current.windows + windows, capacity, periods)
                continue
            if current is not None:
                yield current
            current = Stretch(windows, capacity, periods)

    def quotas_left(
        self, stretches: Sequence[Stretch], booked: Mapping[Hashable, int]
    ) -> dict[Hashable, int]:
        """How many more each period of the stretches may take. booked: how many it has taken."""
        remaining: dict[Hashable, int] = {}
        for stretch in stretches:
            for quota, period in zip(self.quotas, stretch.periods, strict=True):
                remaining[period] = max(0, quota.limit - booked.get(period, 0))
        return remaining

    def _windows(self, at: datetime) -> Iterator[tuple[int, Fill, tuple[tuple[int, datetime], ...]]]:
        """(windows, capacities, periods) for runs of windows between two moments at which something changes."""
        while True:
            upto, masks = self._masks_from(at)
            while masks:
                count, mask = masks.pop()
                end = at + count * clock.QUARTER
                while at < end:
                    windows, capacity, periods, following = self._run(at, end, mask)
                    yield windows, capacity, periods
                    at = following
            at = max(at, upto)

    def _masks_from(self, at: datetime) -> tuple[datetime, list[tuple[int, Fill]]]:
        """The end of the local day, and what is open until then: (windows, mask), the next one last."""
        if self.hours is None:
            return at + 7 * DAY, [(7 * 96, _ALL_OPEN)]
        day = at.astimezone(self.hours.zone).date()
        begin, end = _bounds(day, self.hours.zone)
        masks = self.hours.masks(day)
        return end, list(_runs_of(masks if at == begin else masks[(at - begin) // clock.QUARTER :]))

    def _run(
        self, at: datetime, end: datetime, mask: Fill
    ) -> tuple[int, Fill, tuple[tuple[int, datetime], ...], datetime]:
        """One run of equal windows from `at`, up to `end` at most: windows, capacities, periods, its end."""
        periods = []
        for number, quota in enumerate(self.quotas):
            begins_at, ends_at = quota.period_of(at)
            periods.append((number, begins_at))
            end = min(end, ends_at)
        if self.ramp is None:
            return (end - at) // clock.QUARTER, self._level(at, mask), tuple(periods), end
        step = self.ramp.steps_at(at)
        following = self.ramp.step_begins_at(max(0, step + 1))
        if self.ramp.rpm_of(max(step, 0), self.rpm) < self.rpm or step < 0:
            end = min(end, max(at + clock.QUARTER, clock.quarter_start(following)))
        return (end - at) // clock.QUARTER, self._level(at, mask), tuple(periods), end


def _overlapping(own: Iterator[Stretch], others: Iterator[Stretch]) -> Iterator[Stretch]:
    """Yield the stretches over which neither changes, with the smaller capacity. Both are without end."""
    first, second = next(own), next(others)
    while True:
        windows = min(first.windows, second.windows)
        yield Stretch(windows, smaller(first.capacity, second.capacity), first.periods)
        first = _rest(first, windows) or next(own)
        second = _rest(second, windows) or next(others)


def _rest(stretch: Stretch, passed: int) -> Stretch | None:
    """What remains of a stretch after some of its windows; None if nothing does."""
    if passed == stretch.windows:
        return None
    return Stretch(stretch.windows - passed, stretch.capacity, stretch.periods)


@lru_cache(maxsize=4096)
def _open_at(rpm: int, mask: Fill) -> Fill:
    return tuple(rpm if is_open else 0 for is_open in mask)


@lru_cache(maxsize=4096)
def smaller(first: Fill, second: Fill) -> Fill:
    """The smaller capacity of each minute: a queue's beside its target's."""
    return tuple(map(min, first, second))
