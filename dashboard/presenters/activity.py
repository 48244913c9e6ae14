"""Entries of the activity log in words: what was done, and what it changed."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from dashboard import formatting
from dashboard.markup import Markup, join, markup
from operators.actor import Interface
from scheduling import models

FACES = {Interface.PAGE: "on a page", Interface.ADMIN: "in the admin", Interface.API: "over the API"}
COMMA = Markup(", ")
# Internal references that mean nothing to a reader.
HIDDEN = frozenset({"run", "up_to"})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")


def face(entry: models.Activity) -> str:
    """Return the interface that was used; empty if the actor's name already says it."""
    return FACES.get(Interface(entry.face), "")


def changes(entry: models.Activity) -> list[Markup]:
    """Return the changes, a piece for each field: `rpm 120 → 200`."""
    return list(_pieces(entry.before or {}, entry.after or {}))


def _pieces(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Markup]:
    for name in {**before, **after}:
        if name in HIDDEN:
            continue
        label = name.removesuffix("_count").replace("_", " ")
        if name in before and name in after:
            yield markup("%s %s → %s", label, value_text(before[name], name), value_text(after[name], name))
        elif name in before:
            yield markup("%s was %s", label, value_text(before[name], name))
        else:
            yield markup("%s %s", label, value_text(after[name], name))


def value_text(value: Any, name: str = "") -> Markup | str:
    """Return a value as people read it: none, yes, 12,480, a time in the operator's zone.

    name: of its field; the number of a row is not a count and has no separators.
    """
    if value is None or value == "" or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value) if name == "id" or name.endswith("_id") else f"{value:,}"
    if isinstance(value, dict):
        return join(_pieces({}, value), COMMA)
    if isinstance(value, list | tuple):
        return join((markup("%s", value_text(item, "id")) for item in value), COMMA)
    if _TIME.fullmatch(value):
        return formatting.moment(datetime.fromisoformat(value))
    return str(value)
