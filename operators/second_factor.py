"""A second factor for signing in with a password: codes of an authenticator app (TOTP), optional."""

from datetime import datetime

from django.db import transaction
from django_otp import match_token
from django_otp.plugins.otp_totp.models import TOTPDevice

from operators.actor import Actor
from operators.models import Operator
from operators.signals import action_taken


def device_of(operator: Operator) -> TOTPDevice | None:
    """Return the app that the operator has set up and confirmed."""
    found: TOTPDevice | None = TOTPDevice.objects.filter(user=operator, confirmed=True).first()
    return found


def unconfirmed_device_of(operator: Operator) -> TOTPDevice | None:
    """Return the app whose first code has not been entered yet."""
    found: TOTPDevice | None = TOTPDevice.objects.filter(user=operator, confirmed=False).first()
    return found


def begin(operator: Operator) -> None:
    """Create a secret for an app. It takes effect once a code from it has been entered."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=operator, confirmed=False).delete()
        TOTPDevice.objects.create(user=operator, name="authenticator app", confirmed=False)


def confirm(operator: Operator, code: str, *, by: Actor, at: datetime) -> bool:
    """Turn it on if the code is right. Returns whether it was."""
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=operator, confirmed=False).first()
        if device is None or not _verifies(device, code):
            return False
        TOTPDevice.objects.filter(user=operator, confirmed=True).delete()
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        action_taken.send(Operator, by=by, act="turned_on_two_factor", target=operator, at=at, details={})
    return True


def _verifies(device: TOTPDevice, code: str) -> bool:
    # A wrong code delays the next attempts, which both devices remember.
    return bool(device.verify_is_allowed()[0] and device.verify_token(code))


def verifies(operator: Operator, code: str) -> bool:
    """Return whether the code is right. Each code works once, and wrong ones delay the next attempts."""
    return match_token(operator, code) is not None


def turn_off(operator: Operator, *, by: Actor, at: datetime) -> None:
    """Delete the app, so that the password alone signs in again."""
    with transaction.atomic():
        deleted, _ = TOTPDevice.objects.filter(user=operator).delete()
        if deleted:
            action_taken.send(
                Operator, by=by, act="turned_off_two_factor", target=operator, at=at, details={}
            )
