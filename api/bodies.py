"""Request bodies: streams of any length for lists, a few checked fields for everything else."""

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

from django.conf import settings
from django.http import HttpRequest
from ninja import Schema
from pydantic import ValidationError

from api.auth import ApiRequest
from api.problems import Problem, sentence
from api.schemas import HoldOptions, UnknownFields, Why
from scheduling.parsing import errors
from scheduling.parsing.body import read_body
from scheduling.parsing.media import media_type
from scheduling.parsing.results import Limits

CHUNK_BYTES = 64 * 1024
SMALL_BODY = Limits(max_ids=1, max_body_bytes=1024 * 1024)
FIELD_TYPES = (
    "application/json",
    "application/merge-patch+json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)
# Forms of the old service's pages have it.
FORM_NOISE = frozenset({"csrfmiddlewaretoken"})

Fields = TypeVar("Fields", bound=Schema)


def chunks(request: HttpRequest) -> Iterator[bytes]:
    """Yield the body as it arrives, in chunks of 64 KiB."""
    while chunk := request.read(CHUNK_BYTES):
        yield chunk


def content_length(request: HttpRequest) -> int | None:
    """Return the announced length, or None if it is unknown: a chunked body reaches us empty, without an error."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if request.headers.get("Transfer-Encoding") or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def list_limits() -> Limits:
    """Return how long a list may be, by the settings."""
    return Limits(
        max_ids=settings.INTAKE_MAX_IDS,
        max_body_bytes=settings.INTAKE_MAX_BODY_BYTES,
        data_max_bytes=settings.DATA_MAX_BYTES,
    )


def read_fields(request: ApiRequest, schema: type[Fields], unknown_fields: UnknownFields) -> Fields:
    """Read and check a small body. Fields that the schema marks as read-only are ignored.

    Raises ReadingError, and Problem (422) that names each invalid field.
    """
    kind = media_type(request.headers.get("Content-Type"))
    if kind.type not in FIELD_TYPES:
        raise errors.TypeNotAccepted(given=kind.shown, accepted=", ".join(FIELD_TYPES))
    writable, read_only = _field_names(schema)
    with read_body(
        chunks(request),
        content_type=request.headers.get("Content-Type"),
        content_encoding=request.headers.get("Content-Encoding"),
        content_length=content_length(request),
        limits=SMALL_BODY,
        spool_dir=settings.SPOOL_DIR,
        payload_optional=True,
        allowed=frozenset(writable),
        ignorable=frozenset(read_only) | FORM_NOISE,
        # No list is read, so they are fields like any other.
        option_fields=frozenset(),
    ) as body:
        unknown = [*body.fields.unknown, *(["payload"] if body.fields.payload_given else [])]
        check_unknown(request, unknown, writable, unknown_fields)
        return validate(schema, dict(body.fields.values))


def read_optional(request: ApiRequest, schema: type[Fields], unknown_fields: UnknownFields) -> Fields:
    """Read and check a small body that may be missing, or null. Raises what `read_fields` raises."""
    if not content_length(request):
        return schema()
    try:
        return read_fields(request, schema, unknown_fields)
    except errors.NotAnObject as error:
        # It asks for nothing.
        if error.facts["what"] != "null":
            raise
        return schema()


def why(request: ApiRequest, options: HoldOptions) -> str:
    """Return the reason of an action; empty if there is none. That of the body counts, if both are given."""
    return read_optional(request, Why, options.unknown_fields).reason or options.reason or ""


def check_unknown(
    request: ApiRequest, unknown: Collection[str], known_names: Collection[str], unknown_fields: UnknownFields
) -> None:
    """Raise Problem (422) that names the unknown fields and the nearest known ones, unless they are ignored.

    Ignored fields are named in the Warning header of the response.
    """
    if not unknown:
        return
    if unknown_fields == "ignore":
        request.ignored_fields = list(unknown)
        return
    places = [
        {"field": name, "reason": f"There is no such field.{_nearest(name, known_names)}"} for name in unknown
    ]
    detail = " ".join(f"There is no field {name}.{_nearest(name, known_names)}" for name in unknown)
    raise Problem("bad-field", detail, places=places)


def _nearest(name: str, known_names: Collection[str]) -> str:
    matches = get_close_matches(name.lower(), known_names, n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""


def validate(schema: type[Fields], values: dict[str, Any]) -> Fields:
    """Check values against a schema. Raises Problem (422) that names each invalid field."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        reasons: dict[str, str] = {}
        for place in error.errors(include_url=False):
            first, *rest = place["loc"] or ("body",)
            # Of a number or text both are named, in Pydantic's words: "id.function-before[...]".
            field = ".".join([str(first), *(str(step) for step in rest if not str(step).endswith("]"))])
            if field not in reasons or isinstance(place["input"], str):
                reasons[field] = sentence(place)
        places = [{"field": field, "reason": reason} for field, reason in reasons.items()]
        detail = " ".join(f"{place['field']}: {place['reason']}" for place in places)
        raise Problem("bad-field", detail, places=places) from None


def _field_names(schema: type[Schema]) -> tuple[list[str], list[str]]:
    """Return the names of the fields that can be written, and of those that can only be read."""
    writable: list[str] = []
    read_only: list[str] = []
    for name, field in schema.model_fields.items():
        extra = field.json_schema_extra
        is_read_only = isinstance(extra, dict) and extra.get("readOnly")
        (read_only if is_read_only else writable).append(name)
    return writable, read_only
