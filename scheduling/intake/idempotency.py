"""Idempotency keys: the same key with the same content returns the stored response and creates nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scheduling import models, store
from scheduling.core.errors import KeyReused

KEYS_KEPT = timedelta(days=7)


@dataclass(frozen=True)
class IdempotencyKey:
    """scope: the caller. fingerprint: of content and parameters, not of the bytes around them."""

    scope: str
    key: str
    fingerprint: str


def stored(key: IdempotencyKey, *, at: datetime) -> models.IdempotentAnswer | None:
    """Return the response that this key got within a week. Raises KeyReused for other content."""
    row = models.IdempotentAnswer.objects.filter(scope=key.scope, key=key.key).first()
    if row is None or row.answer is None or row.created_at < at - KEYS_KEPT:
        return None
    if row.fingerprint != key.fingerprint:
        raise KeyReused
    return row


def take(key: IdempotencyKey, *, at: datetime) -> models.IdempotentAnswer | None:
    """Take the key for the open transaction; or return its response, after waiting for the transaction that has it."""
    rows = models.IdempotentAnswer.objects
    rows.filter(scope=key.scope, key=key.key, created_at__lt=at - KEYS_KEPT).delete()
    answer = models.IdempotentAnswer(scope=key.scope, key=key.key, fingerprint=key.fingerprint, created_at=at)
    # Waits for an equal key in an open transaction. A row without a response is ours: others' are never committed.
    rows.bulk_create([answer], ignore_conflicts=True)
    return stored(key, at=at)


def keep(key: IdempotencyKey, response: Any, *, task_id: int | None = None) -> None:
    """Store the response of a key that was taken in the open transaction."""
    rows = models.IdempotentAnswer.objects.filter(scope=key.scope, key=key.key)
    rows.update(answer=response, task_id=task_id)


def forget_old(*, at: datetime) -> None:
    """Delete keys past their week."""
    models.IdempotentAnswer.objects.filter(created_at__lt=at - KEYS_KEPT).delete()


def once(
    key: IdempotencyKey | None, create: Callable[[], Any], *, now: Callable[[], datetime]
) -> tuple[Any, bool]:
    """Return the response that `create` makes, or the stored one, and whether it was stored.

    Whatever `create` writes is committed together with its response.
    """
    if key is None:
        return create(), False
    if stored_answer := stored(key, at=now()):
        return stored_answer.answer, True
    with store.write():
        if stored_answer := take(key, at=now()):
            return stored_answer.answer, True
        response = create()
        keep(key, response)
    return response, False
