"""What operators fill in. Forms check what a form can know; the rules are the verbs'."""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import available_timezones

from django import forms

from dashboard import addresses
from scheduling import models


class ZoneForm(forms.Form):
    """In which zone an operator wants to read times."""

    time_zone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [(name, name) for name in sorted(available_timezones() - {"localtime", "Factory"})],
    )


class PreviewForm(forms.Form):
    """What is asked for a draft. `peak` and `last` are what the preview promised, to be compared."""

    task_name = forms.CharField(max_length=200, required=False)
    queue = forms.ModelChoiceField(models.Queue.objects.all(), to_field_name="name", required=False)
    rpm = forms.IntegerField(min_value=1, max_value=models.MAX_RPM, required=False)
    not_before = forms.DateTimeField(
        required=False,
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
