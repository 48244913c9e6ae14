"""Windows and their minutes: read-only, since everything in them follows from tasks."""

from datetime import UTC

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from scheduling import models, store
from scheduling.core import clock

from .base import ByKey, LinkFilter, ReadOnly, Rows, TabularInline, link, on_dashboard, page_of

# The key of a page puts the time before the queue; a window's own key puts the queue first.
QUEUE_BITS = 13


class QueueFilter(LinkFilter):
    title = "queue"
    parameter_name = "queue"

    def describe(self, value: str) -> str:
        return models.Queue.objects.filter(pk=self.number()).values_list("name", flat=True).first() or value

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        return queryset.filter(queue=self.number()) if self.value() else None


class BucketInline(ReadOnly, TabularInline):
    model = models.Bucket
    template = "admin/scheduling/minutes.html"
    # The template reads the rows themselves.
    fields = ()
    extra = 0


@admin.register(models.Window)
class WindowAdmin(ReadOnly, ByKey):
    list_display = ("starts", "runs", "queue_", "label", "state", "totalled_at")
    list_filter = (QueueFilter,)
    list_select_related = ("queue",)
    search_help_text = "The start, such as 2026-11-25 12:15, in your time zone."
    key_order = ("-starts_at", "-pk")
    fields = ("starts", "runs", "queue_", "label", "state", "version", "totalled_at", "receipt")
    readonly_fields = ("starts", "runs", "queue_", "label", "state")
    inlines = (BucketInline,)

    def key_of(self, window: models.Window) -> int:
        quarters = (window.starts_at - clock.EPOCH) // clock.QUARTER
        return quarters << QUEUE_BITS | window.queue_id

    def rows_after(self, queryset: Rows, key: int) -> Rows:
        starts_at = clock.EPOCH + (key >> QUEUE_BITS) * clock.QUARTER
        queue_id = key & (1 << QUEUE_BITS) - 1
        return queryset.filter(Q(starts_at__lt=starts_at) | Q(starts_at=starts_at, queue__lt=queue_id))

    def search(self, queryset: Rows, text: str) -> Rows:
        try:
            starts_at = parse_datetime(text)
        except ValueError:
            starts_at = None
        if starts_at is None:
            return queryset.none()
        aware = starts_at if timezone.is_aware(starts_at) else timezone.make_aware(starts_at)
        return queryset.filter(starts_at=clock.quarter_start(aware))

    @admin.display(description="accepts lists from")
    def starts(self, window: models.Window) -> str:
        return f"{timezone.localtime(window.starts_at):%Y-%m-%d %H:%M}"

    @admin.display(description="runs from")
    def runs(self, window: models.Window) -> str:
        return f"{timezone.localtime(clock.runs_at(window.starts_at)):%Y-%m-%d %H:%M}"

    @admin.display(description="queue")
    def queue_(self, window: models.Window) -> str:
        return link(page_of(window.queue), window.queue)

    @admin.display(description="state")
    def state(self, window: models.Window) -> str:
        return str(window.state_at(store.now()))

    def related_links(self, request: HttpRequest, window: models.Window) -> list[tuple[str, str]]:
        stamp = f"{window.starts_at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
        return [
            ("Page on the dashboard", on_dashboard("window", window.queue.name, stamp)),
            ("Queue", page_of(window.queue)),
        ]
