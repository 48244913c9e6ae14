"""Uploads: read by the same function as the API's lists, and stored as a draft that is not shown to others.

The body is read as it arrives, before Django can: Django's parser would first store all of it.
"""

import base64
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from dashboard.access import OperatorRequest
from dashboard.inputs.parameters import refuse_unknown
from scheduling import models
from scheduling.core import id_tokens
from scheduling.intake import acceptance
from scheduling.lists.record_lists import source_of
from scheduling.parsing import FIELDS, Limits, Reading, read_body

BLOCK = 64 * 1024
# The faults that a preview stores and offers, and those that it shows. The count includes all of them.
FAULTS_KEPT = 20_000
FAULTS_SHOWN = 20
COLUMNS_SHOWN = 100
CSRF_FIELD = "csrfmiddlewaretoken"
# The start of the list, which is stored with the draft for its preview.
START_FIELD = "start"


class CsrfFailed(PermissionDenied):
    """The form's token doesn't fit the session."""


def limits() -> Limits:
    """Return the limits of this deployment."""
    return Limits(
        max_ids=settings.INTAKE_MAX_IDS,
        max_body_bytes=settings.INTAKE_MAX_BODY_BYTES,
        data_max_bytes=settings.DATA_MAX_BYTES,
    )


def read_options(request: OperatorRequest) -> dict[str, bool]:
    """Read the options in the address: `hidden` leaves out the hidden rows of a sheet, `example` shows an
    example. Raises BadRequest.
    """
    words = {"hidden": "leave_out", "example": "show"}
    refuse_unknown(request, words)
    for name, word in words.items():
        value = request.GET.get(name, "")
        if value not in ("", word):
            raise BadRequest(f"{name}: {value[:40]!r} is not {word}.")
    return {name: bool(request.GET.get(name)) for name in words}


def read(request: OperatorRequest, *, id_type: str | None = None) -> Reading:
    """Read the form's file or payload. Raises a ReadingError, and CsrfFailed for a forged form.

    The view must be exempt from Django's own CSRF check, which would read the body first.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    reading = read_body(
        iter(lambda: request.read(BLOCK), b""),
        content_type=request.META.get("CONTENT_TYPE"),
        content_length=int(length) if length.isdigit() else None,
        limits=limits(),
        spool_dir=settings.SPOOL_DIR,
        # The preview shows faults before anything is placed, so the rest of the list has to be read.
        skip_faults=True,
        # In the address, because it must be known before the file is read.
        leave_out_hidden=read_options(request)["hidden"],
        id_type=id_type,
        allowed=FIELDS | {CSRF_FIELD, START_FIELD},
    )
    try:
        check_csrf(request, reading.fields.values.get(CSRF_FIELD, ""))
    except CsrfFailed:
        reading.close()
        raise
    return reading


class _Check(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        return HttpResponse(reason, status=403)


def _no_view(request: HttpRequest) -> HttpResponse:
    """Stand in for the view that the CSRF check protects, since the caller continues by itself."""
    return HttpResponse()


def check_csrf(request: HttpRequest, token: str) -> None:
    """Run Django's own check with a token from a body that Django did not read."""
    request.META.setdefault(settings.CSRF_HEADER_NAME, token)
    check = _Check(_no_view)
    check.process_request(request)
    if check.process_view(request, _no_view, (), {}):
        raise CsrfFailed


def store_draft(
    reading: Reading,
    *,
    name: str,
    queue: str,
    operator: Any,
    at: datetime,
    start: str = "",
    replaces: int | None = None,
) -> models.IdList:
    """Store what was read, and what a preview needs to know of it, as a draft.

    replaces: the task that the list is meant for.
    """
    about = _about(reading, name, queue, operator) | {"start": start}
    if replaces is not None:
        about["replaces"] = replaces
    return acceptance.write_draft(source_of(reading), at=at, about=about)


def _packed(faults: list[dict[str, Any]]) -> str:
    """Compress the faults: they can be megabytes, and a list of previews would read those of each."""
    return base64.b64encode(zlib.compress(orjson.dumps(faults), 1)).decode()


def kept_faults(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stored faults of a list. A list that came through the API has none."""
    packed = about.get("faults_packed")
    unpacked = orjson.loads(zlib.decompress(base64.b64decode(packed))) if packed else about.get("faults", [])
    return list(unpacked)


def without_controls(text: str) -> str:
    """Return a name without control characters, bytes that are not UTF-8 and outer spaces, or "" if it is invisible."""
    plain = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs")).strip()
    return plain if id_tokens.is_visible(plain) else ""


def _about(reading: Reading, name: str, queue: str, operator: Any) -> dict[str, Any]:
    faults: list[dict[str, Any]] = []
    for fault in reading.all_faults():
        if len(faults) == FAULTS_KEPT:
            break
        faults.append(asdict(fault))
    return {
        "task_name": name,
        "queue": queue,
        "operator_id": operator.pk,
        "operator": operator.get_username(),
        "file_name": without_controls(reading.file_name or ""),
        "bytes": reading.bytes_read,
        "format": reading.format,
        "column": asdict(reading.column) if reading.column else None,
        "sheet": asdict(reading.sheet) if reading.sheet else None,
        "columns_left_out": reading.columns_left_out[:COLUMNS_SHOWN],
        "first": [str(user_id) for user_id in reading.ids.first(3)],
        "last": [str(user_id) for user_id in reading.ids.last(3)],
        "faults": faults[:FAULTS_SHOWN],
        "faults_packed": _packed(faults) if len(faults) > FAULTS_SHOWN else "",
        "fault_count": reading.fault_count,
        "warnings": {kind: count for kind, count in reading.warnings.items() if kind != "unknown_fields"},
        "payload": reading.payload_as_sent if isinstance(reading.payload_as_sent, str) else None,
    }
