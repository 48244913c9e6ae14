"""The forms of channels and alerts."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from dashboard.inputs.filters import Filter
from scheduling import models
from scheduling.models import ALERT_TYPES, AlertKind, AlertRule, Channel, ChannelKind, EventType

# The label and the help text of the address.
_ADDRESS = {
    ChannelKind.EMAIL: ("E-mail addresses", "One per line."),
    ChannelKind.WEBHOOK: ("URL", "An https:// URL that accepts POST requests."),
    ChannelKind.SLACK: (
        "URL of the incoming webhook",
        "Slack shows it under Apps, Incoming Webhooks. It is stored encrypted and can't be read back.",
    ),
}


class ChannelForm(forms.Form):
    """A channel of some kind, new or existing."""

    name = forms.CharField(max_length=100)
    address = forms.CharField(max_length=4_000)
    secret = forms.CharField(
        max_length=200,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="whsec_ followed by base64.",
    )
    types = forms.MultipleChoiceField(
        label="Messages",
        choices=[(item.value, f"{item.value}: {item.label}") for item in EventType],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    is_on = forms.BooleanField(label="Send messages to this channel", required=False)

    def __init__(self, kind: ChannelKind, channel: Channel | None, data: Mapping[str, Any] | None) -> None:
        initial: dict[str, Any] = {"types": [str(item) for item in ALERT_TYPES], "is_on": True}
        if channel is not None:
            shown = {name: getattr(channel, name) for name in ("name", "address", "types", "is_on")}
            initial = shown | ({"address": ""} if kind == ChannelKind.SLACK else {})
        super().__init__(data, initial=initial, label_suffix="")
        address = self.fields["address"]
        address.label, address.help_text = _ADDRESS[kind]
        if kind == ChannelKind.EMAIL:
            address.widget = forms.Textarea(attrs={"rows": 3})
        if kind == ChannelKind.SLACK and channel is not None:
            address.required = False
            address.help_text = f"Leave it empty to keep the current one, at {channel.address}."
        if kind == ChannelKind.WEBHOOK:
            keep = "Leave it empty to keep the current one." if channel else "Leave it empty to generate one."
            self.fields["secret"].help_text = f"whsec_ followed by base64. {keep}"
        else:
            del self.fields["secret"]

    def take(self, reasons: Mapping[str, str]) -> None:
        """Show the reasons of the operation beside the fields."""
        for name, reason in reasons.items():
            self.add_error(name if name in self.fields else None, reason)


class RulesForm(forms.Form):
    """All kinds of alerts: whether each is on, and its threshold where it has one."""

    def __init__(self, rules: Mapping[AlertKind, AlertRule], data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, label_suffix="")
        for kind, rule in rules.items():
            self.fields[f"{kind}_on"] = forms.BooleanField(
                label=kind.label, required=False, initial=rule.is_on
            )
            if models.WATCHES[kind].unit:
                self.fields[f"{kind}_threshold"] = forms.IntegerField(
                    label=f"{kind.label}, {models.WATCHES[kind].unit}",
                    min_value=1,
                    max_value=models.WATCHES[kind].most,
                    initial=rule.threshold,
                )


class DeliveryFilter(Filter):
    """Filters deliveries by channel, type and state."""

    beside: ClassVar[tuple[str, ...]] = ("before", "size")

    channel = forms.ModelChoiceField(
        Channel.objects.order_by("name"), required=False, empty_label="any channel"
    )
    type = forms.ChoiceField(
        choices=[("", "any type"), *((name, name) for name in EventType.values)], required=False
    )
    state = forms.ChoiceField(
        choices=[
            ("", "any state"),
            ("due", "due"),
            ("delivered", "delivered"),
            ("abandoned", "abandoned"),
        ],
        required=False,
    )

    def deliveries(self) -> models.DeliveryQuerySet:
        """Return the deliveries that match, newest first."""
        filters = self.cleaned_data
        rows = models.Delivery.objects.select_related("event", "channel").order_by("-pk")
        if filters["channel"]:
            rows = rows.filter(channel=filters["channel"])
        if filters["type"]:
            rows = rows.filter(event__type=filters["type"])
        if filters["state"]:
            rows = rows.in_state(filters["state"])
        return rows
