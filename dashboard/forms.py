"""What operators fill in. Forms check what a form can know; the rules are the verbs'."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django import forms
from django.core.validators import MaxValueValidator

from dashboard import addresses
from scheduling import models, placement, queue_fields


def zone_names() -> list[str]:
    """Zones by the name of a place, and UTC: the rest are old names of the same ones, some hundred of them."""
    by_place = (
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "US/"))
    )
    return sorted({"UTC", *by_place})


class ZoneForm(forms.Form):
    """In which zone an operator wants to read times."""

    time_zone = forms.ChoiceField(label="Time zone")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # Whoever has chosen an old name keeps it until they choose another.
        names = {*zone_names(), self.initial.get("time_zone") or "UTC"}
        self.fields["time_zone"].choices = [(name, name) for name in sorted(names)]


class PreviewForm(forms.Form):
    """What is asked for a draft. `peak` and `last` are what the preview promised, to be compared."""

    task_name = forms.CharField(max_length=200, required=False)
    queue = forms.ModelChoiceField(models.Queue.objects.all(), to_field_name="name", required=False)
    rpm = forms.IntegerField(min_value=1, max_value=models.MAX_RPM, required=False)
    not_before = forms.DateTimeField(
        required=False,
        validators=[MaxValueValidator(placement.LATEST_START)],
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    peak = forms.IntegerField(required=False)
    last = forms.CharField(required=False)
    allow_peak = forms.BooleanField(required=False)
    part = forms.CharField(required=False)

    def __init__(self, data: Mapping | None = None, *, draft: models.IdList) -> None:
        super().__init__(data if data is not None else {})
        self._draft = draft

    def clean_queue(self) -> models.Queue:
        """The queue asked for, or the one that was chosen with the upload."""
        chosen = self.cleaned_data["queue"]
        if chosen is None:
            name = self._draft.about.get("queue") or "default"
            chosen = models.Queue.objects.filter(name=name).first()
        if chosen is None:
            raise forms.ValidationError(f"there is no queue named {name!r}")
        return chosen

    def clean_last(self) -> datetime | None:
        """A minute as addresses have it."""
        text = self.cleaned_data["last"]
        try:
            return addresses.read_stamp(text) if text else None
        except ValueError:
            raise forms.ValidationError(f"{text!r} is no time") from None


class RenameForm(forms.Form):
    """A task's new name, and the version that was renamed."""

    name = forms.CharField(max_length=200, label="Name")
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)


class CancelForm(forms.Form):
    """The number to be typed where much would be cancelled."""

    ASKED_FROM = 1_000

    count = forms.CharField(required=False, label="Type the number")

    def __init__(self, data: Mapping | None = None, *, count: int, always: bool = False) -> None:
        super().__init__(data)
        self.expected = count
        self.is_asked = always or count >= self.ASKED_FROM

    def clean_count(self) -> str:
        """The number, as it stands in the question or without its commas."""
        typed = self.cleaned_data["count"].replace(",", "").strip()
        if self.is_asked and typed != str(self.expected):
            raise forms.ValidationError(f"That is not {self.expected:,}. Nothing was cancelled.")
        return typed


class NewQueueForm(forms.Form):
    """A queue to be made; the rest is set on its page."""

    name = forms.CharField(max_length=50, help_text="Letters, digits, - and _.")
    rpm = forms.IntegerField(label="Requests a minute", min_value=1, max_value=models.MAX_RPM, initial=120)


class PaceForm(forms.Form):
    """Another rpm, of a page that has shown what it does."""

    rpm = forms.IntegerField(min_value=1, max_value=models.MAX_RPM, widget=forms.HiddenInput)
    version = forms.IntegerField(widget=forms.HiddenInput)


class QueueForm(forms.ModelForm):
    """A queue's fields but its rpm, whose effect is shown first (PaceForm).

    Which values they may have is checked by the verb that changes them.
    """

    # Written and never read: what is there shows as "set".
    webhook_secret = forms.CharField(
        required=False,
        help_text="whsec_ and base64. Empty: the one that is there stays.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    version = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = models.Queue
        fields = [name for name in queue_fields.FIELDS if name != "rpm"]
        labels: ClassVar[dict] = {
            "overflow": "Past rpm",
            "max_peak": "Refuse lists past (max_peak)",
            "max_attempts": "Attempts at most",
            "late_policy": "What is late",
            "late_after_seconds": "Late after, seconds",
            "headroom": "Kept free of lists, a minute",
            "breaker_threshold": "Breaker opens after failures",
            "webhook_url": "Webhook address",
            "connect_timeout_seconds": "Connect within, seconds",
            "read_timeout_seconds": "Answer within, seconds",
            "max_connections": "Connections at most",
            "callback_url": "Called when a task is done",
        }
        widgets: ClassVar[dict] = {"webhook_headers": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, queue: models.Queue, data: Mapping | None = None) -> None:
        initial = {"version": queue.version, "webhook_secret": ""}
        super().__init__(data, instance=queue, initial=initial, label_suffix="")
        for name in ("webhook_method", "webhook_headers", "connect_timeout_seconds", "read_timeout_seconds"):
            self.fields[name].required = False

    @property
    def changes(self) -> dict[str, Any]:
        """What was filled in otherwise than it is, by the verb's names."""
        changed = {name: self.cleaned_data[name] for name in self.changed_data if name in self.Meta.fields}
        if not changed.get("webhook_secret", "kept"):
            changed.pop("webhook_secret")
        return changed

    def take(self, reasons: Mapping[str, str]) -> None:
        """Show the verb's reasons beside the fields."""
        for name, reason in reasons.items():
            self.add_error(name if name in self.fields else None, reason)

    def _post_clean(self) -> None:
        """The instance is not touched: the verb reads the queue anew, under its lock."""
