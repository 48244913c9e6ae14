"""Verifies what Quarterdeck sends to your service."""

import json
from collections.abc import Mapping

from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from quarterdeck.errors import InvalidWebhook
from quarterdeck.models import Webhook


def verify_webhook(secret: str, body: bytes, headers: Mapping[str, str]) -> Webhook:
    """Return a webhook whose signature is right. Raises InvalidWebhook.

    body: the bytes as they arrived, before parsing. headers: of the request, in any case.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        Verifier(secret).verify(body, lower)
    except WebhookVerificationError as error:
        raise InvalidWebhook(str(error)) from error
    return Webhook(lower["webhook-id"], json.loads(body))
