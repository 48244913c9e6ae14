"""Queues: named streams of requests, each with its own pace."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q, Value

from scheduling.core import responses
from scheduling.core.retry import RETRY_DELAYS_MINUTES

MAX_QUEUES = 8191  # 13 bits of an assignment's key: see scheduling.core.keys
MAX_RPM = 1_000_000


class Overflow(models.TextChoices):
    """What happens to IDs that a window cannot contain within rpm."""

    DISPERSE = "disperse", "disperse evenly past rpm"
    CARRY_OVER = "carry_over", "carry over to the next windows"


class HandlerKind(models.TextChoices):
    """The handler that makes a queue's requests."""

    RECORD = "record", "record"
    WEBHOOK = "webhook", "webhook"
    PYTHON = "python", "python"


class LatePolicy(models.TextChoices):
    """What happens to an ID whose minute passed without its request."""

    PLACE_AGAIN = "place_again", "place again"
    EXPIRE = "expire", "expire"


def default_delays() -> list[int]:
    return [*RETRY_DELAYS_MINUTES]


class Queue(models.Model):
    """A named stream of requests with its own rpm, overflow policy and handler."""

    name = models.SlugField(max_length=50, unique=True)
    rpm = models.PositiveIntegerField(
        default=120, validators=[MinValueValidator(1), MaxValueValidator(MAX_RPM)]
    )
    overflow = models.CharField(max_length=16, choices=Overflow, default=Overflow.DISPERSE)
    max_peak = models.PositiveIntegerField(null=True, blank=True)
    headroom = models.PositiveIntegerField(default=0)
    # Sending hours, and the growth of rpm; null: always, and rpm from the start. See
    # scheduling.core.capacity.
    hours = models.JSONField(null=True, blank=True)
    ramp = models.JSONField(null=True, blank=True)
    # At most so many requests per hour, day or month; see scheduling.core.capacity.
    quotas = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    handler = models.CharField(max_length=16, choices=HandlerKind, default=HandlerKind.RECORD)
    paused_at = models.DateTimeField(null=True, blank=True)
    brake_per_minute = models.PositiveIntegerField(null=True, blank=True)
    max_attempts = models.PositiveSmallIntegerField(
        default=6, validators=[MinValueValidator(1), MaxValueValidator(30)]
    )
    retry_delays_minutes = models.JSONField(
        default=default_delays, db_default=Value([*RETRY_DELAYS_MINUTES], models.JSONField())
    )
    late_policy = models.CharField(max_length=16, choices=LatePolicy, default=LatePolicy.PLACE_AGAIN)
    late_after_seconds = models.PositiveIntegerField(null=True, blank=True)
    breaker_threshold = models.PositiveIntegerField(null=True, blank=True, default=20)
    webhook_url = models.CharField(max_length=2000, blank=True, default="")
    webhook_method = models.CharField(max_length=8, default="POST")
    webhook_headers = models.JSONField(default=dict, blank=True)
    webhook_secret = models.CharField(max_length=200, blank=True, default="")
    # While a secret is replaced, both sign.
    webhook_previous_secret = models.CharField(max_length=200, blank=True, default="", db_default="")
    webhook_previous_secret_until = models.DateTimeField(null=True, blank=True)
    # Null: the standard JSON. Empty: no body.
    webhook_body = models.TextField(null=True, blank=True)
    webhook_content_type = models.CharField(
        max_length=100, db_default="application/json", default="application/json"
    )
    webhook_sign = models.BooleanField(db_default=True, default=True)
    success_statuses = models.CharField(
        max_length=200, blank=True, db_default=responses.SUCCESS_STATUSES, default=responses.SUCCESS_STATUSES
    )
    retry_statuses = models.CharField(
        max_length=200, blank=True, db_default=responses.RETRY_STATUSES, default=responses.RETRY_STATUSES
    )
    # A condition on the JSON of a response: pointer, equals, otherwise.
    success_when = models.JSONField(null=True, blank=True)
    keep_answers = models.CharField(max_length=200, db_default="unexpected", default="unexpected")
    connect_timeout_seconds = models.FloatField(default=5)
    read_timeout_seconds = models.FloatField(default=10)
    max_connections = models.PositiveIntegerField(default=50)
    python_callable = models.CharField(max_length=200, blank=True, default="")
    callback_url = models.CharField(max_length=2000, blank=True, default="")
    created_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(id__lte=MAX_QUEUES), name="queue_number_fits_a_key"),
            models.CheckConstraint(condition=Q(rpm__gte=1, rpm__lte=MAX_RPM), name="queue_rpm_in_range"),
            models.CheckConstraint(
                condition=Q(headroom__lt=models.F("rpm")), name="queue_headroom_below_rpm"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def paused(self) -> bool:
        return self.paused_at is not None

    @property
    def list_rpm(self) -> int:
        """The requests per minute that lists may plan: rpm less the share reserved for late IDs and retries."""
        return self.rpm - self.headroom


class Target(models.Model):
    """The target of webhooks: scheme, host and port, shared by all queues that send to it."""

    origin = models.CharField(max_length=300, unique=True)
    # By a Retry-After. The columns keep their first names, which the previous release uses.
    blocked_until = models.DateTimeField(null=True, blank=True, db_column="held_until")
    block_reason = models.CharField(max_length=200, blank=True, default="", db_column="held_because")
    failures_count = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField(null=True, blank=True)
    probe_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True, default="")

    def __str__(self) -> str:
        return self.origin


class Unreachable(models.Model):
    """A target that a host could not connect to, so that it leaves the target's requests to hosts that may."""

    origin = models.CharField(max_length=300)
    host = models.CharField(max_length=200)
    since = models.DateTimeField()
    # The time of the latest attempt.
    seen_at = models.DateTimeField()
    error = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["origin", "host"], name="unreachable_once")]

    def __str__(self) -> str:
        return f"{self.origin} from {self.host}"
