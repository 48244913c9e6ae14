"""django-q2's own tables: read-only, and for admins alone.

Their rows name callables, or contain pickles that run code when they are read. So django-q2's own admin pages,
which add, edit and resubmit, are closed, and ours never read what is pickled.
"""

from datetime import timedelta

from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from scheduling import models, store
from scheduling.core import clock
from scheduling.jobqueue import tables
from scheduling.jobqueue.tables import Failure, QueuedJob, Schedule, Success

from .base import ByKey, ReadOnly, Rows

tables.close_stock_admin(admin.site)
# What an operator may do follows from their role alone, so groups would have no effect.
admin.site.unregister(Group)


class Results(ReadOnly, ByKey):
    """Finished jobs. Arguments and results are pickles, and are not read."""

    list_display = ("name", "group", "func", "cluster", "started", "stopped", "attempt_count")
    fields = ("id", "name", "group", "func", "cluster", "started", "stopped", "success", "attempt_count")
    search_help_text = "The exact name of a job."
    # Their key is random text.
    key_order = ("-stopped", "-id")
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> Rows:
        return super().get_queryset(request).defer("args", "kwargs", "result")

    def search(self, queryset: Rows, text: str) -> Rows:
        return queryset.filter(name=text)

    def key_of(self, row: Success | Failure) -> int:
        return clock.epoch_microseconds(row.stopped)

    def rows_after(self, queryset: Rows, key: int) -> Rows:
        return queryset.filter(stopped__lt=clock.EPOCH + timedelta(microseconds=key))


@admin.register(Success)
class SuccessAdmin(Results):
    pass


@admin.register(Failure)
class FailureAdmin(Results):
    pass


@admin.register(Schedule)
class ScheduleAdmin(ReadOnly, ByKey):
    list_display = ("name", "func", "cron", "next_run", "cluster", "repeats")
    fields = ("name", "func", "schedule_type", "cron", "next_run", "cluster", "repeats")


@admin.register(QueuedJob)
class QueuedAdmin(ReadOnly, ByKey):
    list_display = ("id", "key", "lock", "state")
    fields = ("key", "lock", "state")
    readonly_fields = ("state",)

    def get_queryset(self, request: HttpRequest) -> Rows:
        return super().get_queryset(request).defer("payload")

    @admin.display(description="state")
    def state(self, row: QueuedJob) -> str:
        return "due" if row.lock is None or row.lock <= store.now() else "due, or claimed until"


@admin.register(models.Heartbeat)
class HeartbeatAdmin(ReadOnly, ByKey):
    list_display = (
        "cluster",
        "host",
        "pid",
        "workers",
        "clock_offset_ms",
        "round_trip_ms",
        "started_at",
        "seen_at",
    )
