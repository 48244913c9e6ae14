"""What an authenticator app shows."""

import time

from django_otp.oath import TOTP

from operators.models import AuthenticatorApp


def code_of(device: AuthenticatorApp, *, steps: int = 0) -> str:
    """Return the code that an app would show; some steps of 30 s later, since each is good once."""
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    totp.time = time.time() + 30 * steps
    return f"{totp.token():06d}"
