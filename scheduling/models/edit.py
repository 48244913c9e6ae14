"""What an edit of a list keeps of an ID beside its row. Few rows: most IDs of a list were never sent."""

from django.db import models

from .task import Task


class LeftInFlight(models.Model):
    """An ID that an edit left out while its request was under way: whatever comes back, it isn't sent again."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="left_in_flight", db_index=False)
    user_id = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "user_id"], name="left_once")]


class EarlierAttempts(models.Model):
    """How many requests were made for an ID that an edit had left out and brings back, until its row is there."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="earlier_attempts", db_index=False)
    user_id = models.BigIntegerField()
    attempts = models.SmallIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "user_id"], name="earlier_attempts_once")]
