"""A second factor for signing in with a password: codes of an authenticator app (TOTP), optional."""

from datetime import datetime

import structlog
from django.db import transaction

from operators.actor import Actor
from operators.encryption import Undecryptable, is_encrypted
from operators.models import AuthenticatorApp, Operator
from operators.signals import action_taken

log = structlog.get_logger(__name__)


def device_of(operator: Operator) -> AuthenticatorApp | None:
    """Return the app that the operator has set up and confirmed."""
    device: AuthenticatorApp | None = AuthenticatorApp.objects.filter(user=operator, confirmed=True).first()
    return device


def unconfirmed_device_of(operator: Operator) -> AuthenticatorApp | None:
    """Return the app whose first code has not been entered yet."""
    device: AuthenticatorApp | None = AuthenticatorApp.objects.filter(user=operator, confirmed=False).first()
    return device


def begin(operator: Operator) -> None:
    """Create a secret for an app. It takes effect once a code from it has been entered."""
    with transaction.atomic():
        AuthenticatorApp.objects.filter(user=operator, confirmed=False).delete()
        device = AuthenticatorApp(user=operator, name="authenticator app", confirmed=False)
        device.encrypt_key()
        device.save()


def confirm(operator: Operator, code: str, *, by: Actor, at: datetime) -> bool:
    """Turn it on if the code is right. Returns whether it was."""
    with transaction.atomic():
        device = AuthenticatorApp.objects.select_for_update().filter(user=operator, confirmed=False).first()
        if device is None or not _verifies(device, code):
            return False
        AuthenticatorApp.objects.filter(user=operator, confirmed=True).delete()
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        action_taken.send(Operator, by=by, act="turned_on_two_factor", target=operator, at=at, details={})
    return True


def _verifies(device: AuthenticatorApp, code: str) -> bool:
    # A code that was wrong makes the next ones wait, which both remember.
    try:
        is_right = bool(device.verify_is_allowed()[0] and device.verify_token(code))
    except Undecryptable:
        log.error("second_factor_undecryptable", operator=device.user_id)
        return False
    if is_right and not is_encrypted(device.key):
        device.encrypt_key()
        device.save(update_fields=["key"])
    return is_right


def verifies(operator: Operator, code: str) -> bool:
    """Whether the code is right. Each is good once, and wrong ones make the next ones wait."""
    with transaction.atomic():
        devices = AuthenticatorApp.objects.select_for_update()
        device = devices.filter(user=operator, confirmed=True).first()
        return device is not None and _verifies(device, code)


def unreadable() -> list[str]:
    """Return the names of operators whose app has a key that no key decrypts."""
    names = []
    for device in AuthenticatorApp.objects.select_related("user").order_by("user__username"):
        try:
            _ = device.bin_key
        except Undecryptable:
            names.append(device.user.username)
    return names


def reencrypt() -> None:
    """Encrypt the keys of all apps with the current key. What no key decrypts stays as it is."""
    for number in AuthenticatorApp.objects.values_list("pk", flat=True):
        with transaction.atomic():
            device = AuthenticatorApp.objects.select_for_update().filter(pk=number).first()
            if device is None:
                continue
            try:
                device.key = device.bin_key.hex()
            except Undecryptable:
                log.error("second_factor_undecryptable", operator=device.user_id)
                continue
            device.encrypt_key()
            device.save(update_fields=["key"])


def turn_off(operator: Operator, *, by: Actor, at: datetime) -> None:
    """Delete the app, so that the password alone signs in again."""
    with transaction.atomic():
        deleted, _ = AuthenticatorApp.objects.filter(user=operator).delete()
        if deleted:
            action_taken.send(
                Operator, by=by, act="turned_off_two_factor", target=operator, at=at, details={}
            )
