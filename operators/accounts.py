"""Operations on operators."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from operators.actor import Actor
from operators.errors import SignInRefused
from operators.models import Operator
from operators.roles import Role
from operators.signals import action_taken

FIRST_NAME = "admin"


def make_first(*, by: Actor, at: datetime) -> tuple[Operator, str] | None:
    """Create the first operator. Returns it with its random password, or None if there already is an operator."""
    if Operator.objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    try:
        with transaction.atomic():
            operator = Operator.objects.create_user(FIRST_NAME, password=password, role=Role.ADMIN)
            action_taken.send(
                Operator, by=by, act="created", target=operator, at=at, details={"role": operator.role}
            )
    except IntegrityError:
        # Another host started at the same moment and was faster.
        return None
    return operator, password


def of_subject(subject: str, *, role: Role, claims: Mapping[str, Any], at: datetime) -> Operator:
    """Return the operator whom the organization's server knows by this subject, with the role and name it gives.

    Creates one who comes for the first time. Raises SignInRefused for one who is not active, and where another
    operator has that name: a person who can choose names there must not take over an account here. An admin links them.
    """
    facts = {
        "role": role.value,
        "first_name": str(claims.get("given_name") or "")[:150],
        "last_name": str(claims.get("family_name") or "")[:150],
        "email": str(claims.get("email") or "")[:254],
    }
    with transaction.atomic():
        operator = Operator.objects.select_for_update().filter(oidc_subject=subject).first()
        if operator is None:
            return _first_sign_in(subject, facts, claims, at)
        if not operator.is_active:
            raise SignInRefused(reason="Your account is not active here. Ask an admin.")
        changed = {name: value for name, value in facts.items() if getattr(operator, name) != value}
        if changed:
            before = {name: getattr(operator, name) for name in changed}
            Operator.objects.filter(pk=operator.pk).update(**changed)
            action_taken.send(
                Operator,
                by=Actor.system(),
                act="changed",
                target=operator,
                at=at,
                details=changed,
                before=before,
            )
            operator.refresh_from_db()
    return operator


def _first_sign_in(
    subject: str, facts: Mapping[str, str], claims: Mapping[str, Any], at: datetime
) -> Operator:
    name = str(claims.get("preferred_username") or claims.get("email") or subject)[:150]
    if Operator.objects.filter(username__iexact=name).exists():
        raise SignInRefused(
            reason=f"There is already an operator named {name}. An admin can link the two: the subject is {subject}."
        )
    operator = Operator(username=name, oidc_subject=subject, **facts)
    # With no password of its own, the only way in is the organization's server.
    operator.set_unusable_password()
    operator.save()
    action_taken.send(
        Operator, by=Actor.system(), act="created", target=operator, at=at, details={"role": operator.role}
    )
    return operator


def set_person(
    operator: Operator, *, first_name: str, last_name: str, email: str, by: Actor, at: datetime
) -> None:
    """Set what an operator is called, and their e-mail address."""
    values = {"first_name": first_name, "last_name": last_name, "email": email}
    with transaction.atomic():
        locked = Operator.objects.select_for_update().get(pk=operator.pk)
        changed = {name: value for name, value in values.items() if getattr(locked, name) != value}
        if not changed:
            return
        before = {name: getattr(locked, name) for name in changed}
        Operator.objects.filter(pk=operator.pk).update(**changed)
        action_taken.send(
            Operator, by=by, act="changed", target=operator, at=at, details=changed, before=before
        )
    operator.refresh_from_db(fields=list(changed))


def set_time_zone(operator: Operator, time_zone: str, *, by: Actor, at: datetime) -> None:
    """Set the time zone in which `operator` is shown times, by its name."""
    with transaction.atomic():
        Operator.objects.filter(pk=operator.pk).update(time_zone=time_zone)
        before, details = {"time_zone": operator.time_zone}, {"time_zone": time_zone}
        action_taken.send(
            Operator, by=by, act="set_time_zone", target=operator, at=at, details=details, before=before
        )
    operator.time_zone = time_zone


def change_password(operator: Operator, password: str, *, by: Actor, at: datetime) -> None:
    """Set a password, which must already be validated. All other sessions of `operator` end."""
    with transaction.atomic():
        operator.set_password(password)
        operator.save(update_fields=["password"])
        action_taken.send(Operator, by=by, act="changed_password", target=operator, at=at, details={})


def end_sessions(operator: Operator, *, by: Actor, at: datetime) -> None:
    """End all sessions of `operator`."""
    with transaction.atomic():
        Operator.objects.filter(pk=operator.pk).update(session_epoch=F("session_epoch") + 1)
        action_taken.send(Operator, by=by, act="signed_out_everywhere", target=operator, at=at, details={})
    operator.refresh_from_db(fields=["session_epoch"])
