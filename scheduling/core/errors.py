"""What can be expected to go wrong. A class's docstring is the sentence that is shown."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

DELETED_MEANWHILE = "It has been deleted in the meantime."


class Refused(Exception):
    """The request was refused."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The docstring's first line, with the facts filled in."""
        return (self.__doc__ or "").strip().splitlines()[0].format(**self.facts)


class PlanRefused(Refused):
    """The list was refused because of its plan."""

    def __init__(self, plan: Any, **facts: Any) -> None:
        self.plan = plan
        super().__init__(peak=plan.peak_per_minute, rpm=plan.rpm, last=_minute(plan.last_at), **facts)


class PastPeak(PlanRefused):
    """A minute would hold {peak} requests, more than the queue's max_peak. To place it anyway, set allow_peak=true."""


class PastHorizon(PlanRefused):
    """The list would end at {last}, later than lists can be planned. Raise the queue's limits, or split the list."""


class PastExpiry(PlanRefused):
    """The list would end at {last}, after its expires_at."""


class PastDeadline(PlanRefused):
    """The list would end at {last}, after its deadline."""


class PlanWorse(PlanRefused):
    """Other lists were accepted first: a minute would now hold {peak} requests, and the list would end at {last}."""


class UnexpectedCount(Refused):
    """The list holds {found} IDs, not the {expected} that were expected."""


class NoSuchQueue(Refused):
    """There is no queue named {name}."""


class ColumnsMissing(Refused):
    """The request of queue {queue} needs {listed}. A column of the list travels with its IDs only if data names it."""

    def __init__(self, *, queue: str, names: Sequence[str]) -> None:
        self.names = tuple(names)
        plural = "columns" if len(names) > 1 else "column"
        super().__init__(queue=queue, listed=f"the {plural} {', '.join(names)}")


class KeyReused(Refused):
    """This idempotency key was used for another list or other parameters."""


class StillPlacing(Refused):
    """The task's list is still being written. Try again in a moment."""


class NobodyToErase(Refused):
    """No data are stored for this ID."""


class StillInFlight(Refused):
    """A request for this ID is being made. Try again in a moment."""


class ErasedMeanwhile(Refused):
    """Somebody in the list was erased while it was read, so it was not stored. Send it again without them."""


class TaskCancelled(Refused):
    """The task is cancelled, so its list can't be changed any more."""


class OtherQueue(Refused):
    """A task stays in its queue. Cancel it and send the list to the other queue."""


class StaleVersion(Refused):
    """It was changed in the meantime. Load it again, then repeat your change."""


class DraftGone(Refused):
    """The preview no longer exists: it was committed or discarded, or it expired."""


class TaskDone(Refused):
    """The task is done: none of its IDs is waiting."""


class AlreadyOnHold(Refused):
    """The task is already on hold."""


class NotOnHold(Refused):
    """The task is not on hold."""


class AlreadyPaused(Refused):
    """The queue {name} is already paused."""


class NotPaused(Refused):
    """The queue {name} is not paused."""


class NotBlocked(Refused):
    """Requests to {origin} are not blocked."""


class IdTaken(Refused):
    """A user with the ID {id} already exists."""


class JobRefused(Refused):
    """The clusters run only the jobs of scheduling.jobs, so {what} is refused."""


class BadFields(Refused):
    """{reasons}"""

    def __init__(self, **reasons: str) -> None:
        # Field name to what is wrong with its value.
        self.reasons = reasons
        super().__init__(reasons="; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


class QueueTaken(Refused):
    """A queue named {name} already exists."""


class TargetTaken(Refused):
    """The target {origin} already has a budget."""


class QueueInUse(Refused):
    """The queue {name} has tasks, so it can't be deleted."""


class HoursTaken(Refused):
    """Hours named {name} already exist."""


class HoursInUse(Refused):
    """The hours {name} can't be deleted, since they are used by: {users}."""


class DefaultQueueStays(Refused):
    """The queue {name} always exists and can't be deleted."""


class TooManyQueues(Refused):
    """There are already {count} queues, which is the largest possible number."""


class BadTemplate(Refused):
    """At position {position}: {reason}."""


class BadRule(Refused):
    """{reason}"""


class CannotFill(Refused):
    """The request can't be made: {reason}."""


class NeverMade(Refused):
    """{reason}"""


class UnknownHandler(Refused):
    """The handler {handler!r} of queue {queue} is unknown to this version of Quarterdeck."""


class NoCallback(Refused):
    """There is nothing to call: the queue has no callback_url, or the task isn't done yet."""


class CallbackDue(Refused):
    """A call is already due. Read the task to see when."""


class ChannelTaken(Refused):
    """A channel named {name} already exists."""


class DeliveryDue(Refused):
    """The event is already due. The list of deliveries shows the time of the next attempt."""


class TestRequestWaiting(Refused):
    """A test request of the queue {name} is already waiting for its slot. Try again when it is done."""

    # Prevents pytest from collecting this class as tests.
    __test__ = False


class SigningKeyUnreadable(Refused):
    """The key that signs receipts was encrypted with another SECRET_KEY: `manage.py after_restore` makes a new one."""


class NoFreeSlot(Refused):
    """No slot is free within a minute. The next minute with a free slot begins at {next}."""

    def __init__(self, next_at: datetime) -> None:
        self.next_at = next_at
        super().__init__(next=_minute(next_at))


def _minute(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else "never"
