"""The filters of lists: one object serves the page, its export, and "all that match".

An unknown parameter or value is refused by name: it must never mean "no filter".
"""

from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import BadRequest
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from dashboard import addresses
from dashboard.inputs import choices
from dashboard.inputs.parameters import COLUMNS, EARLIEST, LATEST, refuse_unknown
from operators.actor import Interface
from scheduling import models, store
from scheduling.core import clock, id_tokens, keys
from scheduling.lists import external_ids
from scheduling.tasks import failures

# With more rows, a page would exceed its limits of bytes and time.
SIZES = (25, 50, 100)
DEFAULT_SIZE = 50
# Where programs submit lists all day, what people did is lost among them.
NOT_API = "not-api"


class Filter(forms.Form):
    """A form whose data come from the address. `of` refuses what it doesn't know."""

    # The parameters of the page that don't belong to the filter.
    beside: ClassVar[Collection[str]] = ("before", "size", "format", COLUMNS)

    @classmethod
    def of(cls, request: HttpRequest, **kwargs: Any) -> Self:
        """Return the filter that a request asks for. Raises BadRequest for an unknown name or value."""
        form = cls(request.GET, label_suffix="", **kwargs)
        refuse_unknown(request, {*form.fields, *cls.beside})
        form.refuse_faults()
        return form

    def refuse_faults(self) -> None:
        """Raise BadRequest for an invalid value, naming the parameter and the value."""
        if not self.is_valid():
            name, errors = next(iter(self.errors.items()))
            value, words = str(self.data.get(name, ""))[:60], " ".join(map(str, errors))
            raise BadRequest(f"{name}: {words}" if repr(value) in words else f"{name}: {value!r}. {words}")

    @property
    def is_set(self) -> bool:
        """Whether anything is filtered by."""
        return any(
            value not in (None, "", False) for name, value in self.cleaned_data.items() if name != "sort"
        )

    @property
    def words(self) -> str:
        """What is filtered by, for the page's title: a tab shows little more than its beginning."""
        shown = [self._word(name) for name in self.fields if self.data.get(name) and name != "sort"]
        return ", ".join(shown)[:100]

    def _word(self, name: str) -> str:
        value, field = str(self.data[name]), self.fields[name]
        if isinstance(field, forms.ModelChoiceField) or not isinstance(field, forms.ChoiceField):
            return value
        # A select's choices are pairs, without groups.
        words: dict[str, str] = dict(field.widget.choices)
        return str(words.get(value, value))

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters as they are written in the address."""
        return {name: self.data[name] for name in self.fields if self.data.get(name)}


def _queues() -> "forms.ModelChoiceField[models.Queue]":
    return forms.ModelChoiceField(
        models.Queue.objects.all(),
        to_field_name="name",
        required=False,
        empty_label="all queues",
        error_messages={"invalid_choice": "there is no queue with that name"},
    )


def _day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return the bounds of a day in the operator's zone, which may have 23 or 25 hours."""
    zone = timezone.get_current_timezone()
    next_day = day.fromordinal(day.toordinal() + 1)
    return datetime.combine(day, time(), zone), datetime.combine(next_day, time(), zone)


def _key(label: str | None = None, **kwargs: Any) -> forms.IntegerField:
    """A field for the number of a row, or an ID, within 64 bits."""
    return forms.IntegerField(label=label, min_value=1, max_value=models.MAX_ID, required=False, **kwargs)


class IdField(forms.CharField):
    """An ID as its owner wrote it, number or text; the value is its number, or 0 for a text that nobody has."""

    def clean(self, value: Any) -> int | None:
        text: str = super().clean(value)
        if not text:
            return None
        number = external_ids.number_of_written(text)
        if number is None:
            raise forms.ValidationError(id_tokens.read(text).reason or "It must be an ID.")
        return number


def _date(label: str) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        validators=[MinValueValidator(EARLIEST), MaxValueValidator(LATEST)],
        widget=forms.DateInput(attrs={"type": "date"}),
    )


