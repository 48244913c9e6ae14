"""Alerts: the conditions that are watched, and each time that one of them held."""

from datetime import timedelta
from typing import NamedTuple

from django.db import models
from django.db.models import Q


class AlertKind(models.TextChoices):
    """A condition that is watched. The value is stable: receivers, addresses and docs/alerts.md name it."""

    IDS_LATE = "ids_late", "IDs late"
    TARGET_BLOCKED = "target_blocked", "Target blocked"
    LIST_ON_HOLD = "list_on_hold", "List on hold"
    DEADLINE = "deadline", "Deadline at risk or missed"
    QUOTA = "quota", "Quota nearly used"
    CLUSTER_SILENT = "cluster_silent", "Cluster silent"
    QUARTER_HOUR = "quarter_hour", "Quarter-hour not processed"
    PLAN_CHECK = "plan_check", "Discrepancy in the plan"
    DISK_LOW = "disk_low", "Disk nearly full"
    CALLBACK = "callback", "Callback abandoned"


class Watch(NamedTuple):
    """How a condition is watched.

    when: a sentence that ends in the threshold. runbook: what to do, in a sentence. threshold: what it is unless an
    admin changes it; None where there is none. unit: of the threshold. holds_for: how long it has to hold before
    it is reported; None: as long as its threshold says.
    """

    when: str
    runbook: str
    threshold: int | None = None
    unit: str = ""
    holds_for: timedelta | None = timedelta()

    @property
    def most(self) -> int:
        """Return the largest threshold."""
        return {"minutes": 7 * 24 * 60, "percent": 100}.get(self.unit, 0)


WATCHES: dict[AlertKind, Watch] = {
    AlertKind.IDS_LATE: Watch(
        "IDs of a queue that is not paused have been late for longer than",
        "Check whether a target is blocked or a cluster is silent. If neither is, the queue's capacity is too low:"
        " raise its rpm.",
        threshold=5,
        unit="minutes",
    ),
    AlertKind.TARGET_BLOCKED: Watch(
        "Requests to a target have been blocked for longer than",
        "Contact the people who run the target. Once it has recovered, resume sending on the queue's page.",
        threshold=5,
        unit="minutes",
        holds_for=None,
    ),
    AlertKind.LIST_ON_HOLD: Watch(
        "A list is on hold.",
        "Read the reason and the failures, then continue the list or cancel the rest.",
    ),
    AlertKind.DEADLINE: Watch(
        "According to the plan, a list will be done after its deadline, or the deadline has passed.",
        "End its brake, pause or hold. Otherwise raise the queue's limits, and cancel the rest and submit it again, or"
        " inform the people who are waiting for the list.",
    ),
    AlertKind.QUOTA: Watch(
        "The requests of a queue or a target have used at least this share of a quota:",
        "A quota is never exceeded. If the rest can't wait for the next period, raise the quota.",
        threshold=80,
        unit="percent",
    ),
    AlertKind.CLUSTER_SILENT: Watch(
        "A cluster has not sent a heartbeat for a minute.",
        "Check the service on its host, and restart it.",
        holds_for=timedelta(minutes=1),
    ),
    AlertKind.QUARTER_HOUR: Watch(
        "The quarter-hour processing has not run for more than two minutes.",
        "Check whether the cluster is busy or silent. The next run catches up on what was missed.",
        holds_for=timedelta(seconds=30),
    ),
    AlertKind.PLAN_CHECK: Watch(
        "The latest check of the plan found a discrepancy.",
        "Open the page Proof, keep a copy of the database, and report the findings.",
    ),
    AlertKind.DISK_LOW: Watch(
        "Less than 1 GB is free on a disk, or less than a tenth of a small one.",
        "Free some space, or enlarge the disk. Results can't be recorded on a full disk.",
    ),
    AlertKind.CALLBACK: Watch(
        "A callback was abandoned within the last day: it failed at every attempt.",
        "Read the receiver's last response, then repeat the call through the API.",
    ),
}


class AlertRule(models.Model):
    """What an admin changed about a kind of alert. A kind without a row is on, with the threshold of its watch."""

    kind = models.CharField(max_length=20, choices=AlertKind, unique=True)
    is_on = models.BooleanField(default=True)
    threshold = models.PositiveIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return self.get_kind_display()


class Alert(models.Model):
    """One time that a condition holds, of one subject: a queue, a list, a target, a host.

    It is pending until it has held for long enough (`fired_at`), and open until it is over (`ended_at`).
    """

    kind = models.CharField(max_length=20, choices=AlertKind)
    # Identifies it among the alerts of its kind: the number of the queue, the name of the host.
    subject = models.CharField(max_length=300)
    text = models.CharField(max_length=300)
    path = models.CharField(max_length=300)
    started_at = models.DateTimeField()
    # When the condition last held, and when it was last reported.
    seen_at = models.DateTimeField()
    fired_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)
    told_count = models.PositiveIntegerField(default=0)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], name="alert_open_once", condition=Q(ended_at=None)
            )
        ]
        indexes = [models.Index(fields=["ended_at"], name="alert_by_end")]

    def __str__(self) -> str:
        return self.text
