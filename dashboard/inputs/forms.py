"""The forms that operators fill in.

Forms check what can be checked without the database; the operations check the rules.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils import timezone

from dashboard import addresses
from scheduling import models
from scheduling.core import clock, limits, stopping
from scheduling.placement.reservations import Start
from scheduling.reports import receipt_files


def zone_names() -> list[str]:
    """Return the zones that are named after places, and UTC.

    The others are some hundred old names of the same zones.
    """
    by_place = (
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "US/"))
    )
    return sorted({"UTC", *by_place})


class ZoneForm(forms.Form):
    """The time zone in which an operator wants to read times."""

    time_zone = forms.ChoiceField(label="Time zone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # An operator who has chosen an old name keeps it until they choose another.
        names = {*zone_names(), self.initial.get("time_zone") or "UTC"}
        field = self.fields["time_zone"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(name, name) for name in sorted(names)]


class PersonForm(forms.Form):
    """The name and e-mail address of an operator."""

    first_name = forms.CharField(max_length=150, required=False)
    last_name = forms.CharField(max_length=150, required=False)
    email = forms.EmailField(label="E-mail", max_length=254, required=False)


class CodeForm(forms.Form):
    """A code from an authenticator app."""

    code = forms.CharField(
        label="Code that the app shows",
        max_length=10,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def clean_code(self) -> str:
        """Accept the code with or without the space in the middle that apps show."""
        code: str = self.cleaned_data["code"]
        return code.replace(" ", "")


class StartField(forms.CharField):
    """A time, in the format of the browser's field in the operator's zone, or as a minute in an address.

    Of an hour that a zone repeats, the first one is meant; in an hour that it skips, the time at which it
    would have begun. The distant past is accepted, because the field says 0002 while somebody types 2027.
    """

    # Between these years, every time in any zone has a window with a key.
    YEARS = range(clock.EPOCH.year + 1, limits.LATEST_START.year)

    def clean(self, value: str) -> datetime | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            at = addresses.read_stamp(text) if text.endswith("Z") else datetime.fromisoformat(text)
        except ValueError:
            raise forms.ValidationError(f"{text[:40]!r} is not a time") from None
        if at.year > self.YEARS[-1]:
            raise forms.ValidationError(f"a time up to the year {self.YEARS[-1]}")
        if at.year < self.YEARS[0]:
            at = datetime(self.YEARS[0], 1, 1, tzinfo=UTC)
        at = at.replace(tzinfo=at.tzinfo or timezone.get_current_timezone()).astimezone(UTC)
        return self.whole_minute(at)

    def whole_minute(self, at: datetime) -> datetime:
        """Round up: the time must never become earlier when it is repeated as a minute."""
        return clock.minute_start(at + clock.MINUTE - timedelta(microseconds=1))


class DeadlineField(StartField):
    """A time by which a list has to be done."""

    def whole_minute(self, at: datetime) -> datetime:
        """Round down: the time must never become later."""
        return clock.minute_start(at)


# What a preview offers: the share of a canary that has to succeed.
DEFAULT_CANARY_PERCENT = 98.0


def start_choices() -> list[tuple[str, str]]:
    """Return the choices of when a list starts, with their words: the default first."""
    words = {Start.NEXT_WINDOW: "In the next quarter-hour", Start.FIRST_FREE: "As soon as there is room"}
    return [(start.value, words[start]) for start in Start]


class ReceiptsForm(forms.Form):
    """Of which queue, and of which time, a file of receipts is made."""

    queue = forms.ModelChoiceField(
        models.Queue.objects.order_by("name"),
        to_field_name="name",
        required=False,
        empty_label="All queues together",
        error_messages={"invalid_choice": "there is no queue with that name"},
    )
    since = StartField(label="From", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    until = StartField(label="To", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))

    @classmethod
    def of_yesterday(cls, at: datetime) -> "ReceiptsForm":
        today = timezone.localtime(at).replace(hour=0, minute=0)
        days = {"since": today - timedelta(days=1), "until": today}
        return cls(
            initial={name: f"{day:%Y-%m-%dT%H:%M}" for name, day in days.items()}, auto_id="receipts_%s"
        )

    def queues(self) -> list[models.Queue]:
        chosen = self.cleaned_data["queue"]
        return receipt_files.chosen_queues([chosen.name] if chosen else [], target=None)

    def words(self, reasons: Mapping[str, str]) -> list[str]:
        return [
            f"{self.fields[name].label or name.capitalize()}: {reason}" for name, reason in reasons.items()
        ]


class PreviewForm(forms.Form):
    """The choices for a draft, and what its preview promised.

    `peak`, `at_rpm`, `first` and `last` are what the preview promised, for comparison. seen_at: the time of
    that preview. changed: the choices were changed after it. rpm_of: the queue that the slider belonged to. For
    another queue, the slider is ignored.
    """

    task_name = forms.CharField(max_length=200, required=False)
    queue = forms.ModelChoiceField(
        models.Queue.objects.all(),
        to_field_name="name",
        required=False,
        error_messages={"invalid_choice": "there is no queue with that name"},
    )
    start = forms.ChoiceField(choices=start_choices, required=False)
    rpm = forms.IntegerField(min_value=1, max_value=models.MAX_RPM, required=False)
    rpm_of = forms.CharField(required=False)
    not_before = StartField(required=False)
    deadline = DeadlineField(required=False)
    max_failed_percent = forms.FloatField(min_value=0, max_value=99.99, required=False)
    min_finished = forms.IntegerField(min_value=1, required=False)
    canary_ids = forms.IntegerField(min_value=1, max_value=stopping.MOST_CANARY_IDS, required=False)
    canary_percent = forms.FloatField(min_value=0.01, max_value=100, required=False)
    peak = forms.IntegerField(required=False)
    at_rpm = forms.IntegerField(required=False)
    first = forms.CharField(required=False)
    last = forms.CharField(required=False)
    seen_at = forms.CharField(required=False)
    allow_peak = forms.BooleanField(required=False)
    changed = forms.BooleanField(required=False)
    part = forms.CharField(required=False)

    def __init__(self, data: Mapping[str, Any] | None = None, *, draft: models.IdList) -> None:
        super().__init__(data if data is not None else {})
        self._draft = draft

    def clean_queue(self) -> models.Queue:
        """Return the queue asked for, or the one that was chosen with the upload."""
        chosen: models.Queue | None = self.cleaned_data["queue"]
        if chosen is None:
            name = self._draft.about.get("queue") or "default"
            chosen = models.Queue.objects.filter(name=name).first()
        if chosen is None:
            raise forms.ValidationError(f"there is no queue named {name!r}")
        return chosen

    def clean_start(self) -> Start:
        """Return the start asked for, or the one that was chosen with the upload."""
        return Start(self.cleaned_data["start"] or self._draft.about.get("start") or Start.NEXT_WINDOW)

    def clean_seen_at(self) -> datetime | None:
        """Read a minute as it is written in addresses."""
        return self._minute("seen_at")

    def clean_first(self) -> datetime | None:
        """Read a minute as it is written in addresses."""
        return self._minute("first")

    def clean_last(self) -> datetime | None:
        """Read a minute as it is written in addresses."""
        return self._minute("last")

    def _minute(self, name: str) -> datetime | None:
        text = self.cleaned_data[name]
        try:
            return addresses.read_stamp(text) if text else None
        except ValueError:
            raise forms.ValidationError(f"{text!r} is not a time") from None

    def clean(self) -> dict[str, Any]:
        """Drop an rpm that was asked for another queue, and put the canary of a list together."""
        super().clean()
        cleaned = self.cleaned_data
        cleaned["canary"] = None
        if cleaned.get("canary_ids"):
            percent = cleaned.get("canary_percent") or DEFAULT_CANARY_PERCENT
            cleaned["canary"] = stopping.Canary(cleaned["canary_ids"], percent)
        queue, of = cleaned.get("queue"), cleaned.get("rpm_of")
        if queue and of and of != queue.name:
            cleaned["rpm"] = None
        return cleaned

    @property
    def has_other_queue(self) -> bool:
        """Return whether another queue has just been chosen, so that the slider has to follow."""
        of = self.cleaned_data["rpm_of"]
        return bool(of) and of != self.cleaned_data["queue"].name

    @property
    def faults(self) -> str:
        """Return all errors in one line."""
        return " ".join(
            f"{name.replace('_', ' ')}: {' '.join(map(str, errors))}." for name, errors in self.errors.items()
        )


class RenameForm(forms.Form):
    """A task's new name, and the version that the operator saw."""

    name = forms.CharField(
        max_length=200,
        label="Name",
        error_messages={
            "required": "A task needs a name.",
            "max_length": "A name has at most 200 characters.",
        },
    )
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)


