"""Operations on operators."""

import secrets
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F

from operators.actor import Actor
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
