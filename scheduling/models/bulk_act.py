"""Operations on more rows than one click can change."""

from django.db import models
from django.db.models import Q


class BulkActKind(models.TextChoices):
    """The operation on each row. The word is also the name of the job that continues it."""

    CANCEL_MATCHING = "cancel_matching", "cancel all that match"
    RETRY_FAILED = "retry_failed", "try again all that match"
    SEND_AGAIN = "send_again", "send a task's once more"
    PRUNE = "prune", "let go of what is past its retention"
    CHECK_PLAN = "check_plan", "check the plan"


class BulkAct(models.Model):
    """An operation on many rows, its progress, and its owner.

    Each slice commits its changes together with the progress. So any process that finds an operation without
    a living owner continues it, and nothing is done twice.
    """

    kind = models.CharField(max_length=16, choices=BulkActKind)
    # The name by which pages show and stop it.
    name = models.CharField(max_length=40, unique=True)
    # The request and the actor: see scheduling.tasks.bulk_cancel and scheduling.tasks.resend.
    asked = models.JSONField(default=dict)
    by = models.JSONField()
    # The number of rows at the time of the request, the number done, and the key after which it continues.
    number = models.PositiveBigIntegerField(default=0)
    done_count = models.PositiveBigIntegerField(default=0)
    after_id = models.BigIntegerField(default=0)
    # For a check of the plan: the number of differences, and the first of them.
    found_count = models.PositiveIntegerField(db_default=0)
    found = models.JSONField(null=True, blank=True)
    began_at = models.DateTimeField()
    owner = models.BigIntegerField(null=True, blank=True)
    lease_until = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["lease_until"], name="bulk_act_under_way", condition=Q(ended_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.done_count:,} of {self.number:,}"
