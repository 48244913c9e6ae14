"""The settings of a queue as a form, in sections with their purpose; some are shown only for the handler that
reads them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from django import forms
from django.conf import settings

from dashboard.inputs import choices
from scheduling import models
from scheduling.core.errors import BadFields, Refused
from scheduling.models import HandlerKind
from scheduling.queues import validation

if TYPE_CHECKING:
    QueueModelForm = forms.ModelForm[models.Queue]
else:
    # Django's own class takes no type parameter.
    QueueModelForm = forms.ModelForm


class Section(NamedTuple):
    """Fields that belong together. handler: the only handler that reads them; empty if all do."""

    title: str
    about: str
    names: tuple[str, ...]
    handler: str = ""


SECTIONS = (
    Section(
        "Lists",
        "How a list gets its minutes.",
        ("overflow", "max_share_percent", "max_peak", "headroom"),
    ),
    Section(
        "Hours, ramp and quotas",
        "When the queue sends, how its limit grows, and how much it may send in all.",
        ("shared", "hours", "ramp", "quotas"),
    ),
    Section(
        "When a request fails, or is late",
        "Retries and late IDs take free places, so they never go above the limit.",
        ("max_attempts", "retry_delays_minutes", "breaker_threshold", "late_policy", "late_after_seconds"),
    ),
    Section("Handler", "What is done for each ID, in its minute.", ("handler", "max_connections")),
    Section(
        "Request",
        "The HTTP request that is made for each ID.",
        (
            "webhook_url",
            "webhook_method",
            "webhook_headers",
            "body_kind",
            "webhook_body",
            "webhook_content_type",
        ),
        HandlerKind.WEBHOOK,
    ),
    Section(
        "Signature",
        "Lets the receiver check that a request comes from here.",
        ("webhook_secret", "forget_secret", "webhook_sign"),
        HandlerKind.WEBHOOK,
    ),
    Section(
        "Access token",
        "OAuth 2.0 client credentials: a token is fetched, renewed in time, and sent as Authorization: Bearer.",
        validation.TOKEN_FIELDS,
        HandlerKind.WEBHOOK,
    ),
    Section(
        "Response",
        "What counts as success, and how long to wait for it.",
        (
            "success_statuses",
            "retry_statuses",
            "success_when",
            "keep_answers",
            "connect_timeout_seconds",
            "read_timeout_seconds",
        ),
        HandlerKind.WEBHOOK,
    ),
    Section("Python", "The function that is called with the IDs.", ("python_callable",), HandlerKind.PYTHON),
    Section("When a task is done", "One call for each task.", ("callback_url",)),
)
MORE = Section("More", "", ())


class Shown(NamedTuple):
    """A section with its fields, as the page draws it."""

    section: Section
    fields: list[forms.BoundField]


class SecretInput(forms.PasswordInput):
    """A field for a secret: what was typed isn't shown again, not even on a page that refuses the form."""

    def __init__(self) -> None:
        super().__init__({"autocomplete": "new-password"})


