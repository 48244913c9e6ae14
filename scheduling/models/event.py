"""What others are told: events, the channels that they go to, and each delivery of one to the other."""

import secrets
from datetime import timedelta

from django.db import models
from django.db.models import Q


class EventType(models.TextChoices):
    """The type of an event: stable, since receivers decide by it what to do. The label says when one is sent."""

    ALERT_FIRING = "alert.firing", "an alert begins, and each hour while it lasts"
    ALERT_RESOLVED = "alert.resolved", "an alert is over"
    TASK_DONE = "task.done", "nothing of a list is left to do"
    TASK_ON_HOLD = "task.on_hold", "a list is put on hold, by a person or by its error budget"
    TASK_CANCELLED = "task.cancelled", "a list is cancelled"
    TARGET_BLOCKED = "target.blocked", "requests to a target are blocked"


ALERT_TYPES = (EventType.ALERT_FIRING, EventType.ALERT_RESOLVED)


class ChannelKind(models.TextChoices):
    """How a channel's messages travel."""

    EMAIL = "email", "E-mail"
    WEBHOOK = "webhook", "Webhook"
    SLACK = "slack", "Slack"


def new_key() -> str:
    return f"msg_{secrets.token_hex(12)}"


class Channel(models.Model):
    """Where alerts and events are sent: e-mail addresses, a webhook, or a webhook in Slack's format."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=8, choices=ChannelKind)
    # E-mail addresses, one a line; a webhook's address; of Slack's, which is a secret, the host alone.
    address = models.TextField()
    # A webhook's secret, or Slack's address, encrypted; never shown again.
    sealed = models.TextField(blank=True, default="")
    # The types of events that it gets: models.EventType.
    types = models.JSONField(default=list)
    is_on = models.BooleanField(default=True)
    # Where this installation is, for links in messages: as the browser that saved the channel addresses it.
    base_url = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """Something that happened, recorded by the transaction in which it did, if a channel wants to know."""

    # Its `webhook-id`: the same in every attempt at every channel.
    key = models.CharField(max_length=40, unique=True, default=new_key)
    type = models.CharField(max_length=20, choices=EventType)
    at = models.DateTimeField(db_index=True)
    # What happened, in a sentence; and the page that shows more.
    title = models.CharField(max_length=300)
    path = models.CharField(max_length=300, blank=True, default="")
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.title


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def in_state(self, state: str) -> "DeliveryQuerySet":
        """Return those whose `state` is this one, decided by the database."""
        conditions = {
            "delivered": Q(delivered_at__isnull=False),
            "due": Q(delivered_at=None, due_at__isnull=False),
            "abandoned": Q(delivered_at=None, due_at=None),
        }
        return self.filter(conditions[state])

    def failing(self) -> "DeliveryQuerySet":
        """Return those that failed at least once and have not succeeded."""
        return self.filter(delivered_at=None, attempts__gt=0).exclude(error="")


class Delivery(models.Model):
    """One event on its way to one channel.

    It is due, delivered, or abandoned: `due_at` is null for the last two.
    """

    # Events are retried for this long.
    RETRIED_FOR = timedelta(days=1)

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, blank=True)
    retry_until = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True, blank=True)
    attempted_at = models.DateTimeField(null=True, blank=True)
    # The outcome of the last attempt.
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, default="")

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "channel"], name="delivery_once_to_a_channel")
        ]
        indexes = [
            models.Index(fields=["due_at"], name="delivery_due", condition=Q(due_at__isnull=False)),
            models.Index(fields=["channel", "-id"], name="delivery_by_channel"),
            models.Index(fields=["attempted_at"], name="delivery_failing", condition=Q(delivered_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.channel}"

    @property
    def state(self) -> str:
        """Return `delivered`, `due` or `abandoned`."""
        if self.delivered_at is not None:
            return "delivered"
        return "abandoned" if self.due_at is None else "due"
