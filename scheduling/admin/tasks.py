"""Tasks: renamed, given another list, cancelled. One that is there stays there: its record is kept."""

from datetime import datetime

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode

from scheduling import models, store
from scheduling.core.errors import Refused
from scheduling.models import TaskState
from scheduling.parsing.errors import ReadingError
from scheduling.tasks import bulk_cancel, edits

from . import replacing
from .base import (
    ByKey,
    Chosen,
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

VIEWERS_DO_NOT = "Your role is viewer: acting takes the role operator."
# Ticked rows travel in an address.
MOST_TICKED = 100


class StateFilter(Chosen):
    title = parameter_name = "state"

    def lookups(self, request, model_admin):
        return TaskState.choices

    def queryset(self, request, queryset):
        return queryset.in_state(self.value(), store.now()) if self.value() else None


class NameForm(forms.ModelForm):
    class Meta:
        model = models.Task
        fields = ("name",)


class ConfirmForm(forms.Form):
    """What is asked before a cancel: for one task nothing, for several their number, typed."""

    number = forms.CharField(label="How many tasks?")

    def __init__(self, *args, expected: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        if expected == 1:
            del self.fields["number"]

    def clean_number(self) -> str:
        if whole_number(self.cleaned_data["number"].replace(",", "").strip()) != self.expected:
            raise forms.ValidationError(f"Type {self.expected:,} to go on.")
        return self.cleaned_data["number"]


@admin.register(models.Task)
class TaskAdmin(ByKey):
    list_display = ("id", "name", "queue_", "state", "ids", "waiting", "succeeded", "failed", "created_at",
                    "created_by", "page")  # fmt: skip
    list_display_links = ("id", "name")
    list_filter = (StateFilter, QueueFilter)
    list_select_related = ("queue",)
    list_per_page = 50
    search_help_text = "The number of a task, or how a name begins."
    actions = ("cancel_ticked",)
    shown = ("queue_", "state", "ids", "repeats", "waiting", "in_flight", "succeeded", "failed", "cancelled",
             "expired", "first_minute_at", "last_minute_at", "not_before_at", "expires_at", "created_at",
             "created_by", "placed_at", "cancelled_at", "finished_at", "version")  # fmt: skip
    fields = ("name", *shown)
    readonly_fields = shown

    def get_form(self, request: HttpRequest, obj: models.Task | None = None, change: bool = False, **kwargs):
        return (
            NameForm if self.has_change_permission(request, obj) else super().get_form(request, obj, **kwargs)
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A list is read as it arrives and shown before it is placed: that is the upload page.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Task | None = None) -> bool:
        # What was sent was sent, and its record stays: a task is cancelled.
        return False

    def search(self, queryset, text):
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
        return link(on_dashboard("task", task.pk), "Its page")

    def render_change_form(self, request, context, *args, obj=None, **kwargs):
        context["elsewhere"] = [
            ("Its page on the dashboard", on_dashboard("task", obj.pk)),
            ("Its IDs", list_of(models.Assignment, task=obj.pk)),
            ("Its queue", page_of(obj.queue)),
        ]
        acts = [
            ("Replace its list", reverse("admin:scheduling_task_replace", args=[obj.pk])),
            ("Cancel it", cancel_url(ids=str(obj.pk))),
        ]
        if why := self._why_not(request, obj):
            context["cannot"] = [(name, why) for name, _ in acts]
        else:
            context["elsewhere"] += acts
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def _why_not(self, request: HttpRequest, task: models.Task) -> str:
        """Why its list can be neither replaced nor cancelled; empty if it can."""
        if not self.has_change_permission(request, task):
            return VIEWERS_DO_NOT
        if task.cancelled_at is not None:
            return "It is cancelled."
        return "" if task.finished_at is None else "It is done."

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        query = {name: value for name, value in request.GET.items() if name in ("state", "queue", "q")}
        more = {
            "cancel_url": cancel_url(**query) if self.has_change_permission(request) else "",
            "why_not": VIEWERS_DO_NOT,
        }
        return super().changelist_view(request, {**more, **(extra_context or {})})

    # --- What it does ---

    def get_urls(self):
        view = self.admin_site.admin_view
        return [
            path("cancel/", view(self.cancel_view), name="scheduling_task_cancel"),
            path("<object_id>/replace/", view(self.replace_view), name="scheduling_task_replace"),
            *super().get_urls(),
        ]

    def save_model(self, request: HttpRequest, obj: models.Task, form: forms.ModelForm, change: bool) -> None:
        if form.has_changed():
            edits.rename(obj, obj.name, by=actor_of(request), at=store.now())

    @admin.action(description="Cancel", permissions=["change"])
    def cancel_ticked(self, request: HttpRequest, queryset) -> HttpResponse:
        ticked = request.POST.getlist("_selected_action")[:MOST_TICKED]
        return HttpResponseRedirect(cancel_url(ids=",".join(ticked)))

    def cancel_view(self, request: HttpRequest) -> HttpResponse:
        """Ask, with the number, and cancel all that match what the address says."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        meant = self._matching(request)
        found = bulk_cancel.count(meant)
        form = ConfirmForm(request.POST if request.method == "POST" else None, expected=found.tasks)
        if request.method == "POST" and found.tasks and form.is_valid():
            done, left = bulk_cancel.cancel(meant, by=actor_of(request), now=store.now)
            rest = f"; {left:,} more are cancelled by a job: the list shows how far it is" if left else ""
            messages.success(request, f"{done:,} {'task is' if done == 1 else 'tasks are'} cancelled{rest}.")
            return HttpResponseRedirect(reverse("admin:scheduling_task_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Cancel tasks",
            "found": found,
            "form": form,
            "first_tasks": meant.tasks()[:10],
            "meant": meant,
            "queue": models.Queue.objects.filter(pk=meant.queue_id).first(),
            "seen": f"{meant.at.isoformat()} {meant.up_to_id}",
            "back": reverse("admin:scheduling_task_changelist"),
        }
        return TemplateResponse(request, "admin/scheduling/task/cancel.html", context)

    def _matching(self, request: HttpRequest) -> bulk_cancel.Matching:
        """What the address asks for; once it was asked about, as it was then. 404 for nonsense."""
        query = request.GET
        if not set(query) <= {"state", "queue", "q", "ids"}:
            raise Http404
        at, newest = _seen(request)
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
        """Give a task another list: what is in both keeps its place."""
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


def _seen(request: HttpRequest) -> tuple[datetime, int]:
    """When the question was asked, and the newest task of that moment: later ones aren't meant."""
    if request.method == "POST":
        at, _, newest = request.POST.get("seen", "").partition(" ")
        try:
            return datetime.fromisoformat(at), _number(newest)
        except ValueError:
            raise Http404 from None
    newest = models.Task.objects.order_by("-pk").values_list("pk", flat=True).first()
    return store.now(), newest or 0
