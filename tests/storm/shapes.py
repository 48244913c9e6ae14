"""Hours, ramps and quotas of a storm's queues, and what they promise, read from the forms by means of its own."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

NOON = datetime(2031, 3, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# In these zones an hour begins at :00, :30 and :15 of UTC.
ZONES = ("UTC", "Asia/Kolkata", "Asia/Kathmandu")
FIELDS = ("hours", "ramp", "quotas")


def drawn(dice: random.Random) -> dict[str, Any]:
    """The hours, ramp and quotas with which a queue begins, if any."""
    shape: dict[str, Any] = {}
    if dice.random() < 0.35:
        shape["hours"] = hours(dice)
    if dice.random() < 0.25:
        shape["ramp"] = ramp(dice)
    if dice.random() < 0.35:
        shape["quotas"] = quotas(dice, dice.choice(ZONES))
    return shape


# What a target of a storm may be allowed in a minute.
BUDGETS = (2, 3, 5, 8)


def budgets(dice: random.Random, queues: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The budgets of the targets that queues send to, by their address: some have one."""
    addresses = sorted({queue["webhook_url"] for queue in queues if queue["handler"] == "webhook"})
    return {address: dice.choice(BUDGETS) for address in addresses if dice.random() < 0.5}


def hours(dice: random.Random) -> dict[str, Any]:
    """Hours that are closed for some minutes of the storm, each day."""
    where = dice.choice(ZONES)
    closes = NOON + dice.randint(15, 45) * MINUTE
    opens = closes + dice.randint(1, 12) * MINUTE
    first, last = (f"{at.astimezone(ZoneInfo(where)):%H:%M}" for at in (closes, opens))
    return {"zone": where, "open": [f"mon-sun 00:00-{first}", f"mon-sun {last}-24:00"]}


def ramp(dice: random.Random) -> dict[str, Any]:
    begins_at = NOON + dice.randint(5, 35) * MINUTE
    every = dice.choice([1, 3, 7])
    return {
        "from": f"{begins_at:%Y-%m-%dT%H:%M:%SZ}",
        "start_rpm": 1,
        "factor": 2,
        "every": every,
        "unit": "minutes",
    }


def quotas(dice: random.Random, where: str) -> list[dict[str, Any]]:
    return [{"limit": dice.choice([3, 5, 8, 12]), "per": "hour", "zone": where}]


def changed(dice: random.Random, queue: Any) -> dict[str, Any]:
    """What an operator changes of a queue's shape."""
    name = dice.choice(FIELDS)
    if name == "quotas":
        # Always those of the same hours, so that its periods can be counted.
        where = queue.quotas[0]["zone"] if queue.quotas else "UTC"
        return {"quotas": quotas(dice, where) if not queue.quotas or dice.random() < 0.7 else []}
    return {name: None if dice.random() < 0.3 else hours(dice) if name == "hours" else ramp(dice)}


@dataclass(frozen=True)
class Setting:
    """What a queue was set to, from a time on."""

    at: datetime
    rpm: int
    hours: Mapping[str, Any] | None
    ramp: Mapping[str, Any] | None
    quotas: list[Mapping[str, Any]]

    def is_open(self, minute: datetime) -> bool:
        if self.ramp and minute < datetime.fromisoformat(self.ramp["from"]):
            return False
        if not self.hours:
            return True
        local = f"{minute.astimezone(ZoneInfo(self.hours['zone'])):%H:%M}"
        spans = (span.split()[1].split("-") for span in self.hours["open"])
        return any(begin <= local < end for begin, end in spans)

    def most(self, minute: datetime) -> int:
        """How many requests the minute may make."""
        if not self.is_open(minute):
            return 0
        if not self.ramp:
            return self.rpm
        steps = (minute - datetime.fromisoformat(self.ramp["from"])) // (self.ramp["every"] * MINUTE)
        return int(min(self.rpm, 2 ** min(steps, 30)))


@dataclass(frozen=True)
class Placed:
    """A line of the log by which IDs got places: each minute, with what it held before, and how many came."""

    at: datetime
    is_move: bool
    places: list[tuple[datetime, int, int]]


