"""Create, change, pause, resume and brake queues."""

from collections.abc import Callable, Mapping
from copy import copy
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import limits
from scheduling.core.clock import iso
from scheduling.core.errors import (
    AlreadyPaused,
    BadFields,
    DefaultQueueStays,
    NotPaused,
    QueueInUse,
    QueueTaken,
    Refused,
    StaleVersion,
    TooManyQueues,
)
from scheduling.dispatch import overdue
from scheduling.models.fields import UnreadableSecret
from scheduling.placement import reservations
from scheduling.queues import effects, rates, secrets_at_rest, validation

# It always exists.
DEFAULT = "default"
# Each is a signature in every request.
MOST_EARLIER_SECRETS = 5
# The fields that say where a queue sends.
_SENDS_TO = frozenset({"webhook_url", "handler"})


def create(
    *, name: str, fields: Mapping[str, Any] | None = None, paused: bool = False, by: Actor, at: datetime
) -> models.Queue:
    """Create a queue. fields: by the names of docs/queue-fields.md. Raises BadFields, QueueTaken, TooManyQueues."""
    fields = _without_nulls(fields or {})
    validation.check_name(name)
    validation.check(fields)
    if "webhook_headers" in fields:
        fields["webhook_headers"] = validation.with_stored_values(fields["webhook_headers"], {})
    validation.check_together(models.Queue(), with_shared_hours(fields))
    target = rates.target_of(models.Queue(**fields | {"hours": None}))
    # Checked first: an insert that fails uses up a number too, and there are only 8,191.
    if models.Queue.objects.filter(name=name).exists():
        raise QueueTaken(name=name)
    try:
        with store.write():
            stored = secrets_at_rest.as_stored(with_shared_hours(fields, lock=True))
            queue = models.Queue.objects.create(
                name=name, created_at=at, paused_at=at if paused else None, target=target, **stored
            )
            activity.record(by, "created", queue, at=at, after=_shown(fields))
            rates.check_open([queue.pk], at=at)
    except IntegrityError as error:
        if "queue_number_fits_a_key" in str(error):
            raise TooManyQueues(count=models.MAX_QUEUES) from None
        raise QueueTaken(name=name) from None
    return queue


def update(
    queue: models.Queue,
    changes: Mapping[str, Any],
    *,
    by: Actor,
    now: Callable[[], datetime],
    if_version: int | None = None,
) -> models.Queue:
    """Change fields of a queue, `paused` among them; return the queue as stored.

    Another rpm acts on open and future windows; the running window keeps its own. Under `carry_over` what no
    longer fits moves on (`rates.refit`). Raises BadFields, StaleVersion.
    """
    changes = _without_nulls(changes)
    pausing = changes.pop("paused", None)
    if pausing not in (None, True, False):
        raise BadFields(paused="It must be true or false.")
    validation.check(changes)
    with store.write():
        # Shared hours before all else.
        changes = with_shared_hours(changes, lock=True)
        queue, at = _locked_with_targets(queue, changes), now()
        if if_version not in (None, queue.version):
            raise StaleVersion
        apply(queue, changes, by=by, at=at)
        rates.check_open([queue.pk], at=at)
        if pausing is True and not queue.paused:
            _pause(queue, by=by, at=at)
        elif pausing is False and queue.paused:
            _resume(queue, by=by, at=at)
    return queue


def _locked_with_targets(queue: models.Queue, changes: Mapping[str, Any]) -> models.Queue:
    """Lock a queue, and before it both targets, should it move from one to the other."""
    target = rates.target_of(rates.changed_copy(queue, changes)) if _SENDS_TO & set(changes) else None
    return reservations.lock_queue(queue.pk, target_id=target.pk if target else None)


