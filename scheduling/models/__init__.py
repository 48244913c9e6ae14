"""The tables. The layout of keys: scheduling.core.keys; the order of locks: scheduling.store."""

from .activity import Activity
from .alert import WATCHES, Alert, AlertKind, AlertRule, Watch
from .assignment import (
    BUCKET_OF_ROW,
    Assignment,
    Attempt,
    Batch,
    FailureCount,
    Move,
)
from .bulk_act import BulkAct, BulkActKind
from .canary import CanaryId
from .cluster import Heartbeat, Minute, QuarterRun
from .data import DataChunk, IdData
from .edit import EarlierAttempts, LeftInFlight
from .event import ALERT_TYPES, Channel, ChannelKind, Delivery, DeliveryQuerySet, Event, EventType
from .external_id import ExternalId
from .installation import Installation
from .outcome import FormerOutcome, OutcomeEntry
from .queue import (
    MAX_QUEUES,
    MAX_RPM,
    SECRET_FIELDS,
    ClientAuth,
    HandlerKind,
    Hours,
    LatePolicy,
    Overflow,
    Queue,
    Target,
    Unreachable,
)
from .states import TRANSITIONS, CanaryState, Group, MoveReason, Status, TaskState
from .task import (
    Chunk,
    IdempotentAnswer,
    IdList,
    Segment,
    SegmentPart,
    Task,
    TaskBucket,
    TaskQuerySet,
)
from .user import MAX_ID, User
from .window import Bucket, ChainedReceipt, Reservation, ReservationKind, Window

__all__ = [
    "ALERT_TYPES",
    "BUCKET_OF_ROW",
    "MAX_ID",
    "MAX_QUEUES",
    "MAX_RPM",
    "SECRET_FIELDS",
    "TRANSITIONS",
    "WATCHES",
    "Activity",
    "Alert",
    "AlertKind",
    "AlertRule",
    "Assignment",
    "Attempt",
    "Batch",
    "Bucket",
    "BulkAct",
    "BulkActKind",
    "CanaryId",
    "CanaryState",
    "ChainedReceipt",
    "Channel",
    "ChannelKind",
    "Chunk",
    "ClientAuth",
    "DataChunk",
    "Delivery",
    "DeliveryQuerySet",
    "EarlierAttempts",
    "Event",
    "EventType",
    "ExternalId",
    "FailureCount",
    "FormerOutcome",
    "Group",
    "HandlerKind",
    "Heartbeat",
    "Hours",
    "IdData",
    "IdList",
    "IdempotentAnswer",
    "Installation",
    "LatePolicy",
    "LeftInFlight",
    "Minute",
    "Move",
    "MoveReason",
    "OutcomeEntry",
    "Overflow",
    "QuarterRun",
    "Queue",
    "Reservation",
    "ReservationKind",
    "Segment",
    "SegmentPart",
    "Status",
    "Target",
    "Task",
    "TaskBucket",
    "TaskQuerySet",
    "TaskState",
    "Unreachable",
    "User",
    "Watch",
    "Window",
]
