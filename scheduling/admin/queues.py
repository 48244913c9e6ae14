"""Queues: created and changed by the same operations as everywhere, with the same rules and activity log."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest

from scheduling import models, store
from scheduling.core.errors import AlreadyPaused, BadFields, NotPaused
from scheduling.queues import operations, validation

from .base import ByKey, ModelForm, Rows, actor_of, by_number_or_name, link, list_of, on_dashboard


class QueueForm(ModelForm):
    """The fields of a queue, checked by the rules that all interfaces share."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)
    webhook_secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="whsec_ and 24 to 64 bytes in base64. It is never shown. Leave it empty to keep the current one.",
    )
    oauth_client_secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="It is never shown. Leave it empty to keep the current one.",
    )
    forget_secret = forms.BooleanField(label="Send unsigned: remove the secret", required=False)
    webhook_method = forms.ChoiceField(
        choices=[(method, method) for method in validation.METHODS], initial="POST"
    )
    python_callable = forms.ChoiceField(
        required=False, help_text="One of those that the setting PYTHON_HANDLERS allows."
    )

    class Meta:
        model = models.Queue
        fields = ("name", *validation.FIELDS)
        help_texts = {
            "rpm": "Requests a minute. Changed on the queue's page on the dashboard, which shows the effect first.",
            "overflow": "Disperse: rpm is a soft cap. Carry over: rpm is a hard cap.",
            "max_peak": "A list that would fill a minute past this needs confirmation. Empty: no limit.",
            "headroom": "Requests a minute that lists leave free, for late IDs and retries.",
            "late_after_seconds": "With the policy expire: how late an ID can be and still be sent.",
            "breaker_threshold": "Failures in a row that open the circuit breaker. Empty: never.",
            "webhook_headers": "Values are never shown. Null keeps the stored one.",
            "callback_url": "Called once when a task is done.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen_version"] = self.instance.version
        # Values may be credentials: names alone are shown, to everybody.
        self.initial["webhook_headers"] = dict.fromkeys(self.instance.webhook_headers)
        field = self.fields.get("python_callable")
        if isinstance(field, forms.ChoiceField):
            named = {*settings.PYTHON_HANDLERS, self.instance.python_callable} - {""}
            field.choices = [("", "none"), *((path, path) for path in sorted(named))]

    def changes(self) -> dict[str, Any]:
        """Return the new values of the fields that change."""
        changed = {name: self.cleaned_data[name] for name in self.changed_data if name in validation.FIELDS}
        changed = {
            name: value for name, value in changed.items() if value or name not in validation.WRITE_ONLY
        }
        if self.cleaned_data.get("forget_secret"):
            changed["webhook_secret"] = ""
        if "webhook_headers" in changed:
            changed["webhook_headers"] = changed["webhook_headers"] or {}
        if changed.get("quotas", "") is None:
            changed["quotas"] = []
        return changed

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        if not self.errors:
            stored = models.Queue.objects.filter(pk=self.instance.pk).first() or models.Queue()
            try:
                operations.check(stored, self.changes())
            except BadFields as error:
                for name, reason in error.reasons.items():
                    self.add_error(name if name in self.fields else None, reason)
        return cleaned


@admin.register(models.Queue)
class QueueAdmin(ByKey):
    form = QueueForm
    list_display = ("name", "rpm", "overflow", "handler", "paused", "brake_per_minute", "tasks", "windows")
    search_help_text = "The number of a queue, or how its name begins."
    actions = ("pause", "resume")
    shown = ("paused_at", "brake_per_minute", "created_at", "version")
    readonly_fields = shown

    def get_fields(self, request: HttpRequest, obj: models.Queue | None = None) -> tuple[str, ...]:
        names = list(validation.FIELDS)
        if not self.has_change_permission(request, obj):
            # All of them may contain credentials.
            public = [name for name in names if name not in models.SECRET_FIELDS]
            return ("name", *public, *self.shown)
        names.insert(names.index("webhook_secret") + 1, "forget_secret")
        return ("name", *names, *(self.shown if obj else ()), "seen_version")

    def get_readonly_fields(self, request: HttpRequest, obj: models.Queue | None = None) -> tuple[str, ...]:
        # The name is part of addresses and of other people's programs. A change of rpm shows its effect first,
        # which only the dashboard can do.
        return (*self.shown, "name", "rpm") if obj else self.shown

    def has_delete_permission(self, request: HttpRequest, obj: models.Queue | None = None) -> bool:
        # Its tasks keep their records, and the keys of their places contain its number.
        return False

    def search(self, queryset: Rows, text: str) -> Rows:
        return by_number_or_name(queryset, text)

    def save_model(self, request: HttpRequest, obj: models.Queue, form: QueueForm, change: bool) -> None:
        by, changes = actor_of(request), form.changes()
        if change:
            version = form.cleaned_data["seen_version"]
            updated = (
                operations.update(obj, changes, by=by, now=store.now, if_version=version) if changes else obj
            )
        else:
            updated = operations.create(name=obj.name, fields=changes, by=by, at=store.now())
        obj.__dict__.update(updated.__dict__)
        if updated.note and {"quotas", "overflow"} & changes.keys():
            messages.warning(request, updated.note)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: Rows) -> None:
        self._each(request, queryset, operations.pause, AlreadyPaused, "paused")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: Rows) -> None:
        self._each(request, queryset, operations.resume, NotPaused, "resumed")

    def _each(
        self,
        request: HttpRequest,
        queryset: Rows,
        operation: Callable[..., object],
        already: type[Exception],
        word: str,
    ) -> None:
        for queue in queryset:
            try:
                operation(queue, by=actor_of(request), at=store.now())
            except already as error:
                messages.info(request, str(error))
            else:
                messages.success(request, f"{queue} is {word}.")

    @admin.display(description="paused", boolean=True)
    def paused(self, queue: models.Queue) -> bool:
        return queue.paused

    @admin.display(description="tasks")
    def tasks(self, queue: models.Queue) -> str:
        return link(list_of(models.Task, queue=queue.pk), "Tasks")

    @admin.display(description="windows")
    def windows(self, queue: models.Queue) -> str:
        return link(list_of(models.Window, queue=queue.pk), "Windows")

    def related_links(self, request: HttpRequest, queue: models.Queue) -> list[tuple[str, str]]:
        return [
            ("Page on the dashboard, where rpm is changed", on_dashboard("queue", queue.name)),
            ("Board", on_dashboard("board", queue=queue.name)),
            ("Tasks", list_of(models.Task, queue=queue.pk)),
            ("Windows", list_of(models.Window, queue=queue.pk)),
        ]
