"""What a channel is sent: an e-mail, the JSON of a webhook, or that of Slack."""

from email.utils import make_msgid
from typing import Any

import orjson
from django.conf import settings
from django.core.mail import EmailMessage

from scheduling.core.clock import iso
from scheduling.models import ALERT_TYPES, Channel, Event, EventType

# Before the text in a chat, where it is all that tells them apart at a glance.
_MARKS = {
    EventType.ALERT_FIRING: "\N{LARGE RED CIRCLE}",
    EventType.ALERT_RESOLVED: "\N{LARGE GREEN CIRCLE}",
}


def link_of(event: Event, channel: Channel) -> str:
    """Return the address of the page that shows more."""
    return f"{channel.base_url}{event.path}" if event.path else channel.base_url


def webhook_body(event: Event, channel: Channel) -> bytes:
    """Return the event as JSON, in the form that the Standard Webhooks specification recommends."""
    data = {**event.data, "summary": event.title, "url": link_of(event, channel)}
    if "alerts" in data:
        data["alerts"] = [_with_link(alert, channel) for alert in data["alerts"]]
    return orjson.dumps({"type": event.type, "timestamp": iso(event.at, "seconds"), "data": data})


def _with_link(alert: dict[str, Any], channel: Channel) -> dict[str, Any]:
    linked = {name: value for name, value in alert.items() if name != "path"}
    return linked | {"url": f"{channel.base_url}{alert['path']}"}


def slack_body(event: Event, channel: Channel) -> bytes:
    """Return the event as Slack's incoming webhooks take it."""
    lines = [" ".join(filter(None, [_MARKS.get(EventType(event.type), ""), _for_slack(_title_of(event))]))]
    lines += map(_for_slack, _named_in(event))
    if runbook := _runbook_of(event):
        lines.append(_for_slack(runbook))
    if channel.base_url:
        lines.append(f"<{link_of(event, channel)}|Open in Quarterdeck>")
    return orjson.dumps({"text": "\n".join(lines)})


def email_of(event: Event, channel: Channel) -> EmailMessage:
    """Return the event as an e-mail. It has one `Message-ID` however often it is sent."""
    label = f" {settings.INSTANCE_LABEL}" if settings.INSTANCE_LABEL else ""
    named = "\n".join(_named_in(event))
    parts = [_title_of(event), named, link_of(event, channel), _runbook_of(event)]
    parts.append(
        f"You receive this because of the channel “{channel.name}” in Quarterdeck."
        " An admin can change it on the page Alerts."
    )
    domain = make_msgid(domain=settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("> ") or "quarterdeck")
    # One line: what ends a line in a title, which people write, would end the header.
    subject = " ".join(f"[Quarterdeck{label}] {_title_of(event)}".split())
    return EmailMessage(
        subject=subject[:200],
        body="\n\n".join(filter(None, parts)) + "\n",
        to=channel.address.split(),
        headers={"Message-ID": f"<{event.key}.{channel.pk}@{domain.rpartition('@')[2].rstrip('>')}>"},
    )


def _title_of(event: Event) -> str:
    prefix = "Test: " if event.data.get("test") else ""
    return f"{prefix}{event.title}"


def _named_in(event: Event) -> list[str]:
    """Return a line for each alert of a message about several, as far as it names them."""
    named, count = event.data.get("alerts", []), event.data.get("count", 0)
    if count < 2:
        return []
    lines = [f"- {alert['summary']}" for alert in named]
    if more := count - len(named):
        lines.append(f"- and {more:,} more")
    return lines


def _runbook_of(event: Event) -> str:
    """Return what to do about an alert, and where the docs say more."""
    data: dict[str, Any] = event.data
    if event.type not in ALERT_TYPES or event.type == EventType.ALERT_RESOLVED:
        return ""
    return f"What to do: {data['runbook']} See {data['docs']}."


def _for_slack(text: str) -> str:
    # https://api.slack.com/reference/surfaces/formatting#escaping
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
