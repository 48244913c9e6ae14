"""The rows of django-q2's schedules, which only code creates and restores.

A Schedule row can run any callable, and one bad row stops all of them. So unknown rows are deleted, and
edited rows are restored.

Nothing that must be on time waits for a schedule: it may fire 30 s late.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import connection
from django_q.models import Schedule

from scheduling import store
from scheduling.core import clock

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WantedSchedule:
    """One schedule. period: the longest time between two runs."""

    name: str
    func: str
    cron: str
    period: timedelta

    @property
    def columns(self) -> dict[str, object]:
        return {
            "func": self.func,
            "schedule_type": Schedule.CRON,
            "cron": self.cron,
            "minutes": None,
            "repeats": -1,
            "hook": None,
            "args": None,
            "kwargs": None,
            "cluster": None,
            "intended_date_kwarg": None,
        }


WANTED = (
    WantedSchedule("quarter-hour", "scheduling.jobs.process_quarter", "0,15,30,45 * * * *", clock.QUARTER),
    WantedSchedule("sweep", "scheduling.jobs.sweep", "* * * * *", clock.MINUTE),
    WantedSchedule("nightly", "scheduling.jobs.nightly", "17 3 * * *", timedelta(days=1)),
)
# The lock, on PostgreSQL, of processes that restore the rows at the same time.
_LOCK = 7_211_001


def missing() -> list[str]:
    """Return the names of the schedules that don't exist."""
    existing = set(Schedule.objects.values_list("name", flat=True))
    return [schedule.name for schedule in WANTED if schedule.name not in existing]


def ensure(*, at: datetime) -> bool:
    """Restore the rows; return whether anything was wrong. Cheap if nothing is."""
    if _right(at):
        return False
    with store.write():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if _right(at):
            return False
        strangers = Schedule.objects.exclude(name__in=[schedule.name for schedule in WANTED])
        for name, func in strangers.values_list("name", "func"):
            log.warning("schedule_deleted", schedule=name, callable=func)
        strangers.delete()
        for schedule in WANTED:
            _set_right(schedule, at)
    return True


def _set_right(schedule: WantedSchedule, at: datetime) -> None:
    rows = list(Schedule.objects.filter(name=schedule.name).order_by("pk"))
    Schedule.objects.filter(pk__in=[row.pk for row in rows[1:]]).delete()
    if rows and _is_right(rows[0], schedule, at):
        return
    if rows:
        log.warning("schedule_set_right", schedule=schedule.name)
    # A changed cron leaves next_run as it was; due at once is right for work that asks what is left to do.
    columns = {**schedule.columns, "next_run": at}
    if rows:
        Schedule.objects.filter(pk=rows[0].pk).update(**columns)
    else:
        Schedule.objects.create(name=schedule.name, **columns)


def _right(at: datetime) -> bool:
    rows = {row.name: row for row in Schedule.objects.all()[: len(WANTED) + 1]}
    return Schedule.objects.count() == len(WANTED) and all(
        schedule.name in rows and _is_right(rows[schedule.name], schedule, at) for schedule in WANTED
    )


def _is_right(row: Schedule, schedule: WantedSchedule, at: datetime) -> bool:
    return (
        all(getattr(row, column) == value for column, value in schedule.columns.items())
        and row.next_run is not None
        and row.next_run <= at + schedule.period
    )
