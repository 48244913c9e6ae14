"""The messages that the modules of dispatch pass to each other."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from scheduling import models
from scheduling.handlers.base import Outcome, Request
from scheduling.models import Status


class Claim(NamedTuple):
    """One ID that a minute worker owns until its batch's lease ends."""

    batch_id: int
    # The key of the assignment.
    key: int
    user_id: int
    task_id: int
    # Requests made for the ID before this one.
    attempts: int
    bucket_id: int
    # The slot in the minute's plan.
    slot: int
    # When the slot begins, in seconds after the minute's start.
    offset: float
    # How many seconds after the slot's beginning the request may still start.
    tolerance: float


class Result(NamedTuple):
    """What is recorded of a claimed ID."""

    claim: Claim
    # The ID's new status: WAITING where no request was made.
    status: Status
    # When the request started, in milliseconds after the minute's start; None where none was made.
    started_after_ms: int | None = None
    # The request's entry in the ID's history; None where it has none.
    attempt: models.Attempt | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """An ID whose request failed and is to be made again."""

    claim: Claim
    # When the failed request started, in milliseconds after the minute's start.
    started_after_ms: int
    # The failed request's entry in the ID's history.
    attempt: models.Attempt
    # From when on the request is made again.
    due_at: datetime


@dataclass
class ClassifiedResults:
    """The results of requests: what is recorded as it is, and what is made again in another minute."""

    results: list[Result] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)


@dataclass(frozen=True)
class ClaimRequest:
    """What a minute worker wants to claim of one bucket."""

    queue: models.Queue
    # Slots up to this many seconds after the minute's start.
    until: float
    # Whether the request is nothing but the row itself, so that its ID succeeds as it is claimed.
    immediate: bool
    # The largest number of IDs; None: as many as there are slots.
    at_most: int | None = None
    # Whether the bucket wasn't sealed yet when it was read.
    is_unsealed: bool = False
    # For a probe: IDs with this many requests or more are not taken.
    attempts_below: int | None = None


@dataclass
class TickResult:
    """The outcome of a committed tick."""

    # IDs to send.
    claims: list[Claim] = field(default_factory=list)
    # The tasks of these IDs, by key, as they were when the IDs were claimed.
    tasks: dict[int, models.Task] = field(default_factory=dict)
    # Batches whose lease had ended, so that others own their IDs now.
    lost_batches: set[int] = field(default_factory=set)
    # How many IDs succeeded as they were claimed.
    recorded_count: int = 0
    # Up to when the worker may start requests, in seconds after the minute's start.
    may_start_until: float = 0.0
    # By bucket: how many starts were how many milliseconds after their slot.
    lateness: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))


class ScheduledRequest(NamedTuple):
    """A claimed ID on its way to the wire."""

    claim: Claim
    request: Request
    # The queue as it was when the ID was claimed: it says where the request goes, whatever is edited meanwhile.
    queue: models.Queue

    @property
    def queue_id(self) -> int:
        return self.queue.pk


class RequestResult(NamedTuple):
    """The result of a scheduled request."""

    scheduled: ScheduledRequest
    # None where the request was not made.
    outcome: Outcome | None
    # When it started, in seconds after the minute's start; None where it was not made.
    started: float | None
