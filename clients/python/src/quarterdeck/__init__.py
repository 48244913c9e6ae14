"""Client for Quarterdeck: submit lists of IDs, follow them, verify webhooks."""

from quarterdeck.clients import AsyncClient, Client
from quarterdeck.errors import ApiError, InvalidWebhook
from quarterdeck.models import Accepted, Outcome, Plan, PlannedWindow, Task, Webhook
from quarterdeck.webhooks import verify_webhook

__all__ = [
    "Accepted",
    "ApiError",
    "AsyncClient",
    "Client",
    "InvalidWebhook",
    "Outcome",
    "Plan",
    "PlannedWindow",
    "Task",
    "Webhook",
    "verify_webhook",
]
