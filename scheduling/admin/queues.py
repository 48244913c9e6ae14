"""Queues: made and changed through their verbs, so that rules and activity log hold."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest

from scheduling import models, store
from scheduling.core.errors import AlreadyPaused, BadFields, NotPaused
from scheduling.queues import operations, validation

from .base import ByKey, actor_of, by_number_or_name, link, list_of, on_dashboard


class QueueForm(forms.ModelForm):
    """The fields of a queue, checked by the rules that every face shares."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)
    webhook_secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="whsec_ and 24 to 64 bytes in base64. It is never shown; empty: as it is.",
    )
    forget_secret = forms.BooleanField(label="Send unsigned: forget the secret", required=False)
    webhook_method = forms.ChoiceField(
        choices=[(method, method) for method in validation.METHODS], initial="POST"
    )
    python_callable = forms.ChoiceField(
        required=False, help_text="Of those that the setting PYTHON_HANDLERS allows."
    )

    class Meta:
        model = models.Queue
        fields = ("name", *validation.FIELDS)
        help_texts = {
            "rpm": "Requests a minute. Changed on the queue's page on the dashboard, which shows the effect first.",
            "overflow": "Disperse: rpm is a soft cap. Carry over: it is a hard one.",
            "max_peak": "A list that would fill a minute past this has to be confirmed. Empty: none.",
            "headroom": "Requests a minute that lists leave free, for late IDs and retries.",
            "late_after_seconds": "With the policy expire: how late an ID may be and still be sent.",
            "breaker_threshold": "Failures in a row after which requests are held. Empty: never.",
            "callback_url": "Called once when a task is done.",
        }

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen_version"] = self.instance.version
        if "python_callable" in self.fields:
            named = {*settings.PYTHON_HANDLERS, self.instance.python_callable} - {""}
            self.fields["python_callable"].choices = [("", "none"), *((path, path) for path in sorted(named))]

    def changes(self) -> dict[str, Any]:
        """What is to change, by the names of queue_fields."""
        changed = {name: self.cleaned_data[name] for name in self.changed_data if name in validation.FIELDS}
        if self.cleaned_data.get("forget_secret"):
            changed["webhook_secret"] = ""
        elif not changed.get("webhook_secret"):
            changed.pop("webhook_secret", None)
        if changed.get("webhook_headers", "") is None:
            changed["webhook_headers"] = {}
        return changed

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors:
            stored = models.Queue.objects.filter(pk=self.instance.pk).first() or models.Queue()
            try:
                validation.check(self.changes())
                validation.check_together(stored, self.changes())
            except BadFields as error:
                for name, reason in error.reasons.items():
                    self.add_error(
                        name if name in self.fields else None, f"{reason[:1].upper()}{reason[1:]}."
                    )
        return cleaned


@admin.register(models.Queue)
class QueueAdmin(ByKey):
    form = QueueForm
    list_display = ("name", "rpm", "overflow", "handler", "paused", "brake_per_minute", "tasks", "windows")
    search_help_text = "The number of a queue, or how its name begins."
    actions = ("pause", "resume")
    shown = ("paused_at", "brake_per_minute", "created_at", "version")
    readonly_fields = shown

    def get_fields(self, request: HttpRequest, obj: models.Queue | None = None) -> list[str]:
        names = list(validation.FIELDS)
        if not self.has_change_permission(request, obj):
            # Both may hold what opens somebody else's door.
            return [
                "name",
                *(n for n in names if n not in ("webhook_secret", "webhook_headers")),
                *self.shown,
            ]
        names.insert(names.index("webhook_secret") + 1, "forget_secret")
        return ["name", *names, *(self.shown if obj else ()), "seen_version"]

    def get_readonly_fields(self, request: HttpRequest, obj: models.Queue | None = None) -> tuple[str, ...]:
        # Its name stands in addresses and in other people's programs; a change of rpm shows its effect first,
        # which only the dashboard can.
        return (*self.shown, "name", "rpm") if obj else self.shown

    def has_delete_permission(self, request: HttpRequest, obj: models.Queue | None = None) -> bool:
        # Its tasks keep their records, and its number is part of their places.
        return False

    def search(self, queryset, text):
        return by_number_or_name(queryset, text)

    def save_model(self, request: HttpRequest, obj: models.Queue, form: QueueForm, change: bool) -> None:
        by, changes = actor_of(request), form.changes()
        if change:
            seen = form.cleaned_data["seen_version"]
            kept = operations.update(obj, changes, by=by, now=store.now, if_version=seen) if changes else obj
        else:
            kept = operations.create(name=obj.name, fields=changes, by=by, at=store.now())
        obj.__dict__.update(kept.__dict__)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, queryset) -> None:
        self._each(request, queryset, operations.pause, AlreadyPaused, "paused")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset) -> None:
        self._each(request, queryset, operations.resume, NotPaused, "resumed")

    def _each(self, request, queryset, verb, already, word: str) -> None:
        for queue in queryset:
            try:
                verb(queue, by=actor_of(request), at=store.now())
            except already as error:
                messages.info(request, str(error))
            else:
                messages.success(request, f"{queue} is {word}.")

    @admin.display(description="paused", boolean=True)
    def paused(self, queue: models.Queue) -> bool:
        return queue.paused

    @admin.display(description="tasks")
    def tasks(self, queue: models.Queue) -> str:
        return link(list_of(models.Task, queue=queue.pk), "Its tasks")

    @admin.display(description="windows")
    def windows(self, queue: models.Queue) -> str:
        return link(list_of(models.Window, queue=queue.pk), "Its windows")

    def render_change_form(self, request, context, *args, obj=None, **kwargs):
        if obj is not None:
            context["elsewhere"] = [
                (
                    "Its page on the dashboard: rpm is changed there, with its effect",
                    on_dashboard("queue", obj.name),
                ),
                ("Its board", on_dashboard("board", queue=obj.name)),
                ("Its tasks", list_of(models.Task, queue=obj.pk)),
                ("Its windows", list_of(models.Window, queue=obj.pk)),
            ]
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)
