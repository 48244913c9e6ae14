"""Requests and responses, for the description. The responses themselves are made in `api.serializers` and the
views; the tests compare them with these schemas."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import ConfigDict, Field

from api.fields import (
    WHOLE,
    Address,
    ColumnNames,
    Count,
    Expected,
    ExternalId,
    Finished,
    Flag,
    Id,
    Ids,
    Limit,
    Lines,
    Percent,
    QueueName,
    ReadOnly,
    Reference,
    Seconds,
    TaskName,
    Text,
    Time,
    TimeIn,
    UserName,
    UserNumber,
    Words,
)
from api.paging import MAX_LIMIT
from scheduling.core.responses import RETRY_STATUSES, SUCCESS_STATUSES
from scheduling.core.retry import RETRY_DELAYS_MINUTES, Verdict
from scheduling.models import MAX_RPM, HandlerKind, LatePolicy, Overflow, Status, TaskState
from scheduling.parsing.results import WARNINGS
from scheduling.placement.reservations import Start

TaskStateWord = StrEnum("TaskStateWord", {state.name: state.value for state in TaskState})  # type: ignore[misc]  # members of a table
StatusWord = StrEnum("StatusWord", {status.name: status.word for status in Status})  # type: ignore[misc]  # the same
WindowStateWord = Literal["future", "open", "running", "ended"]


WarningKind = StrEnum("WarningKind", {kind.upper(): kind for kind in WARNINGS})  # type: ignore[misc]  # the same
MethodWord = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]
IdTypeWord = Literal["integer", "text"]
UnknownFields = Literal["refuse", "ignore"]


class BodyOptions(Schema):
    """The query parameters of an endpoint with a body."""

    unknown_fields: UnknownFields = "refuse"


class ProblemPlace(Schema):
    """One place of an error: it has a reason, and what identifies the place."""

    model_config = ConfigDict(extra="allow")

    reason: str
    field: str | None = None
    parameter: str | None = None
    header: str | None = None
    line: int | None = None
    column: int | None = None
    index: int | None = None
    sheet: str | None = None
    cell: str | None = None
    token: str | None = None


class Problem(Schema):
    """RFC 9457, application/problem+json."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemPlace]


# --- users ------------------------------------------------------------------------------------------------


class User(Schema):
    id: UserNumber
    id_str: str
    external_id: str | None
    name: str
    date_created: Time


class NewUser(Schema):
    model_config = ConfigDict(extra="forbid")

    id: Id | None = None
    external_id: ExternalId | None = None
    name: UserName = ""
    id_str: Any = ReadOnly
    date_created: Any = ReadOnly


class UserReplacement(Schema):
    """For PUT."""

    model_config = ConfigDict(extra="forbid")

    name: UserName
    id: Any = ReadOnly
    id_str: Any = ReadOnly
    external_id: Any = ReadOnly
    date_created: Any = ReadOnly


class UserUpdate(UserReplacement):
    """For PATCH."""

    name: UserName | None = None  # type: ignore[assignment]  # optional in a PATCH


class Erasure(Schema):
    """How a user is deleted."""

    erase: Flag = False


class UserFilter(Schema):
    id: Ids | None = None
    external_id: ExternalId | None = None
    name: UserName | None = None
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


# --- tasks ------------------------------------------------------------------------------------------------


class Counts(Schema):
    ids: Count
    repeats: Count
    waiting: Count
    in_flight: Count
    succeeded: Count
    failed: Count
    cancelled: Count
    expired: Count


class Callback(Schema):
    state: Literal["due", "succeeded", "given_up"]
    attempts: Count
    at: Time | None
    next_at: Time | None


class Hold(Schema):
    at: Time
    reason: str


class TaskInList(Schema):
    id: Id
    task_name: str
    task_status: bool
    state: TaskStateWord
    queue: str
    counts: Counts
    first_at: Time
    last_at: Time
    date_created: Time
    finished_at: Time | None
    reference: str | None
    deadline: Time | None
    misses_deadline: bool
    hold: Hold | None
    max_failed_percent: float | None
    min_finished: Count | None
    id_type: IdTypeWord
    data_columns: list[str] | None
    callback: Callback | None


class Task(TaskInList):
    payload: str | int | list[int | str] | None


