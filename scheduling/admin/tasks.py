"""Tasks: they can be renamed, replaced and cancelled, but not deleted, since their record is kept."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode

from scheduling import models, store
from scheduling.core.errors import Refused
from scheduling.models import TaskState
from scheduling.parsing.errors import ReadingError
from scheduling.tasks import bulk_cancel, edits, holds

from . import replacing
from .base import (
    ByKey,
    ChoiceFilter,
    ModelAdmin,
    ModelForm,
    Rows,
    actor_of,
    by_number_or_name,
    counter,
    link,
    list_of,
    on_dashboard,
    page_of,
    whole_number,
)
from .windows import QueueFilter

VIEWERS_DO_NOT = "Your role is viewer; this requires the role operator."
# Ticked rows travel in an address.
MOST_TICKED = 100


class StateFilter(ChoiceFilter):
    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in TaskState]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        state = self.value()
        return cast(models.TaskQuerySet, queryset).in_state(state, store.now()) if state else None


class NameForm(ModelForm):
    class Meta:
        model = models.Task
        fields = ("name",)


class ConfirmForm(forms.Form):
    """The confirmation of a cancel: for one task none, for several their number, typed."""

    number = forms.CharField(label="How many tasks?")

    def __init__(self, *args: Any, expected: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        if expected == 1:
            del self.fields["number"]

    def clean_number(self) -> str:
        typed: str = self.cleaned_data["number"]
        if whole_number(typed.replace(",", "").strip()) != self.expected:
            raise forms.ValidationError(f"To confirm, type {self.expected:,}.")
        return typed


@admin.register(models.Task)
class TaskAdmin(ByKey):
    list_display = ("id", "name", "queue_", "state", "ids", "waiting", "succeeded", "failed", "created_at",
                    "created_by", "page")  # fmt: skip
    list_display_links = ("id", "name")
    list_filter = (StateFilter, QueueFilter)
    list_select_related = ("queue",)
    list_per_page = 50
    search_help_text = "The number of a task, or how a name begins."
    actions = ("cancel_ticked", "hold_ticked", "continue_ticked")
    shown = ("queue_", "state", "ids", "repeats", *(status.word for status in models.Status),
             "first_minute_at", "last_minute_at", "not_before_at", "expires_at", "deadline_at", "created_at",
             "created_by", "placed_at", "max_failed_percent", "min_finished", "canary_ids",
             "canary_percent", "canary_state", "canary_count", "canary_succeeded_count", "canary_decided_at",
              "held_at", "hold_reason", "cancelled_at", "finished_at", "version")  # fmt: skip
    fields = ("name", *shown)
    readonly_fields = shown

    def get_form(
        self, request: HttpRequest, obj: models.Task | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm]:
        if self.has_change_permission(request, obj):
            return NameForm
        return super().get_form(request, obj, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A list is read as it arrives and shown before it is placed: that is the upload page.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Task | None = None) -> bool:
        # What was sent was sent, and its record stays: a task is cancelled.
        return False

    def search(self, queryset: Rows, text: str) -> Rows:
        return by_number_or_name(queryset, text)

    # --- What it shows ---

    ids = counter("ids_count")
    waiting = counter("waiting_count")
    succeeded = counter("succeeded_count")
    failed = counter("failed_count")
    repeats = counter("repeats_count")
    in_flight = counter("in_flight_count")
    cancelled = counter("cancelled_count")
    expired = counter("expired_count")

    @admin.display(description="queue")
    def queue_(self, task: models.Task) -> str:
        return link(page_of(task.queue), task.queue)

    @admin.display(description="state")
    def state(self, task: models.Task) -> str:
        return task.state_at(store.now()).label

    @admin.display(description="dashboard")
    def page(self, task: models.Task) -> str:
        return link(on_dashboard("task", task.pk), "Open")

    def related_links(self, request: HttpRequest, task: models.Task) -> list[tuple[str, str]]:
        links = [
            ("Page on the dashboard", on_dashboard("task", task.pk)),
            ("IDs", list_of(models.Assignment, task=task.pk)),
            ("Queue", page_of(task.queue)),
        ]
        return links if self._why_not(request, task) else [*links, *self._operations(task)]

    def unavailable_links(self, request: HttpRequest, task: models.Task) -> list[tuple[str, str]]:
        why = self._why_not(request, task)
        return [(name, why) for name, _ in self._operations(task)] if why else []

    def _operations(self, task: models.Task) -> list[tuple[str, str]]:
        return [
            ("Replace the list", reverse("admin:scheduling_task_replace", args=[task.pk])),
            ("Cancel", cancel_url(ids=str(task.pk))),
        ]

    def _why_not(self, request: HttpRequest, task: models.Task) -> str:
        """Return why the task can be neither replaced nor cancelled; empty if it can."""
        if not self.has_change_permission(request, task):
            return VIEWERS_DO_NOT
        if task.cancelled_at is not None:
            return "It is cancelled."
        return "" if task.finished_at is None else "It is done."

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        query = {name: request.GET[name] for name in ("state", "queue", "q") if name in request.GET}
        more = {
            "cancel_url": cancel_url(**query) if self.has_change_permission(request) else "",
            "why_not": VIEWERS_DO_NOT,
        }
        return super().changelist_view(request, {**more, **(extra_context or {})})

    # --- What it does ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("cancel/", view(self.cancel_view), name="scheduling_task_cancel"),
            path("<object_id>/replace/", view(self.replace_view), name="scheduling_task_replace"),
            *super().get_urls(),
        ]

    def save_model(self, request: HttpRequest, obj: models.Task, form: ModelForm, change: bool) -> None:
        if form.has_changed():
            edits.rename(obj, obj.name, by=actor_of(request), at=store.now())

    @admin.action(description="Cancel", permissions=["change"])
    def cancel_ticked(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        ticked = request.POST.getlist("_selected_action")[:MOST_TICKED]
        return HttpResponseRedirect(cancel_url(ids=",".join(ticked)))

    @admin.action(description="Put on hold", permissions=["change"])
    def hold_ticked(self, request: HttpRequest, queryset: Rows) -> None:
        self._each(request, queryset, holds.hold, "put on hold")

    @admin.action(description="Continue", permissions=["change"])
    def continue_ticked(self, request: HttpRequest, queryset: Rows) -> None:
        self._each(request, queryset, holds.resume, "continued")

    def _each(
        self, request: HttpRequest, queryset: Rows, operation: Callable[..., models.Task], done: str
    ) -> None:
        for task in queryset.order_by("pk")[:MOST_TICKED]:
            try:
                operation(task, by=actor_of(request), now=store.now)
                messages.success(request, f"{task} is {done}.")
            except Refused as error:
                messages.warning(request, f"{task}: {error}")

    def cancel_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for confirmation with the number, and cancel all tasks that match the address."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        matching = self._matching(request)
        counts = bulk_cancel.count(matching)
        form = ConfirmForm(request.POST if request.method == "POST" else None, expected=counts.tasks)
        if request.method == "POST" and counts.tasks and form.is_valid():
            done, remaining = bulk_cancel.cancel(matching, by=actor_of(request), now=store.now)
            rest = (
                f"; {remaining:,} more are cancelled by a job: the list shows how far it is"
                if remaining
                else ""
            )
            messages.success(request, f"{done:,} {'task is' if done == 1 else 'tasks are'} cancelled{rest}.")
            return HttpResponseRedirect(reverse("admin:scheduling_task_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Cancel tasks",
            "counts": counts,
            "form": form,
            "first_tasks": matching.tasks()[:10],
            "matching": matching,
            "queue": models.Queue.objects.filter(pk=matching.queue_id).first() if matching.queue_id else None,
            "seen": f"{matching.at.isoformat()} {matching.up_to_id}",
            "back": reverse("admin:scheduling_task_changelist"),
        }
        return TemplateResponse(request, "admin/scheduling/task/cancel.html", context)

    def _matching(self, request: HttpRequest) -> bulk_cancel.Matching:
        """Return the tasks that the address means: on POST, as when the question was shown. Raises Http404."""
        query = request.GET
        if not set(query) <= {"state", "queue", "q", "ids"}:
            raise Http404
        at, newest = _snapshot_of(request)
        search = query.get("q", "").strip()
        ids = None
        if query.get("ids"):
            ids = tuple(_number(text) for text in query["ids"].split(",")[:MOST_TICKED])
        elif whole_number(search) is not None:
            ids, search = (_number(search),), ""
        if query.get("state", "") not in ("", *TaskState.values):
            raise Http404
        return bulk_cancel.Matching(
            at=at,
            up_to_id=newest,
            queue_id=_number(query["queue"]) if query.get("queue") else None,
            state=query.get("state", ""),
            name=search,
            ids=ids,
        )

    def replace_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Replace a task's list. IDs that are in both lists keep their places."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        task = get_object_or_404(models.Task, pk=_number(object_id))
        form = replacing.ListForm(request.POST or None, initial={"version": task.version})
        if request.method == "POST" and form.is_valid():
            try:
                replaced = replacing.replace(task, form.cleaned_data, by=actor_of(request))
            except (Refused, ReadingError) as error:
                form.add_error(None, str(error))
            except forms.ValidationError as error:
                form.add_error("payload", error)
            else:
                messages.success(request, replacing.words(replaced))
                return HttpResponseRedirect(page_of(task))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Replace the list of {task}",
            "task": task,
            "form": form,
            "back": page_of(task),
        }
        return TemplateResponse(request, "admin/scheduling/task/replace.html", context)


def cancel_url(**query: str) -> str:
    return f"{reverse('admin:scheduling_task_cancel')}?{urlencode(query)}"


def _number(text: str) -> int:
    number = whole_number(text.strip())
    if number is None:
        raise Http404
    return number


def _snapshot_of(request: HttpRequest) -> tuple[datetime, int]:
    """Return when the question was asked, and the newest task at that moment. Later tasks are not included."""
    if request.method == "POST":
        at, _, newest = request.POST.get("seen", "").partition(" ")
        try:
            return datetime.fromisoformat(at), _number(newest)
        except ValueError:
            raise Http404 from None
    newest_task = models.Task.objects.order_by("-pk").values_list("pk", flat=True).first()
    return store.now(), newest_task or 0
