"""Bodies: streams of any length for lists, a few checked fields for everything else."""

from collections.abc import Iterator
from typing import Any, TypeVar

from django.conf import settings
from django.http import HttpRequest
from ninja import Schema
from pydantic import ValidationError

from scheduling.parsing import errors
from scheduling.parsing.body import read_body
from scheduling.parsing.media import media_type
from scheduling.parsing.results import Limits

from .problems import Problem, reason

PIECE_BYTES = 64 * 1024
SMALL_BODY = Limits(max_ids=1, max_body_bytes=1024 * 1024)
FIELD_TYPES = ("application/json", "application/merge-patch+json", "application/x-www-form-urlencoded")

Fields = TypeVar("Fields", bound=Schema)


def pieces(request: HttpRequest) -> Iterator[bytes]:
    """Yield the body as it arrives, in pieces of 64 KiB."""
    while piece := request.read(PIECE_BYTES):
        yield piece


def content_length(request: HttpRequest) -> int | None:
    """The announced length; None where it isn't known: a chunked body reaches us empty, without an error."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if request.headers.get("Transfer-Encoding") or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def list_limits() -> Limits:
    """How much of a list is read, by the settings."""
    return Limits(max_ids=settings.INTAKE_MAX_IDS, max_body_bytes=settings.INTAKE_MAX_BODY_BYTES)


def read_fields(request: HttpRequest, schema: type[Fields]) -> Fields:
    """Read a small body and check it. Fields that the schema marks as read-only are passed over.

    Raises ReadingError, and Problem (422) that names each field that is wrong.
    """
    kind = media_type(request.headers.get("Content-Type"))
    if kind.type not in FIELD_TYPES:
        raise errors.TypeNotAccepted(given=kind.shown, accepted=", ".join(FIELD_TYPES))
    written, only_read = _names(schema)
    with read_body(
        pieces(request),
        content_type=request.headers.get("Content-Type"),
        content_encoding=request.headers.get("Content-Encoding"),
        content_length=content_length(request),
        limits=SMALL_BODY,
        spool_dir=settings.SPOOL_DIR,
        payload_optional=True,
        allowed=frozenset(written),
        ignorable=frozenset(only_read),
    ) as found:
        unknown = [*found.fields.unknown, *(["payload"] if found.fields.payload_given else [])]
        if unknown:
            places = [{"field": name, "reason": "there is no such field"} for name in unknown]
            raise Problem("bad-field", f"There is no field {', '.join(unknown)}.", places=places)
        return checked(schema, dict(found.fields.values))


def checked(schema: type[Fields], values: dict[str, Any]) -> Fields:
    """Check values against a schema. Raises Problem (422) that names each field that is wrong."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        places = [
            {"field": ".".join(map(str, place["loc"])) or "body", "reason": reason(place)}
            for place in error.errors(include_url=False, include_input=False)
        ]
        detail = "; ".join(f"{place['field']}: {place['reason']}" for place in places)
        raise Problem("bad-field", detail, places=places) from None


def _names(schema: type[Schema]) -> tuple[list[str], list[str]]:
    written, only_read = [], []
    for name, field in schema.model_fields.items():
        extra = field.json_schema_extra
        is_read_only = isinstance(extra, dict) and extra.get("readOnly")
        (only_read if is_read_only else written).append(name)
    return written, only_read
