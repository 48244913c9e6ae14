"""Issue, authenticate and revoke tokens."""

import hashlib
import secrets
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction
from django.db.models import Q

from operators.actor import Actor
from operators.errors import AlreadyRevoked, InvalidTokenName
from operators.models import Operator, Scope, Token
from operators.signals import action_taken

PREFIX = "qd_"
LONGEST_SECRET = 200
# Writing for every request would make every reader wait for the write lock.
USED_STEP = timedelta(minutes=1)


def issue(
    *,
    name: str,
    scope: Scope | str,
    by: Actor,
    at: datetime,
    operator: Operator | None = None,
    expires_at: datetime | None = None,
    queue_name: str = "",
) -> tuple[Token, str]:
    """Issue a token. Returns it with its secret, which can't be read again.

    at, expires_at: aware, UTC. operator: the owner. queue_name: the only queue of a token with the scope submit.
    Raises InvalidTokenName; ValueError for another scope, or a queue with another one.
    """
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise InvalidTokenName
    if queue_name and Scope(scope) != Scope.SUBMIT:
        raise ValueError("Only a token with the scope submit can have a queue.")
    secret = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        token = Token.objects.create(
            name=name,
            scope=Scope(scope),
            operator=operator,
            hash=hashed(secret),
            created_at=at,
            expires_at=expires_at,
            queue_name=queue_name,
        )
        action_taken.send(Token, by=by, act="issued", target=token, at=at, details={"scope": token.scope})
    return token, secret


def revoke(token: Token, *, by: Actor, at: datetime) -> None:
    """Revoke `token` permanently. Raises AlreadyRevoked if somebody else did so first."""
    with transaction.atomic():
        if not Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=at):
            raise AlreadyRevoked
        token.revoked_at = at
        action_taken.send(Token, by=by, act="revoked", target=token, at=at, details={})


def authenticate(secret: str, *, at: datetime) -> Token | None:
    """Return the valid token with this secret, or None. One query, and at most one write a minute."""
    if not secret.startswith(PREFIX) or len(secret) > LONGEST_SECRET:
        return None
    # The lookup is by the hash, so its timing reveals nothing about the secret.
    token = Token.objects.select_related("operator").filter(hash=hashed(secret), revoked_at=None).first()
    if token is None or (token.operator is not None and not token.operator.is_active):
        return None
    if token.expires_at is not None and token.expires_at <= at:
        return None
    stale = Q(last_used_at=None) | Q(last_used_at__lt=at - USED_STEP)
    if token.last_used_at is None or token.last_used_at < at - USED_STEP:
        # A disk that is full, or a database that is read-only, must not refuse a reader.
        with suppress(DatabaseError), transaction.atomic():
            Token.objects.filter(stale, pk=token.pk).update(last_used_at=at)
        token.last_used_at = at
    return token


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
