"""Addresses that are made in more than one place, and how a time stands in one."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from django.urls import reverse

STAMP = "%Y-%m-%dT%H:%MZ"


def stamp(at: datetime) -> str:
    """A minute as it stands in an address: 2026-11-25T12:17Z."""
    return at.astimezone(UTC).strftime(STAMP)


def read_stamp(text: str) -> datetime:
    """ValueError for what is no such time."""
    return datetime.strptime(text, STAMP).replace(tzinfo=UTC)


def with_query(address: str, **parameters: str | int | None) -> str:
    """The address with those of the parameters that have a value."""
    query = urlencode({name: value for name, value in parameters.items() if value not in (None, "")})
    return f"{address}?{query}" if query else address


def minute(at: datetime, queue_name: str = "") -> str:
    """The page of one minute: of a queue, or of all."""
    return with_query(reverse("minute", args=[stamp(at)]), queue=queue_name)


def task(task_id: int) -> str:
    """The page of one task."""
    return reverse("task", args=[task_id])


def queue(name: str) -> str:
    """The page of one queue."""
    return reverse("queue", args=[name])
