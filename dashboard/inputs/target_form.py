"""The budget of a target as a form: its limit is entered as the vendor's contract states it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django import forms

from dashboard.inputs.queue_settings import HOURS_HELP, QUOTAS_HELP, HoursField, QuotasField, SharedField
from operators.actor import Actor
from scheduling import models
from scheduling.queues import effects, targets


class TargetForm(forms.Form):
    """A new budget, or one that is changed. The operation checks the values."""

    origin = forms.CharField(
        label="Target",
        max_length=2000,
        help_text="Scheme, host and port, such as https://api.vendor.example:443.",
    )
    limit_per_60s = forms.IntegerField(
        label="Requests that the vendor's contract allows in 60 seconds",
        required=False,
        min_value=2,
        max_value=models.MAX_RPM + 1,
        help_text="3,000 sets rpm to 2,999: in 60 seconds that begin at any moment, there can be one start more than"
        " in a minute. Empty: no limit per minute.",
    )
    shared = SharedField()
    hours = HoursField(label="Hours", required=False, help_text=HOURS_HELP)
    quotas = QuotasField(label="Quotas", required=False, help_text=QUOTAS_HELP)
    # How many IDs the page said that the change moves.
    moves = forms.IntegerField(widget=forms.HiddenInput, required=False)
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, target: models.Target | None, data: Mapping[str, Any] | None = None) -> None:
        initial: dict[str, Any] = {}
        if target is not None:
            limit = None if target.rpm is None else target.rpm + 1
            initial = {"limit_per_60s": limit, "version": target.version}
            initial |= {"hours": target.hours, "quotas": target.quotas}
            initial["shared"] = target.shared_hours.name if target.shared_hours else ""
        super().__init__(data, initial=initial, label_suffix="")
        self.target = target
        if target is not None:
            del self.fields["origin"]

    @property
    def values(self) -> dict[str, Any]:
        """Return the budget by the names that the operations use."""
        limit = self.cleaned_data["limit_per_60s"]
        per_minute = {"rpm": None} if limit is None else {"limit_per_60s": limit}
        hours = self.cleaned_data["shared"] or self.cleaned_data["hours"]
        return {**per_minute, "hours": hours, "quotas": self.cleaned_data["quotas"]}

    def effect(self, *, at: datetime) -> effects.Effect:
        """Return what saving it would do to the plan. Raises BadFields."""
        if self.target is None:
            return targets.effect_of_new(self.cleaned_data["origin"], self.values, at=at)
        return targets.effect_of(self.target, self.values, at=at)

    def save(self, *, by: Actor, now: Callable[[], datetime]) -> models.Target:
        """Save it. Raises Refused."""
        if self.target is None:
            return targets.create(origin=self.cleaned_data["origin"], fields=self.values, by=by, now=now)
        version = self.cleaned_data["version"]
        return targets.update(self.target, self.values, by=by, now=now, if_version=version)

    def take(self, reasons: Mapping[str, str]) -> None:
        """Show the reasons of the operation beside the fields."""
        for name, reason in reasons.items():
            self.add_error({"rpm": "limit_per_60s"}.get(name, name if name in self.fields else None), reason)
