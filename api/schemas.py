"""The schemas of requests and responses, for the OpenAPI document.

The responses themselves are made in `api.serializers` and the views; tests compare them with these schemas.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import ConfigDict, Field

from api.fields import (
    WHOLE,
    Address,
    CanaryIn,
    ColumnNames,
    Count,
    Expected,
    ExternalId,
    Finished,
    Flag,
    Id,
    IdAsWritten,
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
    UserNumbers,
    Words,
)
from api.paging import MAX_LIMIT
from scheduling.core.responses import RETRY_STATUSES, SUCCESS_STATUSES
from scheduling.core.retry import RETRY_DELAYS_MINUTES, Verdict
from scheduling.models import (
    MAX_RPM,
    ClientAuth,
    EventType,
    HandlerKind,
    LatePolicy,
    Overflow,
    Status,
    TaskState,
)
from scheduling.parsing.results import WARNINGS
from scheduling.placement.reservations import Start

TaskStateWord = StrEnum("TaskStateWord", {state.name: state.value for state in TaskState})  # type: ignore[misc]  # members of a table
StatusWord = StrEnum("StatusWord", {status.name: status.word for status in Status})  # type: ignore[misc]  # the same
OutcomeWord = StrEnum("OutcomeWord", {status.name: status.word for status in Status.ended()})  # type: ignore[misc]  # the same
WindowStateWord = Literal["future", "open", "running", "ended"]


WarningKind = StrEnum("WarningKind", {kind.upper(): kind for kind in WARNINGS})  # type: ignore[misc]  # the same
EventTypeWord = StrEnum("EventTypeWord", {event_type.name: event_type.value for event_type in EventType})  # type: ignore[misc]  # the same
DeliveryStateWord = Literal["due", "delivered", "abandoned"]
MethodWord = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]
IdTypeWord = Literal["integer", "text"]
UnknownFields = Literal["refuse", "ignore"]


# How long a request for outcomes may wait for the next ones: proxies end what is silent for a minute.
MAX_WAIT_SECONDS = 50


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
    """The body of a PUT."""

    model_config = ConfigDict(extra="forbid")

    name: UserName
    id: Any = ReadOnly
    id_str: Any = ReadOnly
    external_id: Any = ReadOnly
    date_created: Any = ReadOnly


class UserUpdate(UserReplacement):
    """The body of a PATCH."""

    name: UserName | None = None  # type: ignore[assignment]  # optional in a PATCH


class Erasure(Schema):
    """How a user is deleted."""

    erase: Flag = False


class UserFilter(Schema):
    id: UserNumbers | None = None
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


class Canary(Schema):
    """The progress of the first IDs of a list, for which its others wait."""

    ids: Count
    min_succeeded_percent: float
    state: Literal["running", "passed", "failed", "skipped"]
    count: Count
    succeeded: Count
    needed: Count
    decided_at: Time | None


class PlannedCanary(Schema):
    """The first IDs of a list, which would be sent before the others."""

    ids: Count
    needed: Count
    ends_at: Time | None


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
    canary: Canary | None
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


class ShareOfPlan(Schema):
    percent: Count
    places_left: Count
    last_at: Time | None


class Plan(Schema):
    first_at: Time | None
    last_at: Time | None
    peak_per_minute: Count
    rpm: Count
    share: ShareOfPlan | None
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
    """The response to a list, or to its dry run."""

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
    canary: PlannedCanary | None
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
    canary: CanaryIn | None = None
    on_error: Literal["refuse", "skip"] = "refuse"
    dry_run: Flag = False
    allow_peak: Flag = False
    expect: Expected | None = None
    unknown_fields: UnknownFields = "refuse"
    start: Start | None = None
    reference: Reference | None = None


class HoldOptions(BodyOptions):
    """The query parameters of a hold or a pause."""

    reason: Annotated[Reference | None, Field(description="Why, in a sentence that others read.")] = None


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
    canary: CanaryIn | None = None
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
    """Whether an ID in a path is a number or text."""

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


class OutcomeFilter(Schema):
    after: Text | None = Field(
        None, description="Only outcomes behind this `cursor`: that of a row, or of the link `next`."
    )
    queue: QueueName | None = Field(None, description="Only outcomes of IDs of this queue.")
    task: Id | None = Field(None, description="Only outcomes of IDs of the task with this number.")
    wait: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS), WHOLE] = 0
    limit: Limit = MAX_LIMIT


class Outcome(Schema):
    cursor: str
    at: Time
    task_id: Id
    queue: str
    user_id: Id | None
    user_id_str: str | None
    external_id: str | None
    status: OutcomeWord
    attempts: Count
    http_status: int | None
    error: str
    answer: str


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

    dry_run: Flag = Field(False, description="Return what would change, and change nothing.")


class QueueLoad(Schema):
    peak_per_minute: Count
    over: Count
    done_at: Time | None


class ShareEffect(Schema):
    """What `max_share_percent` would do to an imagined next list with this many IDs."""

    percent: Count
    ids: Count
    places_left: Count
    done_at: Time
    done_at_without: Time


class QueueEffect(Schema):
    moved: Count
    before: QueueLoad
    after: QueueLoad
    share: ShareEffect | None


class QueueFields(Schema):
    """The fields of a queue that can be written. Null means "none"."""

    model_config = ConfigDict(extra="forbid")

    rpm: Annotated[int, Field(ge=1, le=MAX_RPM), WHOLE] = 120
    hours: dict[str, Any] | Text | None = None
    ramp: dict[str, Any] | None = None
    quotas: list[dict[str, Any]] = Field(default_factory=list, max_length=5)
    overflow: Overflow = Overflow.DISPERSE
    max_share_percent: Annotated[int, Field(ge=1, le=100), WHOLE] = 100
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
    oauth_token_url: Address = ""
    oauth_client_id: Annotated[Text, Field(max_length=300)] = ""
    oauth_client_secret: Annotated[
        Annotated[Text, Field(max_length=2000)] | None, Field(json_schema_extra={"writeOnly": True})
    ] = None
    oauth_client_auth: ClientAuth = ClientAuth.BASIC
    oauth_scope: Annotated[Text, Field(max_length=1000)] = ""
    oauth_audience: Annotated[Text, Field(max_length=1000)] = ""
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
    note: Any = ReadOnly
    date_created: Any = ReadOnly


class NewQueue(QueueFields):
    name: QueueName


class QueueUpdate(QueueFields):
    """For PATCH: absent fields stay as they are. A queue keeps its name."""

    name: Any = ReadOnly


class Queue(Schema):
    name: str
    rpm: int
    hours: dict[str, Any] | str | None
    ramp: dict[str, Any] | None
    quotas: list[dict[str, Any]]
    overflow: Overflow
    max_share_percent: int
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
    oauth_token_url: str
    oauth_client_id: str
    oauth_client_auth: ClientAuth
    oauth_scope: str
    oauth_audience: str
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
    note: str | None
    date_created: Time


class HoursForm(Schema):
    """Sending hours: a weekly table in a time zone, and closed dates."""

    model_config = ConfigDict(extra="forbid")

    zone: Annotated[Text, Field(max_length=100)] = "UTC"
    open: list[Annotated[Text, Field(max_length=100)]] = Field(default_factory=list)
    closed: list[Annotated[Text, Field(max_length=10)]] = Field(default_factory=list)
    queues: Any = ReadOnly
    targets: Any = ReadOnly
    date_created: Any = ReadOnly


class NewHours(HoursForm):
    """Hours with a name, which queues and targets can share."""

    name: QueueName
    open: list[Annotated[Text, Field(max_length=100)]]


class HoursUpdate(HoursForm):
    """For PATCH: absent fields stay as they are. Hours keep their name."""

    name: Any = ReadOnly


class SharedHours(Schema):
    """Sending hours with a name, which queues and targets can share."""

    name: str
    zone: str
    open: list[str]
    closed: list[str]
    queues: list[str]
    targets: list[str]
    date_created: Time


class EffectOfHours(QueueEffect):
    """What a change of shared hours would do to a queue that uses them, or to all queues of a target that does."""

    queue: str | None
    target: str | None


class QueuePage(Schema):
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


class TargetFields(Schema):
    """The budget of a target. Null means "none"; at least one of rpm, hours and quotas is needed."""

    model_config = ConfigDict(extra="forbid")

    rpm: Annotated[int, Field(ge=1, le=MAX_RPM), WHOLE] | None = None
    limit_per_60s: Annotated[int, Field(ge=2, le=MAX_RPM + 1), WHOLE] | None = None
    hours: dict[str, Any] | Text | None = None
    quotas: list[dict[str, Any]] = Field(default_factory=list, max_length=5)
    id: Any = ReadOnly
    queues: Any = ReadOnly


class NewTarget(TargetFields):
    origin: Address


class TargetUpdate(TargetFields):
    """For PATCH: absent fields stay as they are. A target keeps its origin."""

    origin: Any = ReadOnly


class Target(Schema):
    id: Id
    origin: str
    rpm: int | None
    hours: dict[str, Any] | str | None
    quotas: list[dict[str, Any]]
    queues: list[str]


class RotateSecret(Schema):
    """A new secret for a queue: null generates one. Requests are signed by the old one too for `overlap_seconds`."""

    model_config = ConfigDict(extra="forbid")

    secret: Annotated[Text, Field(max_length=200)] | None = None
    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 24 * 3_600), WHOLE] = 86_400


class RotatedSecret(Schema):
    """The new secret, which is not shown again, and until when requests are signed by the old one too."""

    webhook_secret: str
    previous_until: Time


class Brake(Schema):
    model_config = ConfigDict(extra="forbid")

    per_minute: Annotated[int, Field(ge=0, le=MAX_RPM), WHOLE] | None
    reason: Reference | None = None


class Why(Schema):
    """The reason for an action."""

    model_config = ConfigDict(extra="forbid")

    reason: Reference | None = None


class NoFields(Schema):
    """The body of an action that takes none: a misspelt or misplaced field must not pass for one that works."""

    model_config = ConfigDict(extra="forbid")


class TestId(Schema):
    """What a test request is sent for."""

    model_config = ConfigDict(extra="forbid")

    id: IdAsWritten = 1
    id_type: IdTypeWord | None = None
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


# --- webhooks ---------------------------------------------------------------------------------------------


class Webhook(Schema):
    id: Id
    name: str
    url: str
    events: list[EventTypeWord]
    enabled: bool
    date_created: Time


class WebhookFields(Schema):
    model_config = ConfigDict(extra="forbid")

    enabled: Flag = True
    secret: Annotated[Text, Field(max_length=200)] | None = None
    id: Any = ReadOnly
    date_created: Any = ReadOnly


class NewWebhook(WebhookFields):
    name: Annotated[Text, Field(min_length=1, max_length=100)]
    url: Annotated[Text, Field(max_length=2_000)]
    events: Annotated[list[EventTypeWord], Field(min_length=1)]


class WebhookUpdate(WebhookFields):
    name: Annotated[Text, Field(min_length=1, max_length=100)] = ""
    url: Annotated[Text, Field(max_length=2_000)] = ""
    events: Annotated[list[EventTypeWord], Field(min_length=1)] = []


class CreatedWebhook(Webhook):
    secret: str | None


class WebhookDelivery(Schema):
    id: Id
    event_id: str
    type: EventTypeWord
    summary: str
    at: Time
    state: DeliveryStateWord
    attempts: Count
    http_status: int | None
    error: str
    delivered_at: Time | None
    next_at: Time | None


class DeliveryFilter(Schema):
    state: DeliveryStateWord | None = None
    type: EventTypeWord | None = None
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


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


class Planning(Schema):
    first_planned: Count
    cancelled: Count
    moved_in: Count
    moved_out: Count
    requests_made: Count
    finished: Count


class Window(Schema):
    id: Id
    queue: str
    starts_at: Time
    label: Literal[15, 30, 45, 60]
    state: WindowStateWord
    buckets: list[Bucket]
    planning: Planning
    receipt: dict[str, Any] | None


class WindowFilter(Schema):
    queue: QueueName | None = None
    limit: Limit = MAX_LIMIT
    cursor: str | None = None


class ReceiptFilter(Schema):
    queue: Words | None = Field(None, description="Only these queues: names separated by commas.")
    target: Text | None = None
    since: TimeIn = Field(
        description="The beginning of the period: only windows that run at this time or later."
    )
    until: TimeIn = Field(description="The end of the period: only windows that run before this time.")


# --- actions and activity -----------------------------------------------------------------------------------


class ActionOptions(BodyOptions):
    """The query parameters of an action on IDs."""

    expect: Expected | None = Field(
        None, description="Do nothing unless the action applies to exactly this many IDs."
    )


class FailureFilter(Schema):
    """The filter of the page of failures."""

    model_config = ConfigDict(extra="forbid")

    queue: QueueName | None = None
    status: Annotated[int, Field(ge=100, le=999), WHOLE] | Literal["none"] | None = None
    message: Text | None = None
    task: Id | None = None
    user: IdAsWritten | None = None
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
