"""Addresses that are made in more than one place, and how a time stands in one."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from urllib.parse import urlencode

from django.urls import reverse

from scheduling.core import clock

# Keys of windows end there.
LATEST = datetime(2089, 1, 1, tzinfo=UTC)
STAMP = "%Y-%m-%dT%H:%MZ"


def stamp(at: datetime) -> str:
    """A minute as it stands in an address: 2026-11-25T12:17Z."""
    return at.astimezone(UTC).strftime(STAMP)


def read_stamp(text: str) -> datetime:
    """ValueError for what is no such time."""
    return datetime.strptime(text, STAMP).replace(tzinfo=UTC)


def read_minute(text: str) -> datetime:
    """A minute in which IDs may run. ValueError for what is none."""
    at = read_stamp(text)
    if not clock.EPOCH + clock.QUARTER <= at < LATEST:
        raise ValueError(text)
    return at


def read_quarter(text: str) -> datetime:
    """The start of a quarter that windows know. ValueError for what is none."""
    return clock.aligned(read_minute(text))


def with_query(address: str, **parameters: str | int | None) -> str:
    """The address with those of the parameters that have a value."""
    query = urlencode({name: value for name, value in parameters.items() if value not in (None, "")})
    return f"{address}?{query}" if query else address


def minute(at: datetime, queue_name: str = "") -> str:
    """The page of one minute: of a queue, or of all."""
    return minutes_of(queue_name)(at)


def minutes_of(queue_name: str) -> Callable[[datetime], str]:
    """Addresses of minutes' pages, many of them: the resolver is asked once."""
    before, after = _around_stamp()
    query = with_query("", queue=queue_name)
    return lambda at: f"{before}{stamp(at)}{after}{query}"


@cache
def _around_stamp() -> tuple[str, str]:
    before, _, after = reverse("minute", args=["STAMP"]).partition("STAMP")
    return before, after


def task(task_id: int) -> str:
    """The page of one task."""
    return reverse("task", args=[task_id])


def ids_of_task(task_id: int, at: datetime, minutes: int) -> str:
    """On a task's page, its IDs that have a place in the `minutes` from `at` on."""
    more = minutes if minutes > 1 else None
    return f"{with_query(task(task_id), minute=stamp(at), minutes=more)}#ids"


def queue(name: str) -> str:
    """The page of one queue."""
    return reverse("queue", args=[name])


def queue_operation(name: str, verb: str) -> str:
    """Where a queue is paused, resumed, braked; and where its blocked requests are released."""
    return (
        reverse("queue_release", args=[name])
        if verb == "release"
        else reverse("queue_act", args=[name, verb])
    )


def window(name: str, starts_at: datetime) -> str:
    """The page of one window of a queue."""
    return reverse("window", args=[name, stamp(starts_at)])


@lru_cache(maxsize=4096)
def drill_down(queue_name: str, starts_at: datetime | None = None, kind: str = "") -> str:
    """The list of a window's IDs of a kind, see scheduling/reports/drill_down.py.

    queue_name: or `*`. starts_at: None for late ones of any window.
    """
    window = None if starts_at is None else stamp(starts_at)
    return with_query(reverse("drill_down"), queue=queue_name, window=window, kind=kind)


@lru_cache(maxsize=4096)
def drill_down_minute(queue_name: str, at: datetime, kind: str = "") -> str:
    """The same of the IDs of one minute."""
    return with_query(reverse("drill_down"), queue=queue_name, minute=stamp(at), kind=kind)


@lru_cache(maxsize=1024)
def drill_down_between(queue_name: str, begin: datetime, end: datetime, kind: str = "") -> str:
    """The same of the minutes from `begin` until `end`, such as a day's."""
    span = {"from": stamp(begin), "to": stamp(end), "kind": kind}
    return with_query(reverse("drill_down"), queue=queue_name, **span)
