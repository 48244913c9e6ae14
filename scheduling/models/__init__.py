"""The tables. The layout of keys: scheduling.core.keys; the order of locks: scheduling.store."""

from .activity import Activity
from .assignment import (
    BUCKET_OF_ROW,
    Assignment,
    Attempt,
    Batch,
    FailureCount,
    Move,
)
from .bulk_act import BulkAct, BulkActKind
from .cluster import Heartbeat, Minute, QuarterRun
from .data import DataChunk, IdData
from .edit import EarlierAttempts, LeftInFlight
from .external_id import ExternalId
from .installation import Installation
from .queue import MAX_QUEUES, MAX_RPM, HandlerKind, LatePolicy, Overflow, Queue, Target, Unreachable
from .states import TRANSITIONS, Group, MoveReason, Status, TaskState
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
from .window import Bucket, Reservation, ReservationKind, Window

__all__ = [
    "BUCKET_OF_ROW",
    "MAX_ID",
    "MAX_QUEUES",
    "MAX_RPM",
    "TRANSITIONS",
    "Activity",
    "Assignment",
    "Attempt",
    "Batch",
    "Bucket",
    "BulkAct",
    "BulkActKind",
    "Chunk",
    "DataChunk",
    "EarlierAttempts",
    "ExternalId",
    "FailureCount",
    "Group",
    "HandlerKind",
    "Heartbeat",
    "IdData",
    "IdList",
    "IdempotentAnswer",
    "Installation",
    "LatePolicy",
    "LeftInFlight",
    "Minute",
    "Move",
    "MoveReason",
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
    "Window",
]
