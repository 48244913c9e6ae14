"""Create, change, pause, resume and brake queues."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet

from operators.actor import Actor
from scheduling import activity, models, store
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
from scheduling.placement import reservations
from scheduling.queues import rates, validation

# It always exists.
DEFAULT = "default"
# What the activity log must not hold: a secret is written and never read, and headers may carry tokens.
_SECRET = ("webhook_secret", "webhook_headers")


def create(
    *, name: str, fields: Mapping[str, Any] | None = None, paused: bool = False, by: Actor, at: datetime
) -> models.Queue:
    """Create a queue. fields: by the names of docs/queue-fields.md. Raises BadFields, QueueTaken, TooManyQueues."""
    fields = _given(fields or {})
    validation.check_name(name)
    validation.check(fields)
    if "webhook_headers" in fields:
        fields["webhook_headers"] = validation.with_stored_values(fields["webhook_headers"], {})
    validation.check_together(models.Queue(), fields)
    # Asked for first: an insert that fails draws a number all the same, and there are 8,191.
    if models.Queue.objects.filter(name=name).exists():
        raise QueueTaken(name=name)
    try:
        with store.write():
            queue = models.Queue.objects.create(
                name=name, created_at=at, paused_at=at if paused else None, **fields
            )
            activity.record(by, "created", queue, at=at, after=_shown(fields))
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
    changes = _given(changes)
    pausing = changes.pop("paused", None)
    if pausing not in (None, True, False):
        raise BadFields(paused="It must be true or false.")
    validation.check(changes)
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        at = now()
        if if_version not in (None, queue.version):
            raise StaleVersion
        if "webhook_headers" in changes:
            changes["webhook_headers"] = validation.with_stored_values(
                changes["webhook_headers"], queue.webhook_headers
            )
        validation.check_together(queue, changes)
        changed = {name: value for name, value in changes.items() if getattr(queue, name) != value}
        if changed:
            before = {name: getattr(queue, name) for name in changed}
            if {"hours", "ramp"} & set(changed):
                rates.keep_open_windows(queue, at=at)
            for name, value in changed.items():
                setattr(queue, name, value)
            _save(queue, *changed)
            activity.record(by, "changed", queue, at=at, before=_shown(before), after=_shown(changed))
            rates.follow(queue, changed, at=at)
        if pausing is True and not queue.paused:
            _pause(queue, by=by, at=at)
        elif pausing is False and queue.paused:
            _resume(queue, by=by, at=at)
    return queue


def effect_of(queue: models.Queue, changes: Mapping[str, Any], *, at: datetime) -> rates.Effect:
    """Return what an update with these changes would do to the plan; nothing is stored. Raises BadFields."""
    changes = _given(changes)
    changes.pop("paused", None)
    validation.check(changes)
    if "webhook_headers" in changes:
        stored = queue.webhook_headers
        changes["webhook_headers"] = validation.with_stored_values(changes["webhook_headers"], stored)
    validation.check_together(queue, changes)
    return rates.effect_of(queue, changes, at=at)


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
        activity.record(by, "deleted", queue, at=at)
        queue.delete()


def rotate_secret(
    queue: models.Queue, secret: str | None, *, overlap_seconds: int, by: Actor, at: datetime
) -> str:
    """Replace the secret of a queue, and return the new one.

    secret: None generates one. For `overlap_seconds` requests carry a signature by each, so that receivers can
    change over without refusing any. Raises BadFields.
    """
    secret = validation.new_secret() if secret is None else secret
    validation.check({"webhook_secret": secret})
    if not secret:
        raise BadFields(secret="A secret is needed. To send without signatures, set webhook_secret to null.")
    validation.check_overlap(overlap_seconds)
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        queue.webhook_previous_secret = queue.webhook_secret
        queue.webhook_previous_secret_until = at + timedelta(seconds=overlap_seconds)
        queue.webhook_secret = secret
        _save(queue, "webhook_secret", "webhook_previous_secret", "webhook_previous_secret_until")
        activity.record(by, "rotated_secret", queue, at=at, after={"overlap_seconds": overlap_seconds})
    return secret


def pause(queue: models.Queue, *, by: Actor, at: datetime) -> models.Queue:
    """Stop dispatching the queue from the next claim on; its IDs keep their places.

    It still accepts lists and plans them. Raises AlreadyPaused.
    """
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        if queue.paused:
            raise AlreadyPaused(name=queue.name)
        _pause(queue, by=by, at=at)
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


def brake(queue: models.Queue, per_minute: int | None, *, by: Actor, at: datetime) -> models.Queue:
    """Send at most `per_minute` requests in each minute that isn't sealed yet, in the running window too.

    IDs that this makes late take free places below the brake. None releases it. Raises BadFields.
    """
    if per_minute is not None and (type(per_minute) is not int or not 0 <= per_minute <= models.MAX_RPM):
        raise BadFields(per_minute=f"It must be a whole number from 0 to {models.MAX_RPM}, or null.")
    with store.write():
        queue = reservations.lock_queue(queue.pk)
        before, queue.brake_per_minute = queue.brake_per_minute, per_minute
        if before != per_minute:
            _save(queue, "brake_per_minute")
            verb = "released" if per_minute is None else "braked"
            activity.record(
                by, verb, queue, at=at, before={"per_minute": before}, after={"per_minute": per_minute}
            )
    return queue


def _pause(queue: models.Queue, *, by: Actor, at: datetime) -> None:
    queue.paused_at = at
    _save(queue, "paused_at")
    activity.record(
        by, "paused", queue, at=at, before={"paused_at": None}, after={"paused_at": at.isoformat()}
    )


def _resume(queue: models.Queue, *, by: Actor, at: datetime) -> None:
    before = {"paused_at": queue.paused_at.isoformat() if queue.paused_at else None}
    queue.paused_at = None
    _save(queue, "paused_at")
    activity.record(by, "resumed", queue, at=at, before=before, after={"paused_at": None})
    # The sweep would find it as well, some seconds later.
    overdue.wake(at=at)


def _save(queue: models.Queue, *columns: str) -> None:
    # Its row is locked, so that the number can't go back.
    queue.version += 1
    queue.save(update_fields=[*columns, "version"])


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(fields)
    # Null clears it, as an empty text does.
    if "webhook_secret" in fields and fields["webhook_secret"] is None:
        fields["webhook_secret"] = ""
    if isinstance(fields.get("webhook_headers"), Mapping):
        fields["webhook_headers"] = dict(fields["webhook_headers"])
    return fields


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if name not in _SECRET else _hidden(value) for name, value in fields.items()}


def _hidden(value: Any) -> Any:
    return sorted(value) if isinstance(value, Mapping) else bool(value)