class HeadersField(forms.CharField):
    """Headers, one per line: "Name: value".

    Values are written but never shown: an existing value shows as HIDDEN, and a line with HIDDEN keeps the
    value.
    """

    HIDDEN = "(not shown)"
    widget = forms.Textarea(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"})

    def __init__(self) -> None:
        text = f"One per line, as “Name: value”. Values are never shown; a line with {self.HIDDEN} keeps its value."
        super().__init__(required=False, label="Headers", help_text=text, strip=False)
        self.current: Mapping[str, str] = {}

    def shown(self) -> str:
        """Return the initial content of the field."""
        return "\n".join(f"{name}: {self.HIDDEN}" for name in self.current)

    def clean(self, value: str) -> dict[str, str | None]:
        """Return the headers; null stands for the stored value."""
        headers: dict[str, str | None] = {}
        for line in (super().clean(value) or "").splitlines():
            name, colon, text = (part.strip() for part in line.partition(":"))
            if not line.strip():
                continue
            if not (name and colon):
                raise forms.ValidationError(f"“{line.strip()[:40]}” is not a header: write “Name: value”.")
            if text == self.HIDDEN and name not in self.current:
                raise forms.ValidationError(f"{name} has no value yet.")
            headers[name] = None if text == self.HIDDEN else text
        return headers

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Return whether headers were added, removed, or got a value: perhaps the same one, entered again."""
        try:
            return self.clean(data or "") != dict.fromkeys(self.current)
        except forms.ValidationError:
            return True


class DelaysField(forms.CharField):
    """Whole numbers of minutes, separated by commas."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[int]:
        words = [word.strip() for word in (super().clean(value) or "").split(",")]
        if not all(word.isascii() and word.isdigit() and len(word) < 7 for word in words):
            raise forms.ValidationError("Write whole numbers of minutes, such as 1, 2, 4, 8.")
        return [int(word) for word in words]

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except forms.ValidationError:
            return True


class HoursField(forms.CharField):
    """Sending hours as lines: the zone, a span each, and closed dates; empty where it always sends."""

    widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        closed = [f"closed {day}" for day in value.get("closed", ())]
        return "\n".join([str(value.get("zone", "UTC")), *map(str, value.get("open", ())), *closed])

    def to_python(self, value: Any) -> Any:
        lines = [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]
        if not lines:
            return None
        zone, *rest = lines
        closed = [line.split(None, 1)[1] for line in rest if line.lower().startswith("closed ")]
        form: dict[str, Any] = {
            "zone": zone,
            "open": [o for o in rest if not o.lower().startswith("closed ")],
        }
        return form | ({"closed": closed} if closed else {})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != self.to_python(self.prepare_value(initial)))


class SharedField(forms.ChoiceField):
    """The name of shared hours; empty if there are none, or if the field beside it has the hours."""

    def __init__(self) -> None:
        super().__init__(
            label="Shared hours",
            required=False,
            choices=self._all,
            help_text="Hours that other queues and targets may have as well.",
        )

    @staticmethod
    def _all() -> list[tuple[str, str]]:
        names = models.Hours.objects.values_list("name", flat=True)
        return [("", "none: those below"), *((name, name) for name in names)]


class ConditionField(forms.JSONField):
    """A condition as JSON; empty if there is none."""

    widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value)


class QuotasField(ConditionField):
    """Quotas as JSON; empty where there are none."""

    def prepare_value(self, value: Any) -> Any:
        return super().prepare_value(value or None)

    def to_python(self, value: Any) -> Any:
        quotas = super().to_python(value)
        return [] if quotas is None else quotas


HOURS_HELP = "A time zone, then a span on each line, such as mon-fri 09:00-18:00, or closed 2026-12-25."
QUOTAS_HELP = 'JSON: [{"limit": 250000, "per": "day", "zone": "Europe/Berlin"}]; per hour, day or month.'


class SharedHoursForm(forms.Form):
    """The table of hours that queues can share."""

    hours = HoursField(label="Hours", help_text=HOURS_HELP)

    def take(self, error: Refused) -> None:
        """Show why the operation refused it, beside the fields."""
        reasons = error.reasons if isinstance(error, BadFields) else {"": str(error)}
        for name, reason in reasons.items():
            self.add_error("name" if name == "name" else "hours" if name else None, reason)


class NewHoursForm(SharedHoursForm):
    """New ones, with their name."""

    name = forms.SlugField(label="Name", max_length=50, help_text="Letters, digits, - and _.")
    field_order = ("name", "hours")


class HoursForm(SharedHoursForm):
    """Those that exist, and what the page had shown of them."""

    # How many IDs the page said that the change moves.
    moves = forms.IntegerField(widget=forms.HiddenInput, required=False)
    version = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, hours: models.Hours, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, initial={"hours": hours.form, "version": hours.version}, label_suffix="")


STANDARD, NONE, TEMPLATE = "standard", "none", "template"


def _body_kind(queue: models.Queue) -> str:
    """Return which of the three kinds of body the queue sends."""
    if queue.webhook_body is None:
        return STANDARD
    return TEMPLATE if queue.webhook_body else NONE


