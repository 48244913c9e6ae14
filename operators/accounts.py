"""What is done to operators."""

import secrets
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F

from operators.actor import Actor
from operators.models import Operator
from operators.roles import Role
from operators.signals import acted

FIRST_NAME = "admin"


def make_first(*, by: Actor, at: datetime) -> tuple[Operator, str] | None:
    """The first operator and its random password; None if there is an operator already."""
    if Operator.objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    try:
        with transaction.atomic():
            operator = Operator.objects.create_user(FIRST_NAME, password=password, role=Role.ADMIN)
            acted.send(
                Operator, by=by, act="created", target=operator, at=at, details={"role": operator.role}
            )
    except IntegrityError:
        # Another host started at the same moment, and its operator is the first.
        return None
    return operator, password


def set_time_zone(operator: Operator, time_zone: str, *, by: Actor, at: datetime) -> None:
    """Let `operator` read times in a zone, by its name."""
    with transaction.atomic():
        Operator.objects.filter(pk=operator.pk).update(time_zone=time_zone)
        before, details = {"time_zone": operator.time_zone}, {"time_zone": time_zone}
        acted.send(
            Operator, by=by, act="set_time_zone", target=operator, at=at, details=details, before=before
        )
    operator.time_zone = time_zone


def change_password(operator: Operator, password: str, *, by: Actor, at: datetime) -> None:
    """Give `operator` another password; it was checked already. All other sessions end with it."""
    with transaction.atomic():
        operator.set_password(password)
        operator.save(update_fields=["password"])
        acted.send(Operator, by=by, act="changed_password", target=operator, at=at, details={})


def end_sessions(operator: Operator, *, by: Actor, at: datetime) -> None:
    """Sign `operator` out everywhere."""
    with transaction.atomic():
        Operator.objects.filter(pk=operator.pk).update(session_epoch=F("session_epoch") + 1)
        acted.send(Operator, by=by, act="signed_out_everywhere", target=operator, at=at, details={})
    operator.refresh_from_db(fields=["session_epoch"])
