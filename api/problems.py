"""Errors as `application/problem+json` (RFC 9457), and which problem each error of the domain is shown as."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from django.core.exceptions import ObjectDoesNotExist, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, ValidationError

from api.plans import plan_json
from scheduling import store
from scheduling.core import errors
from scheduling.parsing import errors as reading
from scheduling.parsing.results import Fault

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:quarterdeck:problem:"

DISK_FULL = "The disk is full, so nothing was changed. Try again later, or tell an administrator."
UNREACHABLE = "The database is locked or unreachable, and nothing was done. Try again in a moment."

log = structlog.get_logger("api")


class Kind(NamedTuple):
    status: int
    title: str


# The last part of `type`, for programs. docs/integrators.md explains each.
KINDS: dict[str, Kind] = {
    "bad-request": Kind(400, "The request can't be read"),
    "unknown-parameter": Kind(400, "Unknown query parameter"),
    "bad-parameter": Kind(400, "Invalid query parameter or header"),
    "cut-off": Kind(400, "The body was cut off"),
    "not-signed-in": Kind(401, "A token or a session is required"),
    "not-allowed": Kind(403, "Not allowed for this token or operator"),
    "csrf": Kind(403, "The CSRF token of the session is missing or wrong"),
    "not-found": Kind(404, "Not found"),
    "wrong-method": Kind(405, "Method not allowed"),
    "not-acceptable": Kind(406, "This media type is not available"),
    "conflict": Kind(409, "Not possible in the current state"),
    "past-peak": Kind(409, "A minute would exceed the max_peak of the queue"),
    "past-horizon": Kind(409, "The list would end beyond the horizon"),
    "past-expiry": Kind(409, "The list would end after its expires_at"),
    "past-deadline": Kind(409, "The list would end after its deadline"),
    "still-placing": Kind(409, "The list is still being written"),
    "task-cancelled": Kind(409, "The task is cancelled"),
    "other-queue": Kind(409, "A task stays in its queue"),
    "id-taken": Kind(409, "The ID is taken"),
    "count-changed": Kind(409, "The number of IDs is not the expected one"),
    "name-taken": Kind(409, "The name is taken"),
    "no-free-slot": Kind(409, "No slot is free within a minute"),
    "test-waiting": Kind(409, "A test request of this queue is already waiting"),
    "body-too-slow": Kind(408, "The body did not arrive in time"),
    "length-unknown": Kind(411, "The length of the body is unknown"),
    "changed-meanwhile": Kind(412, "It has changed since it was read"),
    "too-large": Kind(413, "The list is too large"),
    "wrong-type": Kind(415, "Unsupported type of body"),
    "bad-field": Kind(422, "Invalid field in the body"),
    "bad-list": Kind(422, "The list was refused"),
    "broken-body": Kind(422, "The body is malformed"),
    "unexpected-count": Kind(422, "The number of IDs is not the expected one"),
    "key-reused": Kind(422, "The idempotency key was used for another request"),
    "too-many-requests": Kind(429, "Too many requests"),
    "internal-error": Kind(500, "Something went wrong on our side"),
    "busy": Kind(503, "The service is busy"),
    "not-ready": Kind(503, "The service is not ready"),
    "disk-full": Kind(507, "The disk is full"),
}

# Looked up by the class of the error, then by its base classes.
KIND_OF: dict[type[Exception], str] = {
    errors.Refused: "conflict",
    errors.PastPeak: "past-peak",
    errors.PastHorizon: "past-horizon",
    errors.PastExpiry: "past-expiry",
    errors.PastDeadline: "past-deadline",
    errors.UnexpectedCount: "unexpected-count",
    errors.NoSuchQueue: "bad-field",
    errors.BadFields: "bad-field",
    errors.KeyReused: "key-reused",
    errors.SigningKeyUnreadable: "not-ready",
    errors.ColumnsMissing: "bad-list",
    errors.StillPlacing: "still-placing",
    errors.StillInFlight: "still-placing",
    errors.NobodyToErase: "not-found",
    errors.TaskCancelled: "task-cancelled",
    errors.OtherQueue: "other-queue",
    errors.StaleVersion: "changed-meanwhile",
    errors.IdTaken: "id-taken",
    errors.QueueTaken: "name-taken",
    errors.ChannelTaken: "name-taken",
    errors.TargetTaken: "name-taken",
    errors.HoursTaken: "name-taken",
    errors.NoFreeSlot: "no-free-slot",
    errors.TestRequestWaiting: "test-waiting",
    reading.ReadingError: "broken-body",
    reading.LengthUnknown: "length-unknown",
    reading.NoSpace: "disk-full",
    reading.TooLarge: "too-large",
    reading.NotAccepted: "wrong-type",
    reading.CutOff: "cut-off",
    reading.Broken: "broken-body",
    reading.NotAList: "bad-list",
}
RETRY_AFTER = {"still-placing": "2", "test-waiting": "5", "not-ready": "5"}
_PLACE = ("line", "column", "index", "sheet", "cell", "token", "name", "parameter", "choices")


class Problem(Exception):
    """A problem response, raised where the problem is found."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        places: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.places = places
        self.headers = headers
        self.more = more

    def response(self) -> HttpResponse:
        return problem_response(self.kind, self.detail, places=self.places, headers=self.headers, **self.more)