def _changed(queue: models.Queue, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that get another value, with the target if the queue moves to another. Raises BadFields."""
    changes = _together(queue, changes)
    changed = {name: value for name, value in changes.items() if getattr(queue, name) != value}
    if (
        _SENDS_TO & set(changed)
        and (target := rates.target_of(rates.changed_copy(queue, changed))) != queue.target
    ):
        changed["target_id"] = target.pk if target else None
    return changed


def apply(queue: models.Queue, changes: Mapping[str, Any], *, by: Actor, at: datetime) -> None:
    """Change fields of a queue whose row the caller has locked, and let its plan follow. Raises BadFields."""
    if changed := _changed(queue, changes):
        _store(queue, changed, by=by, at=at)


def _store(queue: models.Queue, changed: Mapping[str, Any], *, by: Actor, at: datetime) -> None:
    """Store changed fields of a locked queue, log them, and let the plan follow."""
    # Which target that is follows from the address.
    shown = {name: value for name, value in changed.items() if name != "target_id"}
    before, unchanged = {name: getattr(queue, name) for name in shown}, copy(queue)
    if {"hours", "ramp"} & set(changed):
        rates.keep_open_windows(queue, at=at)
    for name, value in secrets_at_rest.as_stored(changed).items():
        setattr(queue, name, value)
    # Other credentials may be all right.
    queue.blocked_until = None
    _save(queue, "blocked_until", *changed)
    activity.record(by, "changed", queue, at=at, before=_shown(before), after=_shown(shown))
    rates.follow(queue, changed, before=unchanged, at=at)


def with_shared_hours(changes: Mapping[str, Any], *, lock: bool = False) -> dict[str, Any]:
    """Return changes in which hours that are given by their name are their form. Raises BadFields for another name.

    lock: the row of the hours, until the transaction ends. Other hours of a queue end its share in those that it had.
    """
    changes = dict(changes)
    if "hours" not in changes:
        return changes
    name, shared = changes["hours"], None
    if isinstance(name, str):
        rows = models.Hours.objects.select_for_update() if lock else models.Hours.objects
        shared = rows.filter(name=name).first()
        if shared is None:
            raise BadFields(hours=f"There are no hours named {name[:50]!r}.")
        changes["hours"] = shared.form
    return {**changes, "shared_hours": shared}


def effect_of(queue: models.Queue, changes: Mapping[str, Any], *, at: datetime) -> effects.Effect:
    """Return what an update with these changes would do to the plan; nothing is stored. Raises BadFields."""
    return effects.of_changes(queue, check(queue, changes), at=at)


def check(queue: models.Queue, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes as an update would store them, without storing them. Raises BadFields."""
    changes = _without_nulls(changes)
    changes.pop("paused", None)
    validation.check(changes)
    return _together(queue, with_shared_hours(changes))


def _together(queue: models.Queue, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Check changes together with the fields that stay, and return them with the stored values. Raises BadFields."""
    complete = dict(changes)
    if "webhook_headers" in changes:
        complete["webhook_headers"] = validation.with_stored_values(
            changes["webhook_headers"], queue.webhook_headers
        )
    validation.check_together(queue, complete)
    validation.check_secrets_stay(queue, changes)
    return complete


def delete(queue: models.Queue, *, by: Actor, at: datetime) -> None:
    """Delete a queue that never had a task. Raises QueueInUse, DefaultQueueStays."""
    if queue.name == DEFAULT:
        raise DefaultQueueStays(name=queue.name)
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        if models.Task.objects.filter(queue=queue).exists():
            raise QueueInUse(name=queue.name)
        # A test request or a look at a minute may have created them.
        models.Bucket.objects.filter(window__queue=queue).delete()
        models.Window.objects.filter(queue=queue).delete()
        models.ChainedReceipt.objects.filter(queue=queue).delete()
        activity.record(by, "deleted", queue, at=at)
        queue.delete()


def rotate_secret(
    queue: models.Queue, secret: str | None, *, overlap_seconds: int, by: Actor, at: datetime
) -> str:
    """Replace the secret of a queue, and return the new one.

    secret: None generates one. For `overlap_seconds` requests carry a signature by each, so that receivers can
    change over without refusing any. Secrets of earlier rotations sign until their own overlap ends, except that
    without an overlap nothing but the new one signs. Raises BadFields.
    """
    secret = validation.new_secret() if secret is None else secret
    validation.check({"webhook_secret": secret})
    if not secret:
        raise BadFields(secret="A secret is needed. To send without signatures, set webhook_secret to null.")
    validation.check_overlap(overlap_seconds)
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        # What can't be read doesn't sign, and without an overlap no earlier one does.
        earlier = [
            (text, until)
            for text, until in queue.earlier_secrets
            if until > at and overlap_seconds and not isinstance(text, UnreadableSecret)
        ]
        if len(earlier) >= MOST_EARLIER_SECRETS:
            raise BadFields(
                overlap_seconds=f"{len(earlier)} earlier secrets still sign, the first of them until"
                f" {iso(min(until for _, until in earlier))}. With 0, only the new one signs from now on."
            )
        is_readable = not isinstance(queue.webhook_secret, UnreadableSecret)
        stored = secrets_at_rest.as_stored(
            {
                "webhook_older_secrets": {until.isoformat(): text for text, until in reversed(earlier)},
                "webhook_previous_secret": queue.webhook_secret if is_readable else "",
                "webhook_secret": secret,
            }
        )
        queue.webhook_previous_secret_until = at + timedelta(seconds=overlap_seconds)
        for name, value in stored.items():
            setattr(queue, name, value)
        _save(queue, *stored, "webhook_previous_secret_until")
        activity.record(by, "rotated_secret", queue, at=at, after={"overlap_seconds": overlap_seconds})
    return secret


def pause(queue: models.Queue, reason: str = "", *, by: Actor, at: datetime) -> models.Queue:
    """Stop dispatching the queue from the next claim on; its IDs keep their places.

    It still accepts lists and plans them. reason: shown on the board while it lasts. Raises AlreadyPaused.
    """
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        if queue.paused:
            raise AlreadyPaused(name=queue.name)
        _pause(queue, reason, by=by, at=at)
    return queue


def resume(queue: models.Queue, *, by: Actor, at: datetime) -> models.Queue:
    """Continue at the plan's pace. IDs that fell due meanwhile are late and take free places. Raises NotPaused."""
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        if not queue.paused:
            raise NotPaused(name=queue.name)
        _resume(queue, by=by, at=at)
    return queue


def pause_all(*, by: Actor, at: datetime) -> int:
    """Pause every queue that isn't paused. Returns how many."""
    return _each(models.Queue.objects.filter(paused_at=None), pause, AlreadyPaused, by=by, at=at)


def resume_all(*, by: Actor, at: datetime) -> int:
    """Resume every queue that is paused. Returns how many."""
    return _each(models.Queue.objects.filter(paused_at__isnull=False), resume, NotPaused, by=by, at=at)


def _each(
    chosen: QuerySet[models.Queue],
    operation: Callable[..., models.Queue],
    already: type[Refused],
    *,
    by: Actor,
    at: datetime,
) -> int:
    done = 0
    for queue in chosen.order_by("pk"):
        try:
            operation(queue, by=by, at=at)
            done += 1
        except already:
            continue
    return done


def brake(
    queue: models.Queue, per_minute: int | None, reason: str = "", *, by: Actor, at: datetime
) -> models.Queue:
    """Send at most `per_minute` requests in each minute that isn't sealed yet, in the running window too.

    IDs that this makes late take free places below the brake. None releases it. reason: shown on the board while
    it lasts. Raises BadFields.
    """
    if per_minute is not None and (type(per_minute) is not int or not 0 <= per_minute <= models.MAX_RPM):
        raise BadFields(per_minute=f"It must be a whole number from 0 to {models.MAX_RPM}, or null.")
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        before, queue.brake_per_minute = queue.brake_per_minute, per_minute
        if before != per_minute:
            queue.brake_reason = reason[: limits.REASON_CHARACTERS] if per_minute is not None else ""
            _save(queue, "brake_per_minute", "brake_reason")
            verb = "released" if per_minute is None else "braked"
            after = {"per_minute": per_minute} | _why(queue.brake_reason)
            activity.record(by, verb, queue, at=at, before={"per_minute": before}, after=after)
    return queue


def _why(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}


def _pause(queue: models.Queue, reason: str = "", *, by: Actor, at: datetime) -> None:
    queue.paused_at, queue.pause_reason = at, reason[: limits.REASON_CHARACTERS]
    _save(queue, "paused_at", "pause_reason")
    after = {"paused_at": at.isoformat()} | _why(queue.pause_reason)
    activity.record(by, "paused", queue, at=at, before={"paused_at": None}, after=after)


def _resume(queue: models.Queue, *, by: Actor, at: datetime) -> None:
    before = {"paused_at": queue.paused_at.isoformat() if queue.paused_at else None}
    queue.paused_at, queue.pause_reason = None, ""
    _save(queue, "paused_at", "pause_reason")
    activity.record(by, "resumed", queue, at=at, before=before, after={"paused_at": None})
    # The sweep would do this too, but a few seconds later.
    overdue.wake(at=at)


def _save(queue: models.Queue, *columns: str) -> None:
    # Its row is locked, so that the number can't go back.
    queue.version += 1
    queue.save(update_fields=[*columns, "version"])


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(fields)
    # Null clears it, as an empty text does.
    fields |= {name: "" for name in validation.WRITE_ONLY if name in fields and fields[name] is None}
    # Without a server nobody needs it any more.
    if fields.get("oauth_token_url") == "":
        fields.setdefault("oauth_client_secret", "")
    if isinstance(fields.get("webhook_headers"), Mapping):
        fields["webhook_headers"] = dict(fields["webhook_headers"])
    return fields


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    # A secret is written and never read, and headers may carry tokens: the log has neither.
    secret = models.SECRET_FIELDS
    shown = {name: _hidden(value) if name in secret else value for name, value in fields.items()}
    if "shared_hours" in shown:
        shown["shared_hours"] = shown["shared_hours"] and shown["shared_hours"].name
    return shown


def _hidden(value: Any) -> Any:
    return sorted(value) if isinstance(value, Mapping) else bool(value)