class HoldForm(forms.Form):
    """Why a task is put on hold, or a queue is paused or braked."""

    reason = forms.CharField(max_length=limits.REASON_CHARACTERS, required=False)


class ConfirmForm(forms.Form):
    """The number to be typed to confirm an operation that changes much.

    asked: the number in the question. While a task runs, fewer IDs remain each second: the answer is still
    accepted, and the result gives the actual number. If the number has grown, the question is asked again.
    """

    ASKED_FROM = 1_000

    count = forms.CharField(required=False, label="Type the number")
    asked = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, count: int, always: bool = False, large: bool = True
    ) -> None:
        super().__init__(data)
        self.expected = max(count, self._number(str((data or {}).get("asked", ""))))
        # large: whether a large number is enough reason to ask.
        self.is_asked = always or (large and self.expected >= self.ASKED_FROM)

    @staticmethod
    def _number(text: str) -> int:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0

    def clean_count(self) -> str:
        """Read the number, with or without its commas."""
        typed: str = self.cleaned_data["count"].replace(",", "").strip()
        if self.is_asked and typed != str(self.expected):
            raise forms.ValidationError(f"Type {self.expected:,} to confirm. Nothing has been changed.")
        return typed


class PaceForm(forms.Form):
    """Another rpm, from a page that has shown its effect."""

    rpm = forms.IntegerField(min_value=1, max_value=models.MAX_RPM, widget=forms.HiddenInput)
    version = forms.IntegerField(widget=forms.HiddenInput)