def bad_parameter(name: str, reason: str) -> Problem:
    """Return the problem of a query parameter with an invalid value."""
    return Problem("bad-parameter", f"{name}: {reason}", places=[{"parameter": name, "reason": reason}])


def bad_field(name: str, reason: str) -> Problem:
    """Return the problem of a field of the body with an invalid value."""
    return Problem("bad-field", f"{name}: {reason}", places=[{"field": name, "reason": reason}])


def problem_response(
    kind: str,
    detail: str,
    *,
    places: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> HttpResponse:
    """Return a problem. places: its `errors`, each with what identifies the place, and a `reason`."""
    status, title = KINDS[kind]
    body = {
        "type": TYPE + kind,
        "title": title,
        "status": status,
        "detail": detail,
        "errors": list(places),
        **more,
    }
    response = HttpResponse(orjson.dumps(body), status=status, content_type=MEDIA_TYPE)
    if kind in RETRY_AFTER:
        response["Retry-After"] = RETRY_AFTER[kind]
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def not_signed_in() -> HttpResponse:
    return problem_response(
        "not-signed-in",
        "Send a token, or sign in.",
        headers={"WWW-Authenticate": 'Bearer realm="Quarterdeck"'},
    )


def kind_of(error: Exception) -> str:
    """Return the kind of problem that an expected error is shown as."""
    return next(KIND_OF[base] for base in type(error).__mro__ if base in KIND_OF)


def install(api: NinjaAPI) -> None:
    """Turn every exception of a view into a problem."""
    handlers: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
        Problem: lambda request, error: error.response(),
        AuthenticationError: lambda request, error: not_signed_in(),
        Http404: lambda request, error: problem_response("not-found", str(error) or NOTHING_HERE),
        # Somebody else deleted the row after this request had found it.
        ObjectDoesNotExist: lambda request, error: problem_response("not-found", errors.DELETED_MEANWHILE),
        ValidationError: _invalid_parameters,
        SuspiciousOperation: _suspicious_request,
        reading.ReadingError: _unreadable_body,
        errors.Refused: _refusal,
        OperationalError: _database_error,
        InterfaceError: _database_error,
        Exception: _unexpected_error,
    }
    for error, handler in handlers.items():
        api.add_exception_handler(error, handler)


NOTHING_HERE = "There is nothing at this address."