class TaskFilter(Schema):
    id: Ids | None = None
    state: Words | None = None
    queue: QueueName | None = None
    task_name: TaskName | None = None
    reference: Reference | None = None
    created_after: TimeIn | None = None
    created_before: TimeIn | None = None
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


class WindowOfPlan(Schema):
    starts_at: Time
    before: list[Count]
    added: list[Count]
    capacity: list[Count] | None


class Plan(Schema):
    first_at: Time | None
    last_at: Time | None
    peak_per_minute: Count
    rpm: Count
    windows: list[WindowOfPlan]


class ListWarning(Schema):
    kind: WarningKind
    count: Count
    message: str


class Fault(Schema):
    line: int | None = None
    column: int | None = None
    index: int | None = None
    sheet: str | None = None
    cell: str | None = None
    token: str
    reason: str


class PlannedRequest(Schema):
    """A request of a list as it would go out."""

    method: str | None
    url: str | None
    headers: dict[str, str]
    body: str | None
    error: str | None


class Accepted(Schema):
    """The answer to a list, or to its dry run."""

    message: str
    task_id: Id | None
    task: Task | None
    repeats: Count
    column: str | None
    column_number: int | None
    sheet: str | None
    first_ids: list[str]
    last_ids: list[str]
    warnings: list[ListWarning]
    faults: list[Fault]
    fault_count: Count
    plan: Plan
    same_as: Id | None
    requests: list[PlannedRequest] | None = None


class ListOptions(Schema):
    """The query parameters of a list. They complete the fields of the body."""

    task_name: TaskName | None = Field(None, examples=["November"])
    queue: QueueName | None = None
    column: Text | None = None
    sheet: Text | None = None
    id_type: IdTypeWord | None = None
    header: Flag | None = None
    data: Text | None = None
    not_before: TimeIn | None = None
    expires_at: TimeIn | None = None
    deadline: TimeIn | None = None
    max_failed_percent: Percent | None = None
    min_finished: Finished | None = None
    on_error: Literal["refuse", "skip"] = "refuse"
    dry_run: Flag = False
    allow_peak: Flag = False
    expect: Expected | None = None
    unknown_fields: UnknownFields = "refuse"
    start: Start | None = None
    reference: Reference | None = None


class HoldOptions(Schema):
    """The query parameters of a hold."""

    reason: Reference | None = None


class EditOptions(Schema):
    """The query parameters of an edit."""

    task_name: TaskName | None = None
    queue: QueueName | None = None
    column: Text | None = None
    sheet: Text | None = None
    id_type: IdTypeWord | None = None
    header: Flag | None = None
    data: Text | None = None
    on_error: Literal["refuse", "skip"] = "refuse"
    allow_peak: Flag = False
    expect: Expected | None = None
    unknown_fields: UnknownFields = "refuse"


class ListFields(Schema):
    """The fields of a body besides its list."""

    task_name: TaskName | None = None
    queue: QueueName | None = None
    column: Text | None = None
    sheet: Text | None = None
    id_type: IdTypeWord | None = None
    header: Flag | None = None
    data: ColumnNames | None = None
    not_before: TimeIn | None = None
    expires_at: TimeIn | None = None
    deadline: TimeIn | None = None
    max_failed_percent: Percent | None = None
    min_finished: Finished | None = None
    start: Start | None = None
    reference: Reference | None = None
    id: Id | None = None


class Cancelled(Schema):
    cancelled: Count
    already_sent: Count
    in_flight: Count


class Replaced(Cancelled):
    task: Task
    plan: Plan
    kept: Count
    added: Count


class BucketOfTask(Schema):
    bucket: Annotated[int, Field(ge=0, le=14)]
    minute: Time
    ids: Count
    waiting: Count
    in_flight: Count
    succeeded: Count
    failed: Count
    cancelled: Count
    expired: Count
    moved: Count


class WindowOfTask(Schema):
    id: Id
    starts_at: Time
    label: Literal[15, 30, 45, 60]
    state: WindowStateWord
    buckets: list[BucketOfTask]


# --- single IDs -------------------------------------------------------------------------------------------


class Place(Schema):
    user_id: Id | None
    user_id_str: str | None
    external_id: str | None
    window: Time
    bucket: Annotated[int, Field(ge=0, le=14)]
    minute: Time
    status: StatusWord
    attempts: Count
    late_seconds: float


