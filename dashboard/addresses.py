"""Addresses that several modules make, and the format of times in addresses."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from urllib.parse import urlencode

from django.urls import reverse

from scheduling.core import clock

# The keys of windows end there.
LATEST = datetime(2089, 1, 1, tzinfo=UTC)
STAMP = "%Y-%m-%dT%H:%MZ"


def stamp(at: datetime) -> str:
    """Return a minute as it is written in an address: 2026-11-25T12:17Z."""
    return at.astimezone(UTC).strftime(STAMP)


def read_stamp(text: str) -> datetime:
    """Read a time from an address. Raises ValueError if it isn't one."""
    return datetime.strptime(text, STAMP).replace(tzinfo=UTC)


def read_minute(text: str) -> datetime:
    """Read a minute in which IDs may run. Raises ValueError if it isn't one."""
    at = read_stamp(text)
    if not clock.EPOCH + clock.QUARTER <= at < LATEST:
        raise ValueError(text)
    return at


def read_quarter(text: str) -> datetime:
    """Read the start of a window's quarter-hour. Raises ValueError if it isn't one."""
    return clock.aligned(read_minute(text))


def with_query(address: str, **parameters: str | int | None) -> str:
    """Return the address with the parameters that have a value."""
    query = urlencode({name: value for name, value in parameters.items() if value not in (None, "")})
    return f"{address}?{query}" if query else address


def minute(at: datetime, queue_name: str = "") -> str:
    """Return the address of a minute's page: of one queue, or of all."""
    return minutes_of(queue_name)(at)


def minutes_of(queue_name: str) -> Callable[[datetime], str]:
    """Return a function that makes the addresses of many minutes' pages, with a single call of the resolver."""
    before, after = _around_stamp()
    query = with_query("", queue=queue_name)
    return lambda at: f"{before}{stamp(at)}{after}{query}"


@cache
def _around_stamp() -> tuple[str, str]:
    before, _, after = reverse("minute", args=["STAMP"]).partition("STAMP")
    return before, after


def task(task_id: int) -> str:
    """Return the address of a task's page."""
    return reverse("task", args=[task_id])


def ids_of_task(task_id: int, at: datetime, minutes: int) -> str:
    """Return the address of a task's page, showing its IDs in the `minutes` from `at` on."""
    more = minutes if minutes > 1 else None
    return f"{with_query(task(task_id), minute=stamp(at), minutes=more)}#ids"


def queue(name: str) -> str:
    """Return the address of a queue's page."""
    return reverse("queue", args=[name])


def queue_operation(name: str, verb: str) -> str:
    """Return the address that pauses, resumes or brakes a queue, or unblocks its requests."""
    return (
        reverse("queue_release", args=[name])
        if verb == "release"
        else reverse("queue_act", args=[name, verb])
    )


def window(name: str, starts_at: datetime) -> str:
    """Return the address of a window's page."""
    return reverse("window", args=[name, stamp(starts_at)])


@lru_cache(maxsize=4096)
def drill_down(queue_name: str, starts_at: datetime | None = None, kind: str = "") -> str:
    """Return the address of the list of a window's IDs of one kind (see scheduling/reports/drill_down.py).

    queue_name: or `*`. starts_at: None for late IDs of any window.
    """
    window = None if starts_at is None else stamp(starts_at)
    return with_query(reverse("drill_down"), queue=queue_name, window=window, kind=kind)


@lru_cache(maxsize=4096)
def drill_down_minute(queue_name: str, at: datetime, kind: str = "") -> str:
    """Return the address of the list of one minute's IDs of one kind."""
    return with_query(reverse("drill_down"), queue=queue_name, minute=stamp(at), kind=kind)


@lru_cache(maxsize=1024)
def drill_down_between(queue_name: str, begin: datetime, end: datetime, kind: str = "") -> str:
    """Return the address of the list of IDs of one kind between two times, such as those of a day."""
    span = {"from": stamp(begin), "to": stamp(end), "kind": kind}
    return with_query(reverse("drill_down"), queue=queue_name, **span)