class TaskFilter(Filter):
    """Filters tasks by state, queue, the beginning of the name, days, and creator."""

    SORTS: ClassVar[dict[str, str]] = {"": "newest first", "ids": "largest first", "name": "by name"}
    # Pages begin after the value of a column and a key.
    ORDERS: ClassVar[dict[str, str]] = {"": "", "ids": "-ids_count", "name": "name"}

    q = forms.CharField(label="Name begins with", max_length=200, required=False)
    state = forms.ChoiceField(choices=[("", "any state"), *models.TaskState.choices], required=False)
    queue = _queues()
    by = forms.CharField(label="By", max_length=200, required=False)
    since = _date("From")
    until = _date("To")
    sort = forms.ChoiceField(label="Order", choices=SORTS.items(), required=False)

    @property
    def order(self) -> str:
        """Return the column that precedes the key in the order; empty if there is none."""
        return self.ORDERS[self.cleaned_data["sort"]]

    def tasks(self, *, at: datetime) -> QuerySet[Any]:
        """Return the tasks that match at `at`, in their order."""
        filters = self.cleaned_data
        rows = models.Task.objects.select_related("queue").defer("payload")
        if filters["state"]:
            rows = rows.in_state(filters["state"], at)
        if filters["queue"]:
            rows = rows.filter(queue=filters["queue"])
        if filters["q"]:
            rows = rows.filter(store.begins_with("name", filters["q"]))
        if filters["by"]:
            rows = rows.filter(created_by=filters["by"])
        if filters["since"]:
            rows = rows.filter(created_at__gte=_day_bounds(filters["since"])[0])
        if filters["until"]:
            rows = rows.filter(created_at__lt=_day_bounds(filters["until"])[1])
        return rows.order_by(*filter(None, (self.order, "-id")))


class PlaceFilter(Filter):
    """Filters a task's IDs by status and minute."""

    status = forms.ChoiceField(
        choices=[
            ("", "any status"),
            *((status.word, status.label) for status in models.Status),
        ],
        required=False,
    )
    minute = forms.CharField(required=False)
    # The number of minutes from that one on: up to a year.
    minutes = forms.IntegerField(min_value=1, max_value=366 * 1440, required=False)

    beside = ("after", "format", "version", COLUMNS)

    def clean_minute(self) -> datetime | None:
        """Read a minute as it is written in addresses."""
        text = self.cleaned_data["minute"]
        try:
            at = addresses.read_stamp(text) if text else None
            if at is not None:
                # Refuses a minute that no window contains.
                keys.bucket_at(1, at)
            return at
        except ValueError:
            raise forms.ValidationError(f"{text!r} is not a minute, such as 2026-11-25T12:17Z") from None

    @property
    def span(self) -> timedelta:
        """Return the length of the time whose IDs are shown, if there is one."""
        return (self.cleaned_data["minutes"] or 1) * clock.MINUTE

    @property
    def chosen_status(self) -> models.Status | None:
        word = self.cleaned_data["status"]
        return models.Status.of_word(word) if word else None


