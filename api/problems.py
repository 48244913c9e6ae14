"""Every error as `application/problem+json` (RFC 9457), and which error of the domain is which problem."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, ValidationError

from scheduling.core import errors
from scheduling.parsing import errors as reading

from .plans import plan_answer

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:quarterdeck:problem:"

log = structlog.get_logger("api")


class Kind(NamedTuple):
    status: int
    title: str


# The last part of `type`, which programs go by: docs/integrators.md explains each.
KINDS: dict[str, Kind] = {
    "bad-request": Kind(400, "The request can't be understood"),
    "unknown-parameter": Kind(400, "There is no such query parameter"),
    "bad-parameter": Kind(400, "A query parameter or header has no meaning"),
    "cut-off": Kind(400, "The body was cut off"),
    "not-signed-in": Kind(401, "A token or a session is needed"),
    "not-allowed": Kind(403, "This token or operator may not do that"),
    "csrf": Kind(403, "The session's CSRF token is missing or wrong"),
    "not-found": Kind(404, "There is nothing here"),
    "wrong-method": Kind(405, "This method does not exist here"),
    "not-acceptable": Kind(406, "There is no such form of the answer"),
    "conflict": Kind(409, "It can't be done as things are now"),
    "past-peak": Kind(409, "A minute would hold more than the queue's max_peak"),
    "past-horizon": Kind(409, "The list would end past the horizon"),
    "past-expiry": Kind(409, "The list would end after its expires_at"),
    "still-placing": Kind(409, "The list is still being written"),
    "task-cancelled": Kind(409, "The task is cancelled"),
    "other-queue": Kind(409, "A task stays in its queue"),
    "id-taken": Kind(409, "The ID is taken"),
    "name-taken": Kind(409, "The name is taken"),
    "no-free-slot": Kind(409, "There is no free slot within a minute"),
    "length-unknown": Kind(411, "The body's length is not known"),
    "changed-meanwhile": Kind(412, "It was changed meanwhile"),
    "too-large": Kind(413, "The list is too large"),
    "wrong-type": Kind(415, "This type of body is not accepted"),
    "bad-field": Kind(422, "A field of the body is wrong"),
    "bad-list": Kind(422, "The list was refused"),
    "broken-body": Kind(422, "The body is broken"),
    "unexpected-count": Kind(422, "Another number of IDs than expected"),
    "key-reused": Kind(422, "The idempotency key was used for something else"),
    "internal-error": Kind(500, "Something went wrong here"),
    "not-ready": Kind(503, "The service is not ready"),
    "disk-full": Kind(507, "The disk is full"),
}

# Looked up by the error's class and then its bases.
KIND_OF: dict[type[Exception], str] = {
    errors.Refused: "conflict",
    errors.PastPeak: "past-peak",
    errors.PastHorizon: "past-horizon",
    errors.PastExpiry: "past-expiry",
    errors.UnexpectedCount: "unexpected-count",
    errors.NoSuchQueue: "bad-field",
    errors.BadFields: "bad-field",
    errors.KeyReused: "key-reused",
    errors.StillPlacing: "still-placing",
    errors.TaskCancelled: "task-cancelled",
    errors.OtherQueue: "other-queue",
    errors.StaleVersion: "changed-meanwhile",
    errors.IdTaken: "id-taken",
    errors.QueueTaken: "name-taken",
    errors.NoFreeSlot: "no-free-slot",
    reading.ReadingError: "broken-body",
    reading.LengthUnknown: "length-unknown",
    reading.NoSpace: "disk-full",
    reading.TooLarge: "too-large",
    reading.NotAccepted: "wrong-type",
    reading.CutOff: "cut-off",
    reading.Broken: "broken-body",
    reading.NotAList: "bad-list",
}
RETRY_AFTER = {"still-placing": "2", "not-ready": "5"}
_PLACE = ("line", "column", "index", "sheet", "cell", "token", "name", "parameter", "choices")


class Problem(Exception):
    """An answer that is a problem, raised where it is found."""

    def __init__(
        self, kind: str, detail: str, *, places: Sequence[Mapping[str, Any]] = (), headers=None, **more: Any
    ) -> None:
        self.kind, self.detail, self.places, self.headers, self.more = (
            kind,
            detail,
            places,
            headers or {},
            more,
        )
        super().__init__(detail)

    def answer(self) -> HttpResponse:
        return problem(self.kind, self.detail, places=self.places, headers=self.headers, **self.more)


def bad_parameter(name: str, reason: str) -> Problem:
    """A query parameter with a value that has no meaning."""
    return Problem("bad-parameter", f"{name}: {reason}", places=[{"parameter": name, "reason": reason}])


def bad_field(name: str, reason: str) -> Problem:
    """A field of the body with a value that it can't have."""
    return Problem("bad-field", f"{name}: {reason}", places=[{"field": name, "reason": reason}])


