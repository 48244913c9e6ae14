"""The one table of states: what an ID, a task and a move may be, with every word, sign and name that shows it.

Whatever shows, counts, draws or filters states reads this table and writes no list of its own.
"""

from collections.abc import Iterable
from enum import Flag, auto
from functools import reduce
from operator import add

from django.db import models
from django.db.models import F
from django.db.models.expressions import CombinedExpression


class Group(Flag):
    """A property that several states share."""

    # Its request may still be made.
    UNFINISHED = auto()
    # Its request was made and answered.
    SENT = auto()
    # It has a place in its minute; a cancelled one gave its place back.
    PLACED = auto()
    NONE = 0


class Status(models.IntegerChoices):
    """What became of an ID. Small numbers, since there are millions; in the order in which interfaces list them.

    order: from the ground up in a chart; what is done lies below what is to come. (`Status(3)` has no other
    arguments: the defaults are for type checkers, which take a look-up for a construction.)
    """

    sign: str
    order: int
    groups: Group

    WAITING = 1, "○", 5, Group.UNFINISHED | Group.PLACED, "waiting"
    IN_FLIGHT = 2, "▶", 4, Group.UNFINISHED | Group.PLACED, "in flight"
    SUCCEEDED = 3, "✓", 1, Group.SENT | Group.PLACED, "succeeded"
    FAILED = 4, "✗", 2, Group.SENT | Group.PLACED, "failed"
    CANCELLED = 5, "✕", 6, Group.NONE, "cancelled"
    EXPIRED = 6, "⊘", 3, Group.PLACED, "expired"

    def __new__(cls, value: int, sign: str = "", order: int = 0, groups: Group = Group.NONE) -> "Status":
        member = int.__new__(cls, value)
        member._value_ = value
        member.sign, member.order, member.groups = sign, order, groups
        return member

    @property
    def word(self) -> str:
        """Return the name in the API, in exports and in addresses."""
        return self.name.lower()

    @property
    def css(self) -> str:
        """Return the class of elements that show it."""
        return self.word

    @property
    def counter(self) -> str:
        """Return the name of the column that counts it on buckets, tasks and task buckets."""
        return f"{self.word}_count"

    @classmethod
    def of(cls, group: Group) -> "tuple[Status, ...]":
        """Return the members of a group."""
        return tuple(status for status in cls if group in status.groups)

    @classmethod
    def in_charts(cls) -> "tuple[Status, ...]":
        """Return the states that have a place, from the bottom of a chart up."""
        return tuple(sorted(cls.of(Group.PLACED), key=lambda status: status.order))

    @classmethod
    def ended(cls) -> "tuple[Status, ...]":
        """Return the states in which nothing more happens by itself, from the bottom of a chart up."""
        finished = (status for status in cls if Group.UNFINISHED not in status.groups)
        return tuple(sorted(finished, key=lambda status: status.order))

    @classmethod
    def words(cls) -> list[tuple[int, str]]:
        """Return (value, word) for a column's choices."""
        return [(status.value, status.word) for status in cls]

    @classmethod
    def of_word(cls, word: str) -> "Status":
        """Raises ValueError for a word that is none."""
        for status in cls:
            if status.word == word:
                return status
        raise ValueError(word)


def summed(statuses: Iterable[Status]) -> CombinedExpression | F:
    """Return the sum of the states' counters, for a statement or a constraint."""
    return reduce(add, (F(status.counter) for status in statuses))


# What each state may become, and why. docs/states.md draws this; changes are compare-and-set.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.WAITING: frozenset(
        {
            Status.IN_FLIGHT,
            Status.SUCCEEDED,  # `record`: claimed and done in one transaction
            Status.CANCELLED,
            Status.EXPIRED,
            Status.FAILED,
        }
    ),
    Status.IN_FLIGHT: frozenset(
        {Status.SUCCEEDED, Status.FAILED, Status.WAITING, Status.EXPIRED, Status.CANCELLED}
    ),
    Status.SUCCEEDED: frozenset({Status.WAITING}),  # an operator sends again
    Status.FAILED: frozenset({Status.WAITING}),  # an operator retries
    Status.CANCELLED: frozenset({Status.WAITING}),  # an edit brings it back
    Status.EXPIRED: frozenset({Status.WAITING}),
}


class TaskState(models.TextChoices):
    """A task's progress as one word. It follows from the task's columns and the clock."""

    sign: str

    PLACING = "placing", "…", "placing"
    PLACED = "placed", "○", "placed"
    RUNNING = "running", "▶", "running"
    DONE = "done", "✓", "done"
    CANCELLED = "cancelled", "✕", "cancelled"

    def __new__(cls, value: str, sign: str = "") -> "TaskState":
        member = str.__new__(cls, value)
        member._value_ = value
        member.sign = sign
        return member


class MoveReason(models.TextChoices):
    """The reason why an ID left its minute. made_late: it left because its request wasn't made in time."""

    made_late: bool

    LATE = "late", True, "its minute passed without its request"
    WRITTEN_LATE = "written_late", True, "its row was written after its minute was sealed"
    RETRY = "retry", False, "it failed and is tried again"
    RPM = "rpm", False, "rpm was lowered"
    BRAKE = "brake", True, "the brake was on"
    OPERATOR = "operator", False, "an operator sent it again"
    EDIT = "edit", False, "an edit brought it back"

    def __new__(cls, value: str, made_late: bool = False) -> "MoveReason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.made_late = made_late
        return member

    @classmethod
    def what_made_late(cls) -> "tuple[MoveReason, ...]":
        """Return the reasons that make an ID count as late."""
        return tuple(reason for reason in cls if reason.made_late)


class CanaryState(models.TextChoices):
    """The progress of a list's canary: its first IDs run, and the others wait for their outcome."""

    NONE = "", "none"
    RUNNING = "running", "running"
    PASSED = "passed", "passed"
    FAILED = "failed", "failed"
    SKIPPED = "skipped", "skipped"
