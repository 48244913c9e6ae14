"""What an edit of a list stores about IDs besides their rows.

There are few of these rows: most IDs of a list were never sent.
"""

from django.db import models

from .task import Task


class LeftInFlight(models.Model):
    """An ID that an edit removed while its request was under way: whatever the outcome, it isn't sent again."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="left_in_flight", db_index=False)
    user_id = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "user_id"], name="left_once")]


class EarlierAttempts(models.Model):
    """The number of requests made for an ID that an edit had removed and another adds back, until its row
    exists.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="earlier_attempts", db_index=False)
    user_id = models.BigIntegerField()
    attempts = models.SmallIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "user_id"], name="earlier_attempts_once")]
