"""Tasks, the lists of IDs behind them, and the segments in which they are written."""

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from scheduling.core import clock, stopping

from .queue import Queue
from .states import CanaryState, Status, TaskState, summed


class IdList(models.Model):
    """A list of IDs as it was read: a draft until a task takes it over.

    Its IDs are stored in chunks, in the order of the list, repeats left out.
    """

    ids_count = models.PositiveBigIntegerField(default=0)
    repeats_count = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(db_index=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    # What a preview shows and acceptance needs: name, queue, column, faults, warnings.
    about = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["created_at"], name="draft_by_age", condition=Q(accepted_at=None)),
        ]


class Chunk(models.Model):
    """Some of a list's IDs: 8 bytes each, little-endian, in the order of the list. Kept."""

    list = models.ForeignKey(IdList, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    first_position = models.PositiveBigIntegerField()
    ids_count = models.PositiveIntegerField()
    ids = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["list", "number"], name="chunk_once_in_a_list")]


class TaskQuerySet(models.QuerySet["Task"]):
    def on_hold(self) -> "TaskQuerySet":
        """Return the tasks that are on hold."""
        return self.filter(held_at__isnull=False, cancelled_at=None, finished_at=None)

    def with_canary(self) -> "TaskQuerySet":
        """Return the tasks whose canary isn't decided."""
        return self.filter(canary_state=CanaryState.RUNNING, cancelled_at=None, finished_at=None)

    def in_state(self, state: str, at: datetime) -> "TaskQuerySet":
        """Return the tasks whose `state_at(at)` is `state`, decided by the database."""
        live = Q(cancelled_at=None, finished_at=None)
        conditions = {
            TaskState.CANCELLED: Q(cancelled_at__isnull=False),
            TaskState.DONE: Q(cancelled_at=None, finished_at__isnull=False),
            TaskState.PLACING: live & Q(placed_at=None),
            TaskState.PLACED: live & Q(placed_at__isnull=False) & Q(first_minute_at__gt=at),
            TaskState.RUNNING: live & Q(placed_at__isnull=False) & Q(first_minute_at__lte=at),
        }
        return self.filter(conditions[TaskState(state)])


