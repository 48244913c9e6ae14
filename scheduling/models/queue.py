"""Queues: named streams of requests, each with its own pace."""

from datetime import datetime
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q, Value

from scheduling.core import responses
from scheduling.core.retry import RETRY_DELAYS_MINUTES

from .fields import PlainSecret, SecretField, SecretsField, UnreadableSecret

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


class ClientAuth(models.TextChoices):
    """How a client names itself to a token server, by the words of OpenID Connect."""

    BASIC = "client_secret_basic", "in the header Authorization"
    POST = "client_secret_post", "in the body"


class LatePolicy(models.TextChoices):
    """What happens to an ID whose minute passed without its request."""

    PLACE_AGAIN = "place_again", "place again"
    EXPIRE = "expire", "expire"


# The fields whose values are encrypted in the database; of headers, the names are not.
SECRET_FIELDS = (
    "webhook_headers", "webhook_secret", "webhook_previous_secret", "webhook_older_secrets", "oauth_client_secret",
)  # fmt: skip


def default_delays() -> list[int]:
    return [*RETRY_DELAYS_MINUTES]


class Hours(models.Model):
    """Sending hours with a name, which queues and targets share. form: as docs/hours.md describes it."""

    name = models.CharField(max_length=50, unique=True)
    form = models.JSONField()
    created_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "shared hours"

    def __str__(self) -> str:
        return self.name


class Queue(models.Model):
    """A named stream of requests with its own rpm, overflow policy and handler."""

    name = models.SlugField(max_length=50, unique=True)
    rpm = models.PositiveIntegerField(
        default=120, validators=[MinValueValidator(1), MaxValueValidator(MAX_RPM)]
    )
    overflow = models.CharField(max_length=16, choices=Overflow, default=Overflow.DISPERSE)
    # Under carry_over: no list takes more of a minute's capacity.
    max_share_percent = models.PositiveSmallIntegerField(
        default=100, db_default=100, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    max_peak = models.PositiveIntegerField(null=True, blank=True)
    headroom = models.PositiveIntegerField(default=0)
    # Sending hours, and the growth of rpm; null: always, and rpm from the start. See
    # scheduling.core.capacity.
    hours = models.JSONField(null=True, blank=True)
    # Where its hours are shared ones: their form is kept in `hours` as well, which is what plans read.
    shared_hours = models.ForeignKey(
        Hours, on_delete=models.PROTECT, null=True, blank=True, related_name="queues"
    )
    ramp = models.JSONField(null=True, blank=True)
    # At most this many requests per hour, day or month; see scheduling.core.capacity.
    quotas = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    handler = models.CharField(max_length=16, choices=HandlerKind, default=HandlerKind.RECORD)
    paused_at = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=200, blank=True, default="", db_default="")
    brake_per_minute = models.PositiveIntegerField(null=True, blank=True)
    brake_reason = models.CharField(max_length=200, blank=True, default="", db_default="")
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
    webhook_headers = SecretsField(default=dict, blank=True)
    webhook_secret = SecretField(blank=True, db_default="", default="")
    # While a secret is replaced, both sign.
    webhook_previous_secret = SecretField(blank=True, default="", db_default="")
    webhook_previous_secret_until = models.DateTimeField(null=True, blank=True)
    # Those of rotations before that one, by the time until which each signs, while it does.
    webhook_older_secrets = SecretsField(default=dict, blank=True, db_default=Value({}, models.JSONField()))
    # Null: the standard JSON. Empty: no body.
    webhook_body = models.TextField(null=True, blank=True)
    webhook_content_type = models.CharField(
        max_length=100, db_default="application/json", default="application/json"
    )
    # The OAuth 2.0 client credentials that a token is fetched with; without an address there is none.
    oauth_token_url = models.CharField(max_length=2000, blank=True, default="", db_default="")
    oauth_client_id = models.CharField(max_length=300, blank=True, default="", db_default="")
    oauth_client_secret = SecretField(blank=True, default="", db_default="")
    oauth_client_auth = models.CharField(
        max_length=30, choices=ClientAuth, default=ClientAuth.BASIC, db_default=ClientAuth.BASIC
    )
    oauth_scope = models.CharField(max_length=1000, blank=True, default="", db_default="")
    oauth_audience = models.CharField(max_length=1000, blank=True, default="", db_default="")
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
    # Until when nothing is sent since its credentials can't be used, and why. Other queues of its target send.
    blocked_until = models.DateTimeField(null=True, blank=True)
    block_reason = models.CharField(max_length=300, blank=True, default="", db_default="")
    # The target that its webhooks go to, if that one has a budget. Null: nothing is shared.
    target = models.ForeignKey(
        "Target", null=True, blank=True, on_delete=models.SET_NULL, related_name="queues", db_index=False
    )
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
    def note(self) -> str:
        """Return what its settings mean together, where that may surprise; empty where nothing does."""
        if self.overflow == Overflow.DISPERSE and self.quotas:
            return (
                "This queue disperses and has a quota: a quarter-hour takes as many IDs as the quota leaves in its"
                " period, and the others go to a later period."
            )
        return ""

    @property
    def named_hours(self) -> Any:
        """Return its hours: the name of shared ones, their form, or None."""
        return self.shared_hours.name if self.shared_hours is not None else self.hours

    @property
    def list_rpm(self) -> int:
        """The requests per minute that lists may plan: rpm less the share reserved for late IDs and retries."""
        return self.rpm - self.headroom

    def is_blocked(self, at: datetime) -> bool:
        """Whether its requests are blocked at `at` since its credentials can't be used."""
        return self.blocked_until is not None and self.blocked_until > at

    @property
    def secrets(self) -> dict[str, str]:
        """What is encrypted in the database, by the names of fields and headers."""
        values: dict[str, str] = {}
        for field in SECRET_FIELDS:
            value = getattr(self, field)
            if isinstance(value, dict):
                values |= {f"{field} {name}": text for name, text in sorted(value.items())}
            else:
                values[field] = value
        return values

    @property
    def earlier_secrets(self) -> list[tuple[str, datetime]]:
        """The secrets that sign beside the current one, the latest first, with the time until which each does."""
        older = self.webhook_older_secrets.items()
        secrets = [(secret, datetime.fromisoformat(until)) for until, secret in older]
        if self.webhook_previous_secret and self.webhook_previous_secret_until:
            secrets.append((self.webhook_previous_secret, self.webhook_previous_secret_until))
        return secrets[::-1]

    @property
    def unreadable_secrets(self) -> list[str]:
        """The names of the secrets that no key decrypts."""
        return [name for name, value in self.secrets.items() if isinstance(value, UnreadableSecret)]

    @property
    def has_plain_secrets(self) -> bool:
        """Whether secrets are stored as plain text."""
        return any(isinstance(value, PlainSecret) for value in self.secrets.values())


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
    # Its budget, which all queues that send to it share. Each part may be absent.
    rpm = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MAX_RPM)]
    )
    hours = models.JSONField(null=True, blank=True)
    # Where its hours are shared ones, as for a queue.
    shared_hours = models.ForeignKey(
        Hours, on_delete=models.PROTECT, null=True, blank=True, related_name="targets"
    )
    quotas = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    version = models.PositiveIntegerField(default=1, db_default=1)

    def __str__(self) -> str:
        return self.origin

    @property
    def named_hours(self) -> Any:
        """Return its hours: the name of shared ones, their form, or None."""
        return self.shared_hours.name if self.shared_hours is not None else self.hours

    @property
    def has_budget(self) -> bool:
        return self.rpm is not None or self.hours is not None or bool(self.quotas)


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