def problem(
    kind: str,
    detail: str,
    *,
    places: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> HttpResponse:
    """Return the problem as an answer. places: `errors`, each with what names the place, and a `reason`."""
    status, title = KINDS[kind]
    body = {
        "type": TYPE + kind,
        "title": title,
        "status": status,
        "detail": detail,
        "errors": list(places),
        **more,
    }
    answer = HttpResponse(orjson.dumps(body), status=status, content_type=MEDIA_TYPE)
    if kind in RETRY_AFTER:
        answer["Retry-After"] = RETRY_AFTER[kind]
    for name, value in (headers or {}).items():
        answer[name] = value
    return answer


def not_signed_in(detail: str) -> HttpResponse:
    return problem("not-signed-in", detail, headers={"WWW-Authenticate": 'Bearer realm="Quarterdeck"'})


def kind_of(error: Exception) -> str:
    """Return the kind that an expected error is shown as."""
    return next(KIND_OF[base] for base in type(error).__mro__ if base in KIND_OF)


def install(api: NinjaAPI) -> None:
    """Let every exception of a view become a problem."""
    api.add_exception_handler(Problem, lambda request, error: error.answer())
    api.add_exception_handler(ValidationError, _of_parameters)
    api.add_exception_handler(
        AuthenticationError, lambda request, error: not_signed_in("Send a token or sign in.")
    )
    api.add_exception_handler(
        Http404, lambda request, error: problem("not-found", str(error) or "Nothing is here.")
    )
    api.add_exception_handler(SuspiciousOperation, _of_suspicion)
    api.add_exception_handler(reading.ReadingError, _of_reading)
    api.add_exception_handler(errors.Refused, _of_refusal)
    for unreachable in (OperationalError, InterfaceError):
        api.add_exception_handler(unreachable, _of_database)
    api.add_exception_handler(Exception, _of_anything)


def _of_parameters(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """What the framework found in path and query."""
    if any(place["loc"][0] == "path" for place in error.errors):
        return problem("not-found", "Nothing is here.")
    places = [{"parameter": str(place["loc"][-1]), "reason": reason(place)} for place in error.errors]
    return problem(
        "bad-parameter", "; ".join(f"{p['parameter']}: {p['reason']}" for p in places), places=places
    )


def reason(place: Mapping[str, Any]) -> str:
    """What pydantic says, without its own ways of speaking."""
    return str(place["msg"]).removeprefix("Value error, ")


def _of_reading(request: HttpRequest, error: reading.ReadingError) -> HttpResponse:
    """A body that could not be read: where, as far as that is known."""
    place = {name: error.facts[name] for name in _PLACE if name in error.facts}
    if "choices" in place:
        place["choices"] = [
            {"number": choice.number, "name": choice.name, "values": list(choice.values)}
            for choice in place["choices"]
        ]
    places = [{**place, "reason": str(error)}]
    if isinstance(error, reading.ListEmpty) and error.facts.get("faults"):
        places = [fault_answer(fault) for fault in error.facts["faults"]]
    return problem(kind_of(error), str(error), places=places, fault_count=error.facts.get("fault_count", 0))


def _of_refusal(request: HttpRequest, error: errors.Refused) -> HttpResponse:
    more: dict[str, Any] = {}
    if isinstance(error, errors.PlanRefused):
        more["plan"] = plan_answer(error.plan)
    elif isinstance(error, errors.NoFreeSlot):
        more["next"] = error.facts["next"]
    places = []
    if isinstance(error, errors.NoSuchQueue):
        places = [{"field": "queue", "reason": str(error)}]
    elif isinstance(error, errors.BadFields):
        places = [{"field": name, "reason": reason} for name, reason in error.reasons.items()]
    return problem(kind_of(error), str(error), places=places, **more)


def _of_suspicion(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
    """What Django finds too much or too odd to read: a thousand query parameters, say."""
    return problem("bad-request", "The request is not one that this service can read.")


def _of_database(request: HttpRequest, error: Exception) -> HttpResponse:
    said = str(error).lower()
    if "disk is full" in said or "no space left" in said:
        log.error("disk_full", exc_info=error)
        return problem("disk-full", str(reading.NoSpace()))
    log.warning("database_unreachable", exc_info=error)
    return problem("not-ready", "The database is locked or gone; nothing was done. Try again in a moment.")


def _of_anything(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("request_failed", exc_info=error, path=request.path)
    return internal_error()


def internal_error() -> HttpResponse:
    """A 500 with the id under which the log has it."""
    number = structlog.contextvars.get_contextvars().get("request_id") or str(uuid.uuid4())
    return problem("internal-error", f"Please report it with the id {number}.", id=number)


def fault_answer(fault: Any) -> dict[str, Any]:
    """A place in a list that holds no ID."""
    place = {name: getattr(fault, name) for name in ("line", "column", "index", "sheet", "cell")}
    return {name: value for name, value in place.items() if value is not None} | {
        "token": fault.token,
        "reason": fault.reason,
    }