class Task(models.Model):
    """One submitted list of IDs with a name, and how many of them are in which state.

    A reserved place counts as waiting before its row is there.
    """

    name = models.CharField(max_length=200, db_index=True)
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="tasks")
    list = models.OneToOneField(IdList, on_delete=models.PROTECT, related_name="task")
    # As sent, where it holds at most 1,000 IDs: so that what GET gave may come back whole in a PUT.
    payload = models.JSONField(null=True, blank=True)
    ids_count = models.PositiveBigIntegerField()
    repeats_count = models.PositiveBigIntegerField(default=0)
    waiting_count = models.PositiveBigIntegerField()
    in_flight_count = models.PositiveBigIntegerField(default=0)
    succeeded_count = models.PositiveBigIntegerField(default=0)
    failed_count = models.PositiveBigIntegerField(default=0)
    cancelled_count = models.PositiveBigIntegerField(default=0)
    expired_count = models.PositiveBigIntegerField(default=0)
    first_minute_at = models.DateTimeField()
    last_minute_at = models.DateTimeField()
    not_before_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    # Promised to somebody: the end of its last minute isn't to be after it.
    deadline_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_index=True)
    created_by = models.CharField(max_length=200)
    placed_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    # The answer to a cancel: `cancelled`, `already_sent`, `in_flight` as they were then.
    cancel_answer = models.JSONField(null=True, blank=True)
    # The position in the list up to which rows have been updated after a cancel.
    cancel_position = models.PositiveBigIntegerField(default=0)
    # None of its requests start meanwhile. It stays set if the task ends on hold.
    held_at = models.DateTimeField(null=True, blank=True)
    hold_reason = models.CharField(max_length=200, blank=True, default="", db_default="")
    # Its error budget, null without one; and how many had succeeded and failed when it was last continued.
    max_failed_percent = models.FloatField(null=True, blank=True)
    min_finished = models.PositiveBigIntegerField(null=True, blank=True)
    succeeded_before_count = models.PositiveBigIntegerField(default=0, db_default=0)
    failed_before_count = models.PositiveBigIntegerField(default=0, db_default=0)
    # Its canary, as it was asked for: the first IDs that run alone, and which share of them has to succeed.
    canary_ids = models.PositiveIntegerField(null=True, blank=True)
    canary_percent = models.FloatField(null=True, blank=True)
    canary_state = models.CharField(max_length=8, choices=CanaryState, blank=True, default="", db_default="")
    # How many IDs are in it now; and once it is decided, when that was and how many had succeeded.
    canary_count = models.PositiveIntegerField(default=0, db_default=0)
    canary_succeeded_count = models.PositiveIntegerField(default=0, db_default=0)
    canary_decided_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    called_back_at = models.DateTimeField(null=True, blank=True)
    # Calls of the queue's callback_url so far; and from when on there may be another: not while one is made,
    # nor soon after one that failed.
    callback_attempts = models.PositiveSmallIntegerField(default=0)
    callback_due_at = models.DateTimeField(null=True, blank=True)
    # There is no callback to make, or it was given up.
    no_callback = models.BooleanField(default=False)
    # Equal for two lists with the same IDs in any order.
    same_as_digest = models.CharField(max_length=64, db_index=True)
    column = models.CharField(max_length=200, blank=True, default="")
    # What the sender calls it, such as the number of a campaign.
    reference = models.CharField(max_length=200, blank=True, default="", db_default="")
    # Whether its IDs are numbers or text.
    id_type = models.CharField(max_length=8, default="integer", db_default="integer")
    # The columns that travel with its IDs; null where none do.
    data_columns = models.JSONField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["queue", "-id"], name="task_by_queue"),
            models.Index(
                fields=["id"], name="task_in_progress", condition=Q(finished_at=None, cancelled_at=None)
            ),
            # What the board asks each second: lists on hold, and those with a deadline.
            models.Index(
                fields=["id"],
                name="task_to_watch",
                condition=Q(finished_at=None, cancelled_at=None)
                & (Q(held_at__isnull=False) | Q(deadline_at__isnull=False)),
            ),
            models.Index(
                fields=["callback_due_at"],
                name="task_to_call_back",
                condition=Q(finished_at__isnull=False, called_back_at=None, no_callback=False),
            ),
            models.Index(fields=["reference", "-id"], name="task_by_reference", condition=~Q(reference="")),
            models.Index(
                fields=["deadline_at"], name="task_with_deadline", condition=Q(deadline_at__isnull=False)
            ),
            # Rows that follow a cancel: found by what is left to do, not by age.
            models.Index(
                fields=["id"],
                name="task_rows_to_follow",
                condition=Q(cancelled_at__isnull=False, cancel_position__lt=F("ids_count")),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(ids_count=summed(Status)),
                name="task_counts_add_up",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def state_at(self, at: datetime) -> TaskState:
        """Return the task's state at `at` (aware, UTC)."""
        if self.cancelled_at is not None:
            return TaskState.CANCELLED
        if self.finished_at is not None:
            return TaskState.DONE
        if self.placed_at is None:
            return TaskState.PLACING
        return TaskState.RUNNING if self.first_minute_at <= at else TaskState.PLACED

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more of it may be claimed: it is cancelled, or on hold."""
        return self.cancelled_at is not None or self.held_at is not None

    def ended_by(self, at: datetime) -> bool:
        """Whether none of its requests may be sent any more at `at`: it is cancelled, or past its `expires_at`."""
        return self.cancelled_at is not None or (self.expires_at is not None and self.expires_at <= at)

    @property
    def ends_at(self) -> datetime:
        """Return when it was done, or the end of the last minute in which it has an ID."""
        return self.finished_at or self.last_minute_at + clock.MINUTE

    def misses_deadline_at(self, at: datetime) -> bool:
        """Whether, by what is known at `at`, it is done after its deadline, if it has one."""
        if self.deadline_at is None or self.cancelled_at is not None:
            return False
        return self.ends_at > self.deadline_at or (self.finished_at is None and self.deadline_at < at)

    @property
    def is_on_hold(self) -> bool:
        """Whether none of its requests start until somebody continues it."""
        return self.held_at is not None and self.cancelled_at is None and self.finished_at is None

    @property
    def waits_for_canary(self) -> bool:
        """Whether only the IDs of its canary may start."""
        is_running = self.canary_state == CanaryState.RUNNING
        return is_running and self.cancelled_at is None and self.finished_at is None

    @property
    def canary_needed(self) -> int:
        """How many IDs of its canary have to succeed."""
        return stopping.needed(self.canary_count, self.canary_percent or 0)

    @property
    def canary_succeeded(self) -> int:
        """How many IDs of its canary have succeeded: as long as it runs, no others can have."""
        if self.canary_state == CanaryState.RUNNING:
            return min(self.succeeded_count, self.canary_count)
        return self.canary_succeeded_count

    @property
    def canary_progress(self) -> str:
        """How far its canary is, in words."""
        return stopping.progress(self.canary_succeeded, self.canary_count, self.canary_needed)

    def meaning_of(self, written: Status) -> Status:
        """What a row of the task means by its status: a cancel is a mark on the task first, rows follow."""
        return Status.CANCELLED if written == Status.WAITING and self.cancelled_at else written

    def rows_that_mean(self, status: Status) -> tuple[Status, ...]:
        """What the task's rows say that have this status: the other way round."""
        return tuple(written for written in Status if self.meaning_of(written) == status)

    @property
    def sent_count(self) -> int:
        """Return the number of IDs whose request was made and answered."""
        return self.succeeded_count + self.failed_count


class SegmentQuerySet(models.QuerySet["Segment"]):
    def unwritten(self) -> "SegmentQuerySet":
        """Return the segments that have IDs without a row."""
        return self.filter(written_count__lt=F("ids_count"))


class Segment(models.Model):
    """Up to some 250,000 IDs of a list, written by one worker at a time in slices sorted by ID.

    Either those at the positions from `first_position` on, or a range of IDs, wherever in the list
    they stand: then their parts name them. `written_count` is how many of them, in the order of
    their IDs, have their row. It moves by compare-and-set in the transaction that writes a slice:
    so a slice is written once.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="segments")
    list = models.ForeignKey(IdList, on_delete=models.CASCADE, related_name="segments", db_index=False)
    number = models.PositiveIntegerField()
    first_position = models.PositiveBigIntegerField(null=True, blank=True)
    ids_count = models.PositiveIntegerField()
    written_count = models.PositiveIntegerField(default=0)
    # Bucket ID to the first of the ordinals that its IDs get there; taken with the first slice.
    first_ordinals = models.JSONField(null=True, blank=True)
    owner = models.BigIntegerField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    objects = SegmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["list", "number"], name="segment_once_in_a_list"),
            models.CheckConstraint(
                condition=Q(written_count__lte=F("ids_count")), name="segment_written_at_most_whole"
            ),
        ]
        indexes = [
            models.Index(
                fields=["task"], name="segment_unwritten", condition=Q(written_count__lt=F("ids_count"))
            ),
        ]


class SegmentPart(models.Model):
    """Some of the IDs of a long list that lie in one range, with their positions. Gone once they are written.

    Written by range, a long list touches each page of an index once, however long it is. `ids` are
    8-byte numbers, `positions` 4-byte ones, both little-endian and in the order of the list.
    """

    list = models.ForeignKey(IdList, on_delete=models.CASCADE, related_name="parts", db_index=False)
    segment_number = models.PositiveIntegerField()
    ids = models.BinaryField()
    positions = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["list", "segment_number"], name="part_of_segment")]


class TaskBucket(models.Model):
    """The number of a task's IDs in a bucket, by state."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="task_buckets", db_index=False)
    bucket_id = models.BigIntegerField(db_index=True)
    waiting_count = models.PositiveIntegerField(default=0)
    in_flight_count = models.PositiveIntegerField(default=0)
    succeeded_count = models.PositiveIntegerField(default=0)
    failed_count = models.PositiveIntegerField(default=0)
    cancelled_count = models.PositiveIntegerField(default=0)
    expired_count = models.PositiveIntegerField(default=0)
    moved_count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "bucket_id"], name="task_once_in_a_bucket")]


class IdempotentAnswer(models.Model):
    """The response to an accepted request, stored for 7 days under its key."""

    scope = models.CharField(max_length=100)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    answer = models.JSONField(null=True)
    task_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_key_once")]