def _invalid_parameters(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Show what Ninja found in the path and the query."""
    if any(place["loc"][0] == "path" for place in error.errors):
        return problem_response("not-found", NOTHING_HERE)
    places = [{"parameter": str(place["loc"][-1]), "reason": sentence(place)} for place in error.errors]
    detail = " ".join(f"{place['parameter']}: {place['reason']}" for place in places)
    return problem_response("bad-parameter", detail, places=places)


# Pydantic's error types as sentences, with the values of its context.
_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field.",
    "string_type": "It must be text.",
    "list_type": "It must be a list.",
    "too_short": "It must have at least {min_length} entry.",
    "too_long": "It must have at most {max_length} entries.",
    "dict_type": "It must be an object.",
    "float_type": "It must be a number.",
    "float_parsing": "It must be a number.",
    "finite_number": "It must be a number.",
    "string_too_short": "It must have at least {min_length} characters.",
    "string_too_long": "It must have at most {max_length} characters.",
    "greater_than": "It must be greater than {gt}.",
    "greater_than_equal": "It must be at least {ge}.",
    "less_than": "It must be less than {lt}.",
    "less_than_equal": "It must be at most {le}.",
    "literal_error": "It must be {expected}.",
    "enum": "It must be {expected}.",
    "model_attributes_type": "The body must be an object.",
    "string_pattern_mismatch": "It may contain letters, digits, - and _ only.",
}


def sentence(place: Mapping[str, Any]) -> str:
    """Return what pydantic found, as a sentence in our words."""
    message = _SENTENCES.get(str(place["type"]))
    return (
        message.format(**place.get("ctx", {})) if message else str(place["msg"]).removeprefix("Value error, ")
    )


def _unreadable_body(request: HttpRequest, error: reading.ReadingError) -> HttpResponse:
    """Show why a body could not be read, and where if that is known."""
    place = {name: error.facts[name] for name in _PLACE if name in error.facts}
    if "choices" in place:
        place["choices"] = [
            {"number": choice.number, "name": choice.name, "values": list(choice.values)}
            for choice in place["choices"]
        ]
    places = [{**place, "reason": str(error)}]
    if isinstance(error, reading.ListEmpty) and error.facts.get("faults"):
        places = [fault_json(fault) for fault in error.facts["faults"]]
    fault_count = error.facts.get("fault_count", 0)
    return problem_response(kind_of(error), str(error), places=places, fault_count=fault_count)


def _refusal(request: HttpRequest, error: errors.Refused) -> HttpResponse:
    more: dict[str, Any] = {}
    if isinstance(error, errors.PlanRefused):
        more["plan"] = plan_json(error.plan)
    elif isinstance(error, errors.NoFreeSlot):
        more["next"] = error.facts["next"]
    places = []
    if isinstance(error, errors.NoSuchQueue):
        places = [{"field": "queue", "reason": str(error)}]
    elif isinstance(error, errors.ColumnsMissing):
        reason = "The queue's request needs this column, but it does not travel with the IDs of the list."
        places = [{"field": "data", "name": name, "reason": reason} for name in error.names]
    elif isinstance(error, errors.BadFields):
        places = [{"field": name, "reason": reason} for name, reason in error.reasons.items()]
    return problem_response(kind_of(error), str(error), places=places, **more)


def _suspicious_request(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
    """Show what Django refuses to read, such as a thousand query parameters."""
    return problem_response("bad-request", "The request is not one that this service can read.")


def _database_error(request: HttpRequest, error: Exception) -> HttpResponse:
    if store.disk_is_full(error):
        log.error("disk_full", exc_info=error)
        return problem_response("disk-full", DISK_FULL)
    log.warning("database_unreachable", exc_info=error)
    return problem_response("not-ready", UNREACHABLE)


def _unexpected_error(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("request_failed", exc_info=error, path=request.path)
    return internal_error(request)


def internal_error(request: HttpRequest) -> HttpResponse:
    """Return a 500 with the ID under which the log has the details."""
    # Set by api.middleware.RequestId.
    request_id = request.META.get("HTTP_X_REQUEST_ID", "")
    return problem_response(
        "internal-error",
        "The request was either applied completely or not at all, so check before you try again. "
        f"If you report this, include the ID {request_id}.",
        id=request_id,
    )


def fault_json(fault: Fault) -> dict[str, Any]:
    """A place in a list that contains no valid ID."""
    place = {name: getattr(fault, name) for name in ("line", "column", "index", "sheet", "cell")}
    return {name: value for name, value in place.items() if value is not None} | {
        "token": fault.token,
        "reason": fault.reason,
    }
