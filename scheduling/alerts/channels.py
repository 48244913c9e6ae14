"""Operations on channels: where alerts and events are sent."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from operators.actor import Actor
from scheduling import activity, store
from scheduling.core.clock import iso
from scheduling.core.errors import BadFields, ChannelTaken, StaleVersion
from scheduling.events import delivery
from scheduling.events.sealing import seal
from scheduling.handlers.base import Outcome
from scheduling.models import Channel, ChannelKind, Delivery, Event, EventType
from scheduling.queues import validation

NAME_CHARACTERS = 100
MOST_ADDRESSES = 20
MOST_FAILING = 1_000
FIELDS = ("name", "address", "secret", "types", "is_on")


def create(
    *, kind: str, fields: Mapping[str, Any], base_url: str, by: Actor, at: datetime
) -> tuple[Channel, str]:
    """Create a channel; return it and the secret with which a webhook verifies its messages.

    fields: of FIELDS; a webhook without a secret gets one. base_url: where links in its messages lead, as the caller
    reaches this installation. Raises BadFields, ChannelTaken.
    """
    if kind not in ChannelKind.values:
        raise BadFields(kind=f"It must be one of {', '.join(ChannelKind.values)}.")
    secret = fields.get("secret") or (validation.new_secret() if kind == ChannelKind.WEBHOOK else "")
    channel = Channel(kind=kind, base_url=base_url.rstrip("/"), created_at=at)
    required = {"name": "", "address": "", "types": []}
    _set(channel, {**required, **fields, "secret": secret})
    with store.write():
        _check_name_is_free(channel)
        channel.save()
        activity.record(by, "created", channel, at=at, after=_shown(channel))
    return channel, secret


def change(
    channel: Channel,
    changes: Mapping[str, Any],
    *,
    by: Actor,
    at: datetime,
    base_url: str = "",
    if_version: int | None = None,
) -> Channel:
    """Change a channel. An empty secret, and an empty address of Slack, keep what is stored.

    Raises BadFields, ChannelTaken, StaleVersion.
    """
    with store.write():
        channel = Channel.objects.select_for_update().get(pk=channel.pk)
        if if_version not in (None, channel.version):
            raise StaleVersion
        before, sealed = _shown(channel), channel.sealed
        _set(channel, changes)
        _check_name_is_free(channel)
        after = _shown(channel)
        channel.base_url = base_url.rstrip("/") or channel.base_url
        if (before, sealed) != (after, channel.sealed):
            channel.version += 1
            changed = {name: value for name, value in after.items() if value != before[name]}
            if sealed != channel.sealed:
                changed["secret"] = "replaced"
            old = {name: before[name] for name in changed if name in before}
            activity.record(by, "changed", channel, at=at, before=old, after=changed)
        channel.save()
    return channel


def delete(channel: Channel, *, by: Actor, at: datetime) -> None:
    """Delete a channel, and what was delivered to it."""
    with store.write():
        activity.record(by, "deleted", channel, at=at)
        channel.delete()


def test(channel: Channel, *, by: Actor, at: datetime) -> Outcome:
    """Send the channel one message at once, whether it is on or not. It isn't stored and isn't retried."""
    data: dict[str, Any] = {
        "kind": None,
        "subject": "test",
        "started_at": iso(at, "seconds"),
        "ended_at": None,
        "repeat": 0,
        "count": 0,
        "alerts": [],
        "runbook": "This is a test. No action is needed.",
        "docs": "docs/alerts.md",
        "test": True,
    }
    title = f"This message tests the channel “{channel.name}”."
    event = Event(type=EventType.ALERT_FIRING, at=at, title=title, path="/dashboard/alerts/", data=data)
    outcome = delivery.send_now(event, channel)
    with store.write():
        details = {"status": outcome.status, "error": outcome.error}
        activity.record(by, "tested_channel", channel, at=at, after=details)
    return outcome


class Failing(NamedTuple):
    """How many messages to a channel failed lately and have not been delivered, and the latest error."""

    messages: int
    error: str


def failing(*, at: datetime) -> dict[int, Failing]:
    """Return the channels to which something could not be delivered within a day."""
    lately = Delivery.objects.failing().filter(attempted_at__gt=at - Delivery.RETRIED_FOR)
    by_channel: dict[int, Failing] = {}
    for channel_id, error in lately.order_by("-attempted_at").values_list("channel_id", "error")[
        :MOST_FAILING
    ]:
        entry = by_channel.get(channel_id, Failing(0, error))
        by_channel[channel_id] = entry._replace(messages=entry.messages + 1)
    return by_channel


def _check_name_is_free(channel: Channel) -> None:
    if Channel.objects.filter(name=channel.name).exclude(pk=channel.pk).exists():
        raise ChannelTaken(name=channel.name)


def _shown(channel: Channel) -> dict[str, Any]:
    """Return what the activity log records of a channel."""
    return {name: getattr(channel, name) for name in ("name", "kind", "address", "types", "is_on")}


def _set(channel: Channel, fields: Mapping[str, Any]) -> None:
    """Set fields of a channel that is not saved yet. Raises BadFields with what is wrong with each."""
    wrong = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise BadFields(**{name: f"There is no such field. Allowed: {', '.join(FIELDS)}."})
        if reason := _SETTERS[name](channel, value):
            wrong[name] = reason
    if wrong:
        raise BadFields(**wrong)


def _set_name(channel: Channel, value: Any) -> str | None:
    name = value.strip() if isinstance(value, str) else ""
    if not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
        return f"It must be 1 to {NAME_CHARACTERS} characters on one line."
    channel.name = name
    return None


def _set_address(channel: Channel, value: Any) -> str | None:
    text = value.strip() if isinstance(value, str) else ""
    if channel.kind == ChannelKind.EMAIL:
        return _set_emails(channel, text)
    if channel.kind == ChannelKind.SLACK and not text and channel.sealed:
        return None
    if not text:
        return "It must be an http:// or https:// address."
    try:
        validation.check({"callback_url": text})
    except BadFields as error:
        return error.reasons["callback_url"]
    if channel.kind == ChannelKind.SLACK:
        # The path is a credential: with it, anybody can write to the channel.
        channel.address, channel.sealed = f"https://{urlsplit(text).hostname}/…", seal(text)
    else:
        channel.address = text
    return None


def _set_emails(channel: Channel, text: str) -> str | None:
    addresses: Sequence[str] = text.replace(",", " ").replace(";", " ").split()
    if not 1 <= len(addresses) <= MOST_ADDRESSES:
        return f"It must be 1 to {MOST_ADDRESSES} e-mail addresses."
    for address in addresses:
        try:
            validate_email(address)
        except ValidationError:
            return f"{address[:80]} is not an e-mail address such as ann@example.com."
    channel.address = "\n".join(dict.fromkeys(addresses))
    return None


def _set_secret(channel: Channel, value: Any) -> str | None:
    if value in ("", None):
        return None
    if channel.kind != ChannelKind.WEBHOOK:
        return "Only a webhook has a secret."
    try:
        validation.check({"webhook_secret": value})
    except BadFields as error:
        return error.reasons["webhook_secret"]
    channel.sealed = seal(value)
    return None


def _set_types(channel: Channel, value: Any) -> str | None:
    types = set(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else set()
    if not types or types - set(EventType.values):
        return f"It must be a list of one or more of {', '.join(EventType.values)}."
    channel.types = [word for word in EventType.values if word in types]
    return None


def _set_is_on(channel: Channel, value: Any) -> str | None:
    if not isinstance(value, bool):
        return "It must be true or false."
    channel.is_on = value
    return None


_SETTERS = {
    "name": _set_name,
    "address": _set_address,
    "secret": _set_secret,
    "types": _set_types,
    "is_on": _set_is_on,
}
