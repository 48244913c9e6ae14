"""What can be expected to go wrong. A class's docstring is the sentence that is shown."""

from datetime import datetime
from typing import Any


class Refused(Exception):
    """It was refused."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The docstring's first line, with the facts filled in."""
        return (self.__doc__ or "").strip().splitlines()[0].format(**self.facts)


class PlanRefused(Refused):
    """The list was refused as it was planned."""

    def __init__(self, plan: Any, **facts: Any) -> None:
        self.plan = plan
        super().__init__(peak=plan.peak_per_minute, rpm=plan.rpm, last=_minute(plan.last_at), **facts)


class PastPeak(PlanRefused):
    """A minute would hold {peak} requests, past the queue's max_peak; allow_peak=true places it all the same."""


class PastHorizon(PlanRefused):
    """The list would end at {last}, past the horizon; raise the queue's rpm or split the list."""


class PastExpiry(PlanRefused):
    """The list would end at {last}, after its expires_at."""


class PastDeadline(PlanRefused):
    """The list would end at {last}, after its deadline."""


class PlanWorse(PlanRefused):
    """Others came in meanwhile: a minute would now hold {peak} requests and the list would end at {last}."""


class UnexpectedCount(Refused):
    """The list holds {found} IDs, not the {expected} that were expected."""


class NoSuchQueue(Refused):
    """There is no queue named {name}."""


class KeyReused(Refused):
    """This idempotency key was used for another list or other parameters."""


class StillPlacing(Refused):
    """The task's list is still being written; try again in a moment."""


class TaskCancelled(Refused):
    """The task is cancelled; its list can't be changed any more."""


class OtherQueue(Refused):
    """A task stays in its queue; cancel it and send the list to the other queue."""


class StaleVersion(Refused):
    """It was changed meanwhile; read it again."""


class DraftGone(Refused):
    """The preview is gone: it was committed, discarded, or swept."""


class AlreadyPaused(Refused):
    """The queue {name} is already paused."""


class NotPaused(Refused):
    """The queue {name} is not paused."""


class NotHeld(Refused):
    """Nothing holds requests to {origin}."""


class IdTaken(Refused):
    """There is a user with the ID {id} already."""


class JobRefused(Refused):
    """The clusters run the jobs of scheduling.jobs and nothing else, so not {what}."""


class BadFields(Refused):
    """{reasons}"""

    def __init__(self, **reasons: str) -> None:
        # Field name to what is wrong with its value.
        self.reasons = reasons
        super().__init__(reasons="; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


class QueueTaken(Refused):
    """There is a queue named {name} already."""


class QueueInUse(Refused):
    """The queue {name} has tasks, and stays with them."""


class DefaultQueueStays(Refused):
    """The queue {name} always exists."""


class TooManyQueues(Refused):
    """There are {count} queues already, as many as there can be."""


class BadTemplate(Refused):
    """At position {position}: {reason}."""


class BadRule(Refused):
    """{reason}"""


class CannotFill(Refused):
    """The request can't be made: {reason}."""


class UnknownHandler(Refused):
    """The handler {handler!r} of queue {queue} is unknown to this version of Quarterdeck."""


class NoCallback(Refused):
    """There is nothing to call: the queue has no callback_url, or the task is not done."""


class CallbackDue(Refused):
    """A call is due already. Read the task to see when."""


class TestRequestWaiting(Refused):
    """A test request of the queue {name} is already waiting for its slot. Try again when it is done."""

    # Not a class of tests, whatever pytest thinks.
    __test__ = False


class NoFreeSlot(Refused):
    """No slot is free within a minute; the next minute with room begins at {next}."""


def _minute(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else "never"
