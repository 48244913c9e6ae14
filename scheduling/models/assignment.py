"""Assignments: one ID of one task in one bucket, and its status."""

from datetime import datetime

from django.db import models
from django.db.models import Q

from scheduling.core import keys, limits

from .fields import RowIdField
from .states import MoveReason, Status
from .task import Task

# The bucket of a row, for a statement that groups by it: the key without its ordinal.
BUCKET_OF_ROW = models.Func(
    models.F("id"),
    template=keys.sql_bucket_of_assignment("%(expressions)s"),
    output_field=models.BigIntegerField(),
)


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def with_status(self, *statuses: Status) -> "AssignmentQuerySet":
        """Return the rows whose `effective_status` is one of these, decided by the database."""
        condition = Q(status__in=[status for status in statuses if status != Status.WAITING])
        if Status.WAITING in statuses:
            condition |= Q(status=Status.WAITING, task__cancelled_at=None)
        if Status.CANCELLED in statuses:
            condition |= Q(status=Status.WAITING, task__cancelled_at__isnull=False)
        return self.filter(condition)


class Assignment(models.Model):
    """One ID of one task in one bucket. The key is the place: see scheduling.core.keys.

    A move changes the key; what must stay (URLs, webhook IDs, attempts) uses (task, user).
    """

    id = RowIdField()
    user_id = models.BigIntegerField()
    task = models.ForeignKey(Task, on_delete=models.PROTECT, db_constraint=False, db_index=False)
    status = models.SmallIntegerField(choices=Status.words(), default=Status.WAITING)
    attempts = models.SmallIntegerField(default=0)
    # Milliseconds from the start of the minute to the start of the last request.
    started_after_ms = models.IntegerField(null=True, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user_id", "task"], name="id_once_in_a_task")]
        # An index that names `status` would make PostgreSQL write anew, with every change of it, the row's entry in
        # each index. What is in flight, and on PostgreSQL what failed, is found through the counters of buckets.
        indexes = [
            # On SQLite alone: see scheduling.store.operations.DropIndexOnPostgreSQL.
            models.Index(fields=["id"], name="assignment_failed", condition=Q(status=Status.FAILED.value)),
        ]

    def __str__(self) -> str:
        return str(self.user_id)

    @property
    def effective_status(self) -> Status:
        """Return the status, with the cancel of its task taken into account; the task is read, too."""
        return self.task.meaning_of(Status(self.status))

    @property
    def bucket_id(self) -> int:
        return keys.bucket_of_assignment(self.id)

    @property
    def minute_at(self) -> datetime:
        """Return the start of the minute in which it runs or ran."""
        return keys.minute_of_bucket(self.bucket_id)


class Move(models.Model):
    """One ID's change of minute."""

    task_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    from_bucket_id = models.BigIntegerField()
    to_bucket_id = models.BigIntegerField()
    reason = models.CharField(max_length=16, choices=MoveReason)
    moved_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["task_id", "user_id"], name="move_by_id"),
            models.Index(fields=["from_bucket_id"], name="move_by_minute"),
        ]


class Attempt(models.Model):
    """A request that did not succeed at once, with the response."""

    task_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    number = models.SmallIntegerField()
    bucket_id = models.BigIntegerField()
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.CharField(max_length=500, blank=True, default="")
    error = models.CharField(max_length=200, blank=True, default="")
    # The request was started, and its process died before the outcome was committed: it may have been sent twice.
    unknown = models.BooleanField(default=False)

    class Meta:
        indexes = [
            models.Index(fields=["task_id", "user_id"], name="attempt_by_id"),
            models.Index(fields=["bucket_id"], name="attempt_by_minute"),
        ]


class FailureCount(models.Model):
    """How many of a task's IDs failed alike in a bucket, kept so that nobody has to read them one by one.

    It holds as long as the bucket's failed_count and moved_count are those that it was counted at: an ID comes
    in by the one and leaves by both, so that the same two numbers never come back. See scheduling.tasks.failures.
    """

    bucket_id = models.BigIntegerField(db_index=True)
    task_id = models.BigIntegerField()
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    message = models.CharField(max_length=limits.MESSAGE_CHARACTERS, blank=True)
    ids_count = models.PositiveIntegerField()
    # Of their last requests: when the first and the last one started, and the keys of the first and the last
    # one that was kept; null where none is known.
    first_at = models.DateTimeField(null=True, blank=True)
    last_at = models.DateTimeField(null=True, blank=True)
    first_attempt_id = models.BigIntegerField(null=True, blank=True)
    last_attempt_id = models.BigIntegerField(null=True, blank=True)
    at_failed_count = models.PositiveIntegerField()
    at_moved_count = models.PositiveIntegerField()


class Batch(models.Model):
    """Some of one bucket's IDs that one minute worker has claimed, as long as its lease lasts.

    ids: 8 bytes each; slots: 4 bytes each, the slot of each ID in the minute's plan; little-endian.
    """

    bucket_id = models.BigIntegerField(db_index=True)
    ids = models.BinaryField(default=b"")
    slots = models.BinaryField(default=b"")
    ids_count = models.PositiveIntegerField()
    owner = models.BigIntegerField()
    lease_until = models.DateTimeField(db_index=True)
    # The owner starts no request later than this in the minute, so IDs with a later slot were certainly not sent.
    may_start_until_ms = models.IntegerField(default=0)