class QueueForm(QueueModelForm):
    """The fields of a queue except its rpm, whose effect is shown first (PaceForm).

    The operation that changes the queue checks the values.
    """

    handler = forms.ChoiceField(
        label="For each ID",
        choices=[
            (HandlerKind.RECORD, "record: mark it as processed"),
            (HandlerKind.WEBHOOK, "webhook: make an HTTP request"),
            (HandlerKind.PYTHON, "python: call a function of this deployment"),
        ],
    )
    overflow = forms.ChoiceField(
        label="When a list doesn't fit",
        choices=[*choices.OVERFLOW.items()],
        help_text="Either all of it runs in its quarter-hour, or the limit is never exceeded.",
    )
    late_policy = forms.ChoiceField(
        label="If an ID is late",
        choices=[(models.LatePolicy.PLACE_AGAIN, "send it later"), (models.LatePolicy.EXPIRE, "drop it")],
        help_text="Late: its minute passed without its request.",
    )
    retry_delays_minutes = DelaysField(
        label="Minutes before each retry", help_text="Separated by commas. The last one repeats."
    )
    webhook_method = forms.ChoiceField(
        label="Method", choices=[(name, name) for name in validation.METHODS], required=False
    )
    # It is written but never shown: an existing secret shows as "set".
    webhook_secret = forms.CharField(
        label="Secret",
        required=False,
        help_text="whsec_ and base64. Leave empty to keep the current one.",
        widget=SecretInput(),
    )
    oauth_client_secret = forms.CharField(
        label="Client secret",
        required=False,
        help_text="Leave empty to keep the current one.",
        widget=SecretInput(),
    )
    forget_secret = forms.BooleanField(label="Remove the secret", required=False)
    webhook_headers = HeadersField()
    body_kind = forms.ChoiceField(
        label="Body",
        required=False,
        choices=[(STANDARD, "standard JSON"), (NONE, "no body"), (TEMPLATE, "a template")],
        help_text="The standard one has the ID, its task, its queue and the attempt.",
    )
    webhook_body = forms.CharField(
        label="Template of the body",
        required=False,
        strip=False,
        help_text="With placeholders such as {{id}}.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    success_when = ConditionField(
        label="Success depends on the response",
        required=False,
        help_text='JSON, such as {"pointer": "/ok", "equals": true}. Empty: the status decides.',
    )
    shared = SharedField()
    hours = HoursField(label="Hours", required=False, help_text=HOURS_HELP)
    ramp = ConditionField(
        label="Ramp",
        required=False,
        help_text='JSON: {"from": "2026-11-30", "start_rpm": 50, "factor": 1.5, "every": 1, "unit": "days"}.',
    )
    quotas = QuotasField(label="Quotas", required=False, help_text=QUOTAS_HELP)
    python_callable = forms.ChoiceField(label="Function", required=False)
    # How many IDs the page said that the change moves.
    moves = forms.IntegerField(widget=forms.HiddenInput, required=False)
    version = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = models.Queue
        fields = [name for name in validation.FIELDS if name != "rpm"]
        labels: ClassVar[dict[str, Any]] = {
            "max_share_percent": "Share of each minute that one list may take (percent)",
            "max_peak": "Ask before going above (per minute)",
            "max_attempts": "Maximum attempts",
            "late_after_seconds": "Drop when later than (seconds)",
            "headroom": "Reserved for retries and late IDs (per minute)",
            "breaker_threshold": "Block the target after failures in a row",
            "webhook_url": "Address",
            "webhook_content_type": "Content type",
            "webhook_sign": "Sign requests",
            "oauth_token_url": "Address of the token server",
            "oauth_client_id": "Client ID",
            "oauth_client_auth": "Client ID and secret are sent",
            "oauth_scope": "Scope",
            "oauth_audience": "Audience",
            "success_statuses": "Statuses that mean success",
            "retry_statuses": "Statuses that are retried",
            "keep_answers": "Responses that are kept",
            "connect_timeout_seconds": "Time limit to connect (seconds)",
            "read_timeout_seconds": "Time limit for an answer (seconds)",
            "max_connections": "Maximum connections of each minute worker",
            "callback_url": "Address",
        }
        help_texts: ClassVar[dict[str, Any]] = {
            "max_share_percent": "Below 100, a short list never waits for a long one. For lists that continue later.",
            "max_peak": "A list that would fill a minute further has to be confirmed. Empty: no limit.",
            "max_attempts": "Then the ID has failed. It can still be retried by hand.",
            "late_after_seconds": "Empty: not at all. Applies if late IDs are dropped.",
            "headroom": "Lists leave this much of each minute free.",
            "breaker_threshold": "The circuit breaker. A probe every 30 s ends it. Empty: never.",
            "webhook_url": "May contain placeholders such as {{id}}.",
            "oauth_token_url": "Empty: no token, and the client secret is forgotten.",
            "oauth_client_auth": "As the server expects it: client_secret_basic or client_secret_post.",
            "oauth_scope": "Separated by blanks. May be empty.",
            "oauth_audience": "Only for servers that ask for it.",
            "success_statuses": "Codes and ranges, such as 200-299,304.",
            "retry_statuses": "All others fail at once.",
            "keep_answers": "unexpected, all, or a JSON pointer such as /id.",
            "connect_timeout_seconds": "Name look-up, connection and TLS together.",
            "read_timeout_seconds": "For the first part of the answer, and for each further one.",
            "max_connections": "How many requests each of them has open at once.",
            "callback_url": "Called with the result, signed like a webhook. Empty: nobody is called.",
        }

    def __init__(self, queue: models.Queue, data: Mapping[str, Any] | None = None) -> None:
        initial = {"version": queue.version, "body_kind": _body_kind(queue)}
        initial |= dict.fromkeys(validation.WRITE_ONLY, "")
        super().__init__(data, instance=queue, initial=initial, label_suffix="")
        headers = self.fields["webhook_headers"]
        assert isinstance(headers, HeadersField)
        headers.current = queue.webhook_headers
        self.initial["webhook_headers"] = headers.shown()
        for name in ("connect_timeout_seconds", "read_timeout_seconds"):
            self.fields[name].required = False
        self.initial["shared"] = queue.shared_hours.name if queue.shared_hours else ""
        function = self.fields["python_callable"]
        assert isinstance(function, forms.ChoiceField)
        named = sorted({*settings.PYTHON_HANDLERS, queue.python_callable} - {""})
        function.choices = [("", "none"), *((path, path) for path in named)]
        function.help_text = "" if named else "PYTHON_HANDLERS allows none yet."

    def sections(self) -> Iterator[Shown]:
        """Return the fields, each in its section; fields that no section names come last."""
        named = {name for section in SECTIONS for name in section.names}
        rest = tuple(field.name for field in self.visible_fields() if field.name not in named)
        for section in (*SECTIONS, MORE._replace(names=rest)):
            names = [name for name in section.names if self._is_meant(name)]
            if names:
                yield Shown(section, [self[name] for name in names])

    def _is_meant(self, name: str) -> bool:
        # There is no secret to remove.
        return name != "forget_secret" or bool(self.instance.webhook_secret)

    @property
    def changes(self) -> dict[str, Any]:
        """Return the changed fields, by the names that the operation uses."""
        changed = {name: self.cleaned_data[name] for name in self.changed_data if name in self.Meta.fields}
        changed = {
            name: value for name, value in changed.items() if value or name not in validation.WRITE_ONLY
        }
        if self.cleaned_data["shared"]:
            # The field beside it only shows them.
            changed.pop("hours", None)
        if "shared" in self.changed_data:
            changed["hours"] = self.cleaned_data["shared"] or self.cleaned_data["hours"]
        if self.cleaned_data.get("forget_secret"):
            changed["webhook_secret"] = ""
        body = self.body()
        changed.pop("webhook_body", None)
        if body != self.instance.webhook_body:
            changed["webhook_body"] = body
        return changed

    def body(self) -> str | None:
        """Return the body's template: None for the standard body, empty for none."""
        kind = self.cleaned_data.get("body_kind") or _body_kind(self.instance)
        if kind == STANDARD:
            return None
        return self.cleaned_data["webhook_body"] if kind == TEMPLATE else ""

    def take(self, reasons: Mapping[str, str]) -> None:
        """Show the reasons of the operation beside the fields."""
        for name, reason in reasons.items():
            self.add_error(name if name in self.fields else None, reason)

    def _post_clean(self) -> None:
        """Leave the instance untouched: the operation reads the queue again under its lock."""