class ActivityFilter(Filter):
    """Filters the activity log by words, verb, actor, object, interface and day."""

    q = forms.CharField(label="Search", max_length=200, required=False)
    verb = forms.ChoiceField(
        choices=[("", "any verb"), *((verb, verb.replace("_", " ")) for verb in sorted(choices.VERBS))],
        required=False,
    )
    actor = forms.CharField(label="Person or token", max_length=200, required=False)
    kind = forms.ChoiceField(
        label="Object", choices=[("", "anything"), *choices.KINDS.items()], required=False
    )
    id = _key(widget=forms.HiddenInput)
    face = forms.ChoiceField(
        label="Made through",
        choices=[
            ("", "anything"),
            (NOT_API, "anything but the API"),
            *((face.value, face.value.replace("_", " ")) for face in Interface),
        ],
        required=False,
    )
    since = _date("From")
    until = _date("To")

    def lines(self) -> QuerySet[Any]:
        """Return the entries that match, newest first."""
        filters = self.cleaned_data
        columns = {
            "verb": "verb",
            "actor_name": "actor",
            "object_kind": "kind",
            "object_id": "id",
        }
        if filters["face"] != NOT_API:
            columns["face"] = "face"
        conditions = {
            column: filters[name] for column, name in columns.items() if filters[name] not in (None, "")
        }
        rows = models.Activity.objects.filter(**conditions)
        if filters["face"] == NOT_API:
            rows = rows.exclude(face=Interface.API)
        for word in filters["q"].split():
            rows = rows.filter(
                Q(actor_name__icontains=word) | Q(object_name__icontains=word) | Q(verb__icontains=word)
            )
        if filters["since"]:
            rows = rows.filter(at__gte=_day_bounds(filters["since"])[0])
        if filters["until"]:
            rows = rows.filter(at__lt=_day_bounds(filters["until"])[1])
        return rows.order_by("-id")


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return the beginning and the end of a day in the operator's zone, in UTC on whole quarter-hours."""
    begin, end = _day_bounds(day)
    return clock.quarter_start(begin), clock.quarter_start(end)


def page_size(request: HttpRequest) -> int:
    """Return the number of rows of a page: from the address, or the size that was last chosen."""
    size, last = request.GET.get("size"), request.session.get("page_size")
    if size is None:
        return last if last in SIZES else DEFAULT_SIZE
    if size not in map(str, SIZES):
        raise BadRequest(f"size: {size[:40]!r} is not one of {', '.join(map(str, SIZES))}.")
    if (last or DEFAULT_SIZE) != int(size):
        request.session["page_size"] = int(size)
    return int(size)


class FailureFilter(Filter):
    """Failed IDs by queue, task, ID, status, message, and how long ago."""

    NONE = "none"
    SPANS: ClassVar[dict[str, timedelta]] = {
        "1h": timedelta(hours=1),
        "24h": timedelta(days=1),
        "7d": timedelta(days=7),
    }

    queue = _queues()
    status = forms.CharField(label="Answer", max_length=4, required=False)
    message = forms.CharField(max_length=200, required=False, strip=False)
    task = _key()
    user = IdField(label="ID", max_length=200, required=False)
    last = forms.ChoiceField(
        label="When",
        choices=[("", "at any time"), ("1h", "last hour"), ("24h", "last 24 hours"), ("7d", "last 7 days")],
        required=False,
    )

    beside = ("format", "list", COLUMNS)

    def clean_status(self) -> str:
        """A status of HTTP, or `none` where no answer came."""
        text: str = self.cleaned_data["status"]
        if text in ("", self.NONE) or (text.isascii() and text.isdigit() and 100 <= int(text) <= 999):
            return text
        raise forms.ValidationError(f"{text!r} is neither a status, such as 404, nor {self.NONE}")

    @property
    def is_set(self) -> bool:
        return super().is_set or "message" in self.data

    @property
    def parameters(self) -> dict[str, Any]:
        # An empty message is a filter, too: without it, any message would match.
        return super().parameters | ({"message": self.data["message"]} if "message" in self.data else {})

    def address(self, of: str, **more: Any) -> str:
        """Return the address of a page of failures with this filter."""
        return f"{of}?{urlencode({**self.parameters, **more})}"

    def selection(self, *, at: datetime | None = None, up_to: int | None = None) -> failures.FailureSelection:
        """What is meant; with the moment of a page, and the newest request then, only what it showed."""
        filters = self.cleaned_data
        status = filters["status"]
        span = self.SPANS.get(filters["last"])
        return failures.FailureSelection(
            queue_id=filters["queue"].pk if filters["queue"] else None,
            task_id=filters["task"],
            user_id=filters["user"],
            http_status=int(status) if status.isdigit() else None,
            has_no_status=status == self.NONE,
            message=filters["message"] if "message" in self.data else None,
            since=(at or store.now()) - span if span else None,
            at=at,
            up_to=up_to,
        )
