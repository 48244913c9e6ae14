"""The IDs of canaries: the first IDs of a list, which run while its other IDs wait."""

from django.db import models

from .task import Task


class CanaryId(models.Model):
    """One of the IDs of a task's canary. Kept as long as its task."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="+", db_index=False)
    user_id = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "user_id"], name="canary_id_once")]
