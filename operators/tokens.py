"""Tokens: made, checked, revoked."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from operators.actor import Actor
from operators.errors import AlreadyRevoked, NamelessToken
from operators.models import Operator, Scope, Token
from operators.signals import acted

PREFIX = "qd_"
LONGEST_SECRET = 200
# A write for every request would put every reader into the writers' queue.
USED_STEP = timedelta(minutes=1)


def issue(
    *, name: str, scope: Scope | str, by: Actor, at: datetime, operator: Operator | None = None
) -> tuple[Token, str]:
    """Make a token; give it and its secret, which nobody can read again.

    at: aware, UTC. operator: whose it is. Raises NamelessToken; ValueError for another scope.
    """
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise NamelessToken
    secret = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        token = Token.objects.create(
            name=name, scope=Scope(scope), operator=operator, hash=hashed(secret), created_at=at
        )
        acted.send(Token, by=by, act="issued", target=token, at=at, details={"scope": token.scope})
    return token, secret


def revoke(token: Token, *, by: Actor, at: datetime) -> None:
    """End `token` for good. Raises AlreadyRevoked if somebody else was first."""
    with transaction.atomic():
        if not Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=at):
            raise AlreadyRevoked
        token.revoked_at = at
        acted.send(Token, by=by, act="revoked", target=token, at=at, details={})


def authenticate(secret: str, *, at: datetime) -> Token | None:
    """The living token of this secret, with its operator, or None. One query; a write a minute at most."""
    if not secret.startswith(PREFIX) or len(secret) > LONGEST_SECRET:
        return None
    # The look-up is by the hash, so its timing tells nothing about the secret.
    token = Token.objects.select_related("operator").filter(hash=hashed(secret), revoked_at=None).first()
    if token is None or (token.operator is not None and not token.operator.is_active):
        return None
    stale = Q(last_used_at=None) | Q(last_used_at__lt=at - USED_STEP)
    if token.last_used_at is None or token.last_used_at < at - USED_STEP:
        Token.objects.filter(stale, pk=token.pk).update(last_used_at=at)
        token.last_used_at = at
    return token


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
