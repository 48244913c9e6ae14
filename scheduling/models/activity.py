"""The activity log: who did what, when, to how many, through which interface."""

from django.db import models


class Activity(models.Model):
    """One entry. Append-only: nothing but the retention changes or deletes entries."""

    at = models.DateTimeField(db_index=True)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.BigIntegerField(null=True, blank=True)
    actor_name = models.CharField(max_length=200)
    face = models.CharField(max_length=16)
    verb = models.CharField(max_length=50, db_index=True)
    object_kind = models.CharField(max_length=50)
    object_id = models.BigIntegerField(null=True, blank=True)
    object_name = models.CharField(max_length=200, blank=True, default="")
    count = models.BigIntegerField(null=True, blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "activity"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["object_kind", "object_id"], name="activity_by_object"),
            # For the newest entries of an actor or interface with few of them: without these indexes, the
            # whole log is read.
            models.Index(fields=["actor_name", "-id"], name="activity_by_actor"),
            models.Index(fields=["face", "-id"], name="activity_by_face"),
        ]