class IdType(Schema):
    """How an ID in a path is meant."""

    id_type: IdTypeWord | None = None


class Eta(Schema):
    user_id: Id | None
    user_id_str: str | None
    external_id: str | None = None
    task_id: Id
    minute: Time


class PlaceOfTask(Place):
    data: dict[str, Any] | None = None
    http_status: int | None = None
    error: str | None = None
    answer: str | None = None


class PlaceFilter(Schema):
    status: StatusWord | None = None
    results: Flag = False
    data: Flag = Field(
        False,
        description="Whether each ID comes with the columns that travel with it, for those who may see them.",
    )
    limit: Limit | None = None
    cursor: str | None = None


class Event(Schema):
    """A place, a move or an attempt."""

    model_config = ConfigDict(extra="allow")

    at: Time | None
    event: Literal["placed", "moved", "attempt"]


class StoryPage(Schema):
    limit: Limit = MAX_LIMIT
    cursor: str | None = None
    id_type: IdTypeWord | None = None


class Story(Place):
    task_id: Id
    task_name: str
    queue: str
    history: list[Event]
    waits_for: str


# --- queues -----------------------------------------------------------------------------------------------


class QueueOptions(BodyOptions):
    """The query parameters of a change of a queue."""

    dry_run: Flag = False


class QueueLoad(Schema):
    peak_per_minute: Count
    over: Count
    done_at: Time | None


class QueueEffect(Schema):
    moved: Count
    before: QueueLoad
    after: QueueLoad


class QueueFields(Schema):
    """The fields of a queue that can be written. Null means "none"."""

    model_config = ConfigDict(extra="forbid")

    rpm: Annotated[int, Field(ge=1, le=MAX_RPM), WHOLE] = 120
    hours: dict[str, Any] | None = None
    ramp: dict[str, Any] | None = None
    quotas: list[dict[str, Any]] = Field(default_factory=list, max_length=5)
    overflow: Overflow = Overflow.DISPERSE
    max_peak: Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE] | None = None
    handler: HandlerKind = HandlerKind.RECORD
    paused: Flag = False
    max_attempts: Annotated[int, Field(ge=1, le=30), WHOLE] = 6
    retry_delays_minutes: list[Annotated[int, Field(ge=1, le=7 * 24 * 60), WHOLE]] = Field(
        default=[*RETRY_DELAYS_MINUTES], min_length=1, max_length=30
    )
    late_policy: LatePolicy = LatePolicy.PLACE_AGAIN
    late_after_seconds: Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE] | None = None
    headroom: Annotated[int, Field(ge=0, le=MAX_RPM), WHOLE] = 0
    breaker_threshold: Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE] | None = 20
    webhook_url: Address = ""
    webhook_method: MethodWord = "POST"
    webhook_headers: dict[Text, Text | None] = Field(default_factory=dict)
    webhook_secret: Annotated[
        Annotated[Text, Field(max_length=200)] | None, Field(json_schema_extra={"writeOnly": True})
    ] = None
    webhook_body: Annotated[Lines, Field(max_length=64 * 1024)] | None = None
    webhook_content_type: Annotated[Text, Field(max_length=100)] = "application/json"
    webhook_sign: Flag = True
    success_statuses: Annotated[Text, Field(max_length=200)] = SUCCESS_STATUSES
    retry_statuses: Annotated[Text, Field(max_length=200)] = RETRY_STATUSES
    success_when: dict[str, Any] | None = None
    keep_answers: Annotated[Text, Field(max_length=200)] = "unexpected"
    connect_timeout_seconds: Seconds = 5
    read_timeout_seconds: Seconds = 10
    max_connections: Annotated[int, Field(ge=1, le=10_000), WHOLE] = 50
    python_callable: Annotated[Text, Field(max_length=200)] = ""
    callback_url: Address = ""
    brake_per_minute: Any = ReadOnly
    date_created: Any = ReadOnly


class NewQueue(QueueFields):
    name: QueueName


class QueueUpdate(QueueFields):
    """For PATCH: absent fields stay as they are. A queue keeps its name."""

    name: Any = ReadOnly


