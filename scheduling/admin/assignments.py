"""Assignments: one ID of one task, looked up by the ID, by its task or by its minute."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join

from scheduling import models
from scheduling.core import keys
from scheduling.lists import external_ids, stored_lists
from scheduling.models import MoveReason

from .base import (
    ByKey,
    KeyList,
    LinkFilter,
    ReadOnly,
    Rows,
    link,
    list_of,
    on_dashboard,
    page_of,
    unknown_value,
    whole_number,
)


class TaskFilter(LinkFilter):
    title = "task"
    parameter_name = "task"

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        return queryset.filter(task=self.number()) if self.value() else None


class BucketFilter(LinkFilter):
    title = "minute"
    parameter_name = "bucket"

    def number(self) -> int:
        number = super().number()
        try:
            keys.window_of_bucket(number)
        except ValueError as error:
            raise unknown_value(str(self.parameter_name), self.value()) from error
        return number

    def describe(self, value: str) -> str:
        return minute_words(self.number())

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        if not self.value():
            return None
        first, last = keys.range_of_bucket(self.number())
        return queryset.filter(pk__gte=first, pk__lte=last)


class AssignmentList(KeyList):
    """Lists a task's IDs in the order of its list, since no index has them by their places."""

    def find(self, after: int | None, count: int) -> tuple[list[models.Assignment], int | None]:
        task_id = whole_number(self.params.get("task", ""))
        task = models.Task.objects.filter(pk=task_id).first() if task_id else None
        if task is None or self.query or "bucket" in self.params:
            return super().find(after, count)
        first = max(0, after or 0)
        users = stored_lists.ids_of(task.list_id, first, count)
        by_user = {row.user_id: row for row in self.queryset.filter(user_id__in=list(users))}
        rows = [by_user[user] for user in users if user in by_user]
        return rows, first + count if first + count < task.ids_count else None


@admin.register(models.Assignment)
class AssignmentAdmin(ReadOnly, ByKey):
    list_display = ("user_id_", "task_", "queue_", "minute", "state", "attempts", "request")
    list_display_links = None
    list_filter = (TaskFilter, BucketFilter)
    list_select_related = ("task", "task__queue")
    search_help_text = "The exact ID of a user."
    fields = (
        "user_id_", "task_", "queue_", "window_", "minute", "state", "attempts", "request", "moves",
        "answers",
    )  # fmt: skip
    readonly_fields = fields

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeyList]:
        return AssignmentList

    def search(self, queryset: Rows, text: str) -> Rows:
        number = external_ids.number_of_written(text)
        return queryset.filter(user_id=number) if number else queryset.none()

    @admin.display(description="ID")
    def user_id_(self, row: models.Assignment) -> str:
        # Of numbers that stand for themselves nothing is read.
        return link(page_of(row), external_ids.texts([row.user_id]).get(row.user_id, str(row.user_id)))

    @admin.display(description="task")
    def task_(self, row: models.Assignment) -> str:
        return link(page_of(row.task), row.task)

    @admin.display(description="queue")
    def queue_(self, row: models.Assignment) -> str:
        return link(page_of(row.task.queue), row.task.queue)

    @admin.display(description="window")
    def window_(self, row: models.Assignment) -> str:
        window = models.Window(pk=keys.window_of_bucket(row.bucket_id))
        return link(
            page_of(window), f"{timezone.localtime(keys.starts_at_of_window(window.pk)):%Y-%m-%d %H:%M}"
        )

    @admin.display(description="minute")
    def minute(self, row: models.Assignment) -> str:
        return link(list_of(models.Assignment, bucket=row.bucket_id), minute_words(row.bucket_id))

    @admin.display(description="state")
    def state(self, row: models.Assignment) -> str:
        return str(row.effective_status.label)

    @admin.display(description="last request")
    def request(self, row: models.Assignment) -> str:
        if row.started_after_ms is None:
            return self.get_empty_value_display()
        return f"{row.started_after_ms / 1000:.3f} s after the minute began"

    @admin.display(description="moves")
    def moves(self, row: models.Assignment) -> str:
        moves = models.Move.objects.filter(task_id=row.task_id, user_id=row.user_id).order_by("pk")
        return format_html_join(
            "", "<p>{} to {}, since {}</p>",
            (
                (minute_words(m.from_bucket_id), minute_words(m.to_bucket_id), MoveReason(m.reason).label)
                for m in moves
            ),
        ) or self.get_empty_value_display()  # fmt: skip

    @admin.display(description="unsuccessful responses")
    def answers(self, row: models.Assignment) -> str:
        attempts = models.Attempt.objects.filter(task_id=row.task_id, user_id=row.user_id).order_by(
            "number", "pk"
        )
        return format_html_join(
            "", "<p>{}. at {}: {} {} {}</p>",
            (
                (a.number, f"{timezone.localtime(a.started_at):%Y-%m-%d %H:%M:%S}", a.http_status or "",
                 a.error, a.answer)
                for a in attempts
            ),
        ) or self.get_empty_value_display()  # fmt: skip

    def related_links(self, request: HttpRequest, row: models.Assignment) -> list[tuple[str, str]]:
        return [
            ("User", page_of(models.User(pk=row.user_id))),
            ("History on the dashboard", on_dashboard("id", row.user_id)),
        ]


def minute_words(bucket_id: int) -> str:
    return f"{timezone.localtime(keys.minute_of_bucket(bucket_id)):%Y-%m-%d %H:%M}"