def history(created: Mapping[str, Any], changes: Iterable[Any]) -> list[Setting]:
    """What a queue was set to, by the log. changes: entries of the log, oldest first."""
    now = {"rpm": created["rpm"], "hours": None, "ramp": None, "quotas": [], **created}
    result = [Setting(datetime.min.replace(tzinfo=UTC), *(now[name] for name in ("rpm", *FIELDS)))]
    for entry in changes:
        now |= entry.after
        result.append(Setting(entry.at, *(now[name] for name in ("rpm", *FIELDS))))
    return result


def _in_force(settings: list[Setting], begin: datetime, end: datetime) -> list[Setting]:
    """The settings that held at some time in [begin, end]."""
    last = max(i for i, item in enumerate(settings) if item.at <= begin)
    return [item for i, item in enumerate(settings) if i >= last and item.at <= end]


def window_opened_at(minute: datetime) -> datetime:
    """When the quarter-hour of a minute began to take lists in: later changes of hours and ramps come after it."""
    return minute.replace(minute=minute.minute // 15 * 15) - timedelta(minutes=15)


def closed_minutes(name: str, settings: list[Setting], started: Iterable[datetime]) -> Iterator[str]:
    """Nothing starts in a minute that is closed: by the hours of when its window opened, or by any since."""
    for minute in sorted(set(started)):
        if not any(item.is_open(minute) for item in _in_force(settings, window_opened_at(minute), minute)):
            yield f"hours: {name} started in {minute:%H:%M}, which is closed"


def overfull_minutes(
    name: str, settings: list[Setting], lines: Iterable[Placed], *, is_capped: bool
) -> Iterator[str]:
    """Nothing is given a place in a closed minute, nor, where rpm is a hard cap, one past what the minute may make.

    lines: what was given places, by the log. Late IDs and retries are never placed past a cap.
    """
    for line in lines:
        for minute, before, count in line.places:
            opened_at = window_opened_at(minute)
            in_force = _in_force(settings, min(opened_at, line.at), line.at)
            most = max(item.most(minute) for item in in_force)
            if count > 0 and (most == 0 or ((is_capped or line.is_move) and before + count > most)):
                yield f"capacity: {name} got {before} + {count} in {minute:%H:%M}, where {most} fit"


def used_up(name: str, settings: list[Setting], started: Mapping[datetime, int], slack: int) -> Iterator[str]:
    """No hour has more starts than the largest quota that was ever set until its end."""
    where = next((setting.quotas[0].get("zone") for setting in settings if setting.quotas), None)
    if where is None:
        return
    for begin, count in sorted(by_hour(where, started).items()):
        earlier = [setting for setting in settings if setting.at < begin + timedelta(hours=1)]
        if all(setting.quotas for setting in earlier):
            most = max(setting.quotas[0]["limit"] for setting in earlier)
            if count > most + slack:
                yield f"quota: {name} started {count} in the hour from {begin:%H:%M}, where {most} are allowed"


def by_hour(where: str, started: Mapping[datetime, int]) -> Counter[datetime]:
    """How many were started in each hour of a zone."""
    result: Counter[datetime] = Counter()
    for minute, count in started.items():
        result[minute - minute.astimezone(ZoneInfo(where)).minute * MINUTE] += count
    return result


def reached_by(settings: list[Setting], started: Mapping[datetime, int]) -> Iterator[str]:
    """Which of the states that a run must reach a queue came to, by what it was set to last."""
    now = settings[-1]
    if not started:
        return
    first, last = min(started), max(started)
    if now.hours and any(not now.is_open(first + n * MINUTE) for n in range((last - first) // MINUTE)):
        yield "a queue with hours passed over a closed minute"
    if now.ramp and len({now.most(minute) for minute in started}) > 1:
        yield "a ramp grew"
    if now.quotas and now.quotas[0]["limit"] in by_hour(now.quotas[0]["zone"], started).values():
        yield "a quota was used up"
