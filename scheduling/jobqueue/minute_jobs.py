"""Arm minutes: queue the jobs that will run them, in the transaction that makes them needed.

A minute is armed once, by the first process to try; its jobs are hints, and a process that finds a running armed minute
without a worker queues one again (scheduling.upkeep.reconciliation).
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from scheduling import models
from scheduling.core import clock
from scheduling.jobqueue import cluster
from scheduling.store import later
from scheduling.store.prepared import PreparedQuery

# A minute worker must have started before the bucket is sealed; the cluster's poll and a busy machine take some
# tenths of a second.
WORKER_AHEAD = timedelta(seconds=clock.SEAL_SECONDS + 2)
_armed = PreparedQuery(
    lambda first, last: models.Minute.objects.filter(pk__range=(first, last)).values_list("pk"), int, int
)
# Returns which minutes from the first to the last are armed.
Armed = Callable[[int, int], set[int]]


def find_armed(first: int, last: int) -> set[int]:
    """Return which of the minutes (in minutes since 1970) from one to another are armed."""
    return {number for (number,) in _armed.values(first, last)}


def read_armed(first: int, last: int, then: Callable[[set[int]], None]) -> None:
    """Read the same, where statements are put off with the next one that is waited for."""
    rows = models.Minute.objects.filter(pk__range=(first, last)).only("pk")
    later.read(rows, lambda minutes: then({minute.pk for minute in minutes}))


def arm_windows(starts: Iterable[datetime], *, at: datetime, armed: Armed = find_armed) -> None:
    """Arm the windows (the starts of their own quarters) that are open or run.

    Windows further ahead are armed when they open.
    """
    for starts_at in sorted(set(starts)):
        if clock.state(starts_at, at) != clock.WindowState.FUTURE:
            arm(clock.minutes(starts_at), at=at, armed=armed)


def arm(minutes: Iterable[datetime], *, at: datetime, armed: Armed = find_armed) -> int:
    """Arm the minutes (their starts) that haven't begun at `at`; return how many were not yet armed.

    Call it in the transaction that makes them needed: then both are there, or neither.
    """
    numbers = sorted({clock.minute_number(minute) for minute in minutes if minute > at})
    if not numbers:
        return 0
    armed_numbers = armed(numbers[0], numbers[-1])
    new = _insert([number for number in numbers if number not in armed_numbers], at)
    for number in new:
        enqueue_workers(number, settings.SEATS)
    return len(new)


def arm_at_once(number: int, *, at: datetime) -> bool:
    """Arm a minute (in minutes since 1970) that may run already; return whether it wasn't yet."""
    if models.Minute.objects.filter(pk=number).exists() or not _insert([number], at):
        return False
    enqueue_workers(number, settings.SEATS)
    return True


def enqueue_workers(number: int, count: int, *, not_on: str = "") -> None:
    """Queue workers of a minute; each starts a little before the minute, or at once when that has passed.

    not_on: a host that leaves them to others.
    """
    for index in range(count):
        cluster.enqueue(
            "scheduling.jobs.seat",
            number,
            index,
            *([not_on] if not_on else []),
            cluster=cluster.MINUTES,
            not_before=clock.minute_of(number) - WORKER_AHEAD,
        )


def _insert(numbers: list[int], at: datetime) -> list[int]:
    """Insert the minutes that aren't there, ascending (two that arm the same ones never wait in a circle)."""
    if not numbers:
        return []
    armed_at = connection.ops.adapt_datetimefield_value(at)
    rows = [value for number in numbers for value in (number, armed_at, settings.SEATS)]
    with connection.cursor() as cursor:
        # RETURNING tells which of two that race was first.
        cursor.execute(
            "INSERT INTO scheduling_minute (id, armed_at, seats) VALUES "
            + ", ".join(["(%s, %s, %s)"] * len(numbers))
            + " ON CONFLICT DO NOTHING RETURNING id",
            rows,
        )
        return [number for (number,) in cursor.fetchall()]
