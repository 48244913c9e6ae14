"""Windows, their buckets, and the log of every change of their fills."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import models
from django.db.models import Q

from scheduling.core import allocator, clock, keys

from .fields import RowIdField
from .queue import Queue
from .states import Group, Status, summed


class Window(models.Model):
    """One quarter-hour of one queue: accepts IDs during it, runs in the next. See scheduling.core.keys."""

    id = RowIdField()
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="windows", db_index=False)
    starts_at = models.DateTimeField(db_index=True)
    # Incremented with every change of its fill: the order of the reservation log.
    version = models.PositiveIntegerField(default=0)
    totalled_at = models.DateTimeField(null=True, blank=True)
    receipt = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["queue", "starts_at"], name="window_once_in_a_queue")]
        indexes = [models.Index(fields=["id"], name="window_untotalled", condition=Q(totalled_at=None))]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} ({self.label})"

    @property
    def label(self) -> int:
        return clock.label(self.starts_at)

    def state_at(self, at: datetime) -> str:
        return clock.state(self.starts_at, at)


class ChainedReceipt(models.Model):
    """The place of a window's receipt in the chain of its queue: what it is made of is in core.receipt_chain.

    It is never changed. The oldest may be that of a window that is deleted: the next is chained to its hash.
    """

    id = RowIdField()  # of the window
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="+", db_index=False)
    sequence = models.PositiveIntegerField()
    hash = models.CharField(max_length=64)
    starts = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["queue", "sequence"], name="receipt_once_in_a_chain"),
        ]

    def __str__(self) -> str:
        return f"receipt {self.sequence}"


class Bucket(models.Model):
    """One minute of a window. `filled_count` excludes cancelled and moved IDs."""

    id = RowIdField()
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="buckets", db_constraint=False)
    capacity = models.PositiveIntegerField()
    filled_count = models.PositiveIntegerField(default=0)
    waiting_count = models.PositiveIntegerField(default=0)
    in_flight_count = models.PositiveIntegerField(default=0)
    succeeded_count = models.PositiveIntegerField(default=0)
    failed_count = models.PositiveIntegerField(default=0)
    expired_count = models.PositiveIntegerField(default=0)
    cancelled_count = models.PositiveIntegerField(default=0)
    moved_count = models.PositiveIntegerField(default=0)
    started_count = models.PositiveIntegerField(default=0)
    # Each ordinal is used once: a place is never given twice, even after a cancel.
    next_ordinal = models.PositiveIntegerField(default=0)
    sealed_at = models.DateTimeField(null=True, blank=True)
    # The minute's plan: how many IDs had a place when it was sealed, and how many slots it has.
    sealed_count = models.PositiveIntegerField(null=True, blank=True)
    slot_count = models.PositiveIntegerField(null=True, blank=True)
    # Of a minute at a target with a budget: the target, and how all its slots were shared between its queues.
    target_id = models.BigIntegerField(null=True, blank=True)
    target_slots = models.JSONField(null=True, blank=True)
    # The position up to which slots are taken: planned ones, and free ones.
    planned_cursor = models.PositiveIntegerField(db_default=0)
    cursor = models.PositiveIntegerField(default=0)
    # IDs whose slot passed unused, or that were returned unsent: they may take free slots.
    leftover_count = models.PositiveIntegerField(db_default=0)
    # No waiting ID has this key or a smaller one; null before the first claim.
    claimed_to_id = models.BigIntegerField(null=True, blank=True)
    # Requests that may have been sent twice, since their process died before the outcome was stored.
    repeats_count = models.PositiveIntegerField(db_default=0)
    # Of the late IDs that have a place here, the first minute for which any was planned, as a bucket; null before the
    # first one came.
    late_since_bucket_id = models.BigIntegerField(null=True, blank=True)
    # Test requests that were started here: no ID's, but they count towards quotas.
    tests_count = models.PositiveIntegerField(default=0, db_default=0)
    # How many starts were how many milliseconds after their slot: {"3": 41}, above 100 in steps.
    lateness = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(filled_count=summed(Status.of(Group.PLACED))),
                name="bucket_counts_add_up",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="bucket_waiting", condition=Q(waiting_count__gt=0)),
            models.Index(fields=["id"], name="bucket_failed", condition=Q(failed_count__gt=0)),
            models.Index(fields=["id"], name="bucket_in_flight", condition=Q(in_flight_count__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.minute_at:%Y-%m-%d %H:%M}"

    @property
    def index(self) -> int:
        return keys.index_of_bucket(self.id)

    @property
    def minute_at(self) -> datetime:
        """Return the start of the minute in which it runs."""
        return keys.minute_of_bucket(self.id)


class ReservationKind(models.TextChoices):
    """The reason why a window's fill changed."""

    RESERVE = "reserve", "a list was placed"
    CANCEL = "cancel", "places were given back"
    MOVE_IN = "move_in", "late IDs or retries came in"
    MOVE_OUT = "move_out", "IDs moved to another minute"


class Reservation(models.Model):
    """One change of a window's fill: the proof, and the source of every place.

    For a list: the IDs at positions [first_position, first_position + ids_count) of `list` go where `places`
    says.
    """

    # The note of a list that was placed by rule 1 alone, from the first minute that could be written to.
    FIRST_FREE = "first_free"

    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="reservations", db_index=False)
    version = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=ReservationKind)
    task_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    list_id = models.BigIntegerField(null=True, blank=True)
    first_position = models.PositiveBigIntegerField(default=0)
    ids_count = models.PositiveBigIntegerField(default=0)
    rpm = models.PositiveIntegerField()
    # The capacity of each of the 15 minutes, if they differ from rpm.
    capacities = models.JSONField(null=True, blank=True)
    # How many IDs each of the 15 minutes may hold at most, where the target has a budget.
    limits = models.JSONField(null=True, blank=True)
    fill_before = models.JSONField()
    deltas = models.JSONField()
    made_at = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True, default="")

    @property
    def level(self) -> allocator.Capacity:
        """Return the capacity of each of the 15 minutes."""
        return self.capacities or self.rpm

    @property
    def is_first_free(self) -> bool:
        return self.note == self.FIRST_FREE

    def places(self, position: int = 0) -> Iterator[int]:
        """Yield the bucket (0-14) of each of the list's IDs here, from the ID at `position` on. Recomputed."""
        if self.is_first_free:
            return allocator.in_order(self.deltas, position)
        level, limit = self.level, self.limits
        filled = allocator.fill_after(self.fill_before, level, position, limit)
        return allocator.places(filled, level, limit)

    def places_of(self, positions: Sequence[int]) -> Iterator[int]:
        """Yield the bucket (0-14) of each of the list's IDs at `positions` (ascending, all of them here)."""
        here = (
            [position - self.first_position for position in positions] if self.first_position else positions
        )
        if self.is_first_free:
            return allocator.in_order_of(here, self.deltas)
        return allocator.places_of(here, self.fill_before, self.level, self.limits)

    class Meta:
        ordering = ["window", "version"]
        constraints = [models.UniqueConstraint(fields=["window", "version"], name="window_version_once")]
        indexes = [
            models.Index(fields=["list_id", "first_position"], name="reservation_by_position"),
        ]
