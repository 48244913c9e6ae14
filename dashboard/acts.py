"""How the pages tell what somebody did: the words of the activity log, and its values by their type."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from operators.actor import Interface
from scheduling import models

# Every verb that the log may hold; a test compares them with what the code records.
VERBS = (
    "submitted", "renamed", "replaced", "cancelled", "cancelled_matching", "retried", "stopped_retrying",
    "stopped_sending_again", "stopped_cancelling",
    "sent_again", "discarded", "paused", "resumed", "braked", "released", "released_target", "tested",
    "created", "changed", "deleted", "gave_up_calling_back", "issued", "revoked", "set_time_zone",
    "changed_password", "signed_out_everywhere", "let_in_again", "checked_plan",
)  # fmt: skip
# What something was done to, and how it is called.
KINDS = {
    "task": "task",
    "queue": "queue",
    "user": "user",
    "target": "target",
    "idlist": "preview",
    "operator": "operator",
    "token": "token",
}
FACES = {Interface.PAGE: "on a page", Interface.ADMIN: "in the admin", Interface.API: "over the API"}
# What a program needs to find its own again says nothing to a reader.
UNSAID = frozenset({"run", "up_to"})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")


def face(act: models.Activity) -> str:
    """By which door it came; nothing where the actor's name says so already."""
    return FACES.get(act.face, "")


def changes(act: models.Activity) -> list[SafeString]:
    """What an act changed, a piece for each field: `rpm 120 → 200`."""
    return list(_pieces(act.before or {}, act.after or {}))


def _pieces(before: dict, after: dict) -> Iterator[SafeString]:
    for name in {**before, **after}:
        if name in UNSAID:
            continue
        label = name.removesuffix("_count").replace("_", " ")
        if name in before and name in after:
            yield format_html("{} {} → {}", label, said(before[name], name), said(after[name], name))
        elif name in before:
            yield format_html("{} was {}", label, said(before[name], name))
        else:
            yield format_html("{} {}", label, said(after[name], name))


def said(value: Any, name: str = "") -> SafeString | str:
    """A value as it is read: none, yes, 12,480, a time in the operator's zone.

    name: of what it is the value; the number of a row is no count and has no separators.
    """
    from dashboard.templatetags.quarterdeck import moment

    if value is None or value == "" or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value) if name == "id" or name.endswith("_id") else f"{value:,}"
    if isinstance(value, dict):
        return mark_safe(", ".join(_pieces({}, value)))
    if isinstance(value, list | tuple):
        return mark_safe(", ".join(conditional_escape(said(one, "id")) for one in value))
    if _TIME.fullmatch(value):
        return moment(datetime.fromisoformat(value))
    return str(value)
