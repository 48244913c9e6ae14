"""The activity log: who did what, when, to how many, through which interface."""

from datetime import datetime
from typing import Any

from operators.actor import Actor
from operators.signals import action_taken
from scheduling import models
from scheduling.store import inserting


def record(
    by: Actor,
    verb: str,
    thing: Any = None,
    *,
    at: datetime,
    count: int | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Add an entry, in the transaction of the operation itself.

    verb: one stable word ("submitted", "cancelled", "paused"). thing: the row of the object.
    """
    line = models.Activity(
        at=at,
        actor_kind=by.kind,
        actor_id=by.id,
        actor_name=by.name[:200],
        face=by.interface,
        verb=verb,
        object_kind=thing._meta.model_name if thing is not None else "",
        object_id=thing.pk if thing is not None else None,
        object_name=str(thing)[:200] if thing is not None else "",
        count=count,
        before=before,
        after=after,
    )
    inserting.insert([line])


def connect() -> None:
    """Record operations on operators and tokens, too: their app knows no other one, and sends a signal."""
    action_taken.connect(_record_of_operators, dispatch_uid="scheduling.activity")


def _record_of_operators(
    sender: object,
    by: Actor,
    act: str,
    target: Any,
    at: datetime,
    details: dict[str, Any],
    before: dict[str, Any] | None = None,
    **kwargs: object,
) -> None:
    record(by, act, target, at=at, before=before, after=details or None)
