"""Acts on so many rows that one click can't do them all."""

from django.db import models
from django.db.models import Q


class BulkActKind(models.TextChoices):
    """What is done to each row; the word is also the job's that goes on with it."""

    CANCEL_MATCHING = "cancel_matching", "cancel all that match"
    RETRY_FAILED = "retry_failed", "try again all that match"
    SEND_AGAIN = "send_again", "send a task's once more"
    PRUNE = "prune", "let go of what is past its retention"
    CHECK_PLAN = "check_plan", "check the plan"


class BulkAct(models.Model):
    """An act that somebody set going, how far it is, and who is at it.

    What one slice of it changes is committed with how far it got. So whoever finds it without a living owner
    goes on, and nothing is done twice.
    """

    kind = models.CharField(max_length=16, choices=BulkActKind)
    # By which a page shows it and stops it.
    name = models.CharField(max_length=40, unique=True)
    # What was asked for, and who asked: see scheduling.tasks.bulk_cancel and scheduling.tasks.resend.
    asked = models.JSONField(default=dict)
    by = models.JSONField()
    # How many rows that were when somebody asked, how many are done, and behind which key it goes on.
    number = models.PositiveBigIntegerField(default=0)
    done_count = models.PositiveBigIntegerField(default=0)
    after_id = models.BigIntegerField(default=0)
    # Of a check of the plan: how much doesn't hold, and of what, the first of them.
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