class Queue(Schema):
    name: str
    rpm: int
    hours: dict[str, Any] | None
    ramp: dict[str, Any] | None
    quotas: list[dict[str, Any]]
    overflow: Overflow
    max_peak: int | None
    handler: HandlerKind
    paused: bool
    max_attempts: int
    retry_delays_minutes: list[int]
    late_policy: LatePolicy
    late_after_seconds: int | None
    headroom: int
    breaker_threshold: int | None
    webhook_url: str
    webhook_method: MethodWord
    webhook_headers: dict[str, None]
    webhook_body: str | None
    webhook_content_type: str
    webhook_sign: bool
    success_statuses: str
    retry_statuses: str
    success_when: dict[str, Any] | None
    keep_answers: str
    connect_timeout_seconds: float
    read_timeout_seconds: float
    max_connections: int
    python_callable: str
    callback_url: str
    brake_per_minute: int | None
    date_created: Time


class QueuePage(Schema):
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


class RotateSecret(Schema):
    """`secret` null generates one. `overlap_seconds`: for so long the old one signs too."""

    model_config = ConfigDict(extra="forbid")

    secret: Annotated[Text, Field(max_length=200)] | None = None
    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 24 * 3_600), WHOLE] = 86_400


class RotatedSecret(Schema):
    """The new secret, which is shown this once, and until when the old one signs too."""

    webhook_secret: str
    previous_until: Time


class Brake(Schema):
    model_config = ConfigDict(extra="forbid")

    per_minute: Annotated[int, Field(ge=0, le=MAX_RPM), WHOLE] | None


class TestId(Schema):
    """What a test request is sent for."""

    model_config = ConfigDict(extra="forbid")

    id: Id | ExternalId = 1
    data: dict[str, Any] | None = None


class TestRequest(Schema):
    user_id: int | None
    user_id_str: str
    external_id: str | None
    task_id: int
    task_name: str
    queue: str
    planned_at: Time
    attempt: int


class SentRequest(Schema):
    """The request as it was sent. The values of the queue's own headers are not shown."""

    method: str
    url: str
    headers: dict[str, str]
    body: str


class Tested(Schema):
    """A test request and its response. `sent` is null if the handler isn't `webhook`."""

    started_at: Time
    request: TestRequest
    sent: SentRequest | None
    verdict: Verdict
    http_status: int | None
    answer: str
    error: str
    duration_ms: Count


class TestedCallback(Schema):
    """A call of the callback_url and its response."""

    verdict: Verdict
    http_status: int | None
    answer: str
    error: str
    duration_ms: Count


# --- windows ----------------------------------------------------------------------------------------------


class Bucket(Schema):
    minute: Time
    capacity: Count
    reason: str | None
    filled: Count
    waiting: Count
    in_flight: Count
    succeeded: Count
    failed: Count
    cancelled: Count
    expired: Count
    moved: Count


class Window(Schema):
    id: Id
    queue: str
    starts_at: Time
    label: Literal[15, 30, 45, 60]
    state: WindowStateWord
    buckets: list[Bucket]
    receipt: dict[str, Any] | None


class WindowFilter(Schema):
    queue: QueueName | None = None
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


# --- actions and activity -----------------------------------------------------------------------------------


class ActionOptions(Schema):
    """The query parameters of an action on IDs."""

    expect: Expected | None = None


class ActionBodyOptions(ActionOptions, BodyOptions):
    """The same for an action with a body."""


class FailureFilter(Schema):
    """The filter of the page of failures."""

    model_config = ConfigDict(extra="forbid")

    queue: QueueName | None = None
    status: Annotated[int, Field(ge=100, le=999), WHOLE] | Literal["none"] | None = None
    message: Text | None = None
    task: Id | None = None
    user: Id | None = None
    last: Literal["1h", "24h", "7d"] | None = None


class Retried(Schema):
    ids: Count
    done: Count
    is_finished: bool


class ActivityFilter(Schema):
    actor: Text | None = None
    verb: Text | None = None
    object: Text | None = None
    since: TimeIn | None = None
    until: TimeIn | None = None
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


class ActivityEntry(Schema):
    id: int
    at: Time
    actor: str
    face: str
    verb: str
    object: str | None
    count: int | None
    before: Any
    after: Any
