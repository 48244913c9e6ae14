"""A request's body becomes a Reading: which reader, through which pipes, and what makes it a list at all."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from scheduling.parsing import errors
from scheduling.parsing.form_body import Found, read_multipart, read_urlencoded
from scheduling.parsing.json_body import JsonBody
from scheduling.parsing.list_reader import ListReader
from scheduling.parsing.media import MediaType, media_type
from scheduling.parsing.reading import Reading
from scheduling.parsing.results import Fields, Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.streams import Wire, as_utf8, gunzip

FIELDS = frozenset({"task_name", "queue", "column", "not_before", "expires_at", "id"})

ACCEPTED = {
    "application/json": "json",
    "application/merge-patch+json": "json",
    "text/plain": "text",
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "multipart/form-data": "multipart",
    "application/x-www-form-urlencoded": "urlencoded",
}
_NAMED = (
    "application/json, text/plain, text/csv, application/x-ndjson, multipart/form-data, "
    "application/x-www-form-urlencoded"
)


def read_body(
    chunks: Iterable[bytes],
    *,
    content_type: str | None,
    content_encoding: str | None = None,
    content_length: int | None,
    limits: Limits,
    spool_dir: Path,
    column: str | None = None,
    skip_faults: bool = False,
    leave_out_hidden: bool = False,
    payload_optional: bool = False,
    allowed: frozenset[str] = FIELDS,
    ignorable: frozenset[str] = frozenset(),
) -> Reading:
    """Read a body to its end, in constant memory, and return what it holds. Close the Reading when done.

    chunks: the body as it arrives; an OSError of theirs means that the sender has gone. column: from the
    query; a form may give it as well. skip_faults: `on_error=skip`. leave_out_hidden: rows hidden in a sheet
    don't count. payload_optional: in an edit the payload may be absent or null. allowed: fields to keep;
    ignorable: fields that can only be read, dropped in silence; any others are named in the result.

    Faults in tokens are in the Reading. Raises a ReadingError when the body can't be read as such, when it is
    too large or holds too many, and ListEmpty, PayloadMissing; then nothing is left on disk.
    """
    media = media_type(content_type)
    kind = ACCEPTED.get(media.type)
    if kind is None:
        raise errors.TypeNotAccepted(given=media.shown, accepted=_NAMED)
    media.check_charset()
    wire = Wire(chunks, content_length=content_length, limits=limits)
    if content_length == 0:
        raise errors.BodyEmpty
    plain = _unpacked(wire, content_encoding, limits)
    sink = Sink(limits=limits, folder=spool_dir, keeps_going=skip_faults)
    lists = ListReader(sink=sink, limits=limits, folder=spool_dir, leave_out_hidden=leave_out_hidden)
    try:
        found = _READERS[kind](plain, media, lists, column)
        if not found.payload_given and not payload_optional:
            raise errors.PayloadMissing
        if found.payload_null and not payload_optional:
            raise errors.PayloadNotAList(what="null")
        fields = _fields(found, allowed, ignorable)
        sink.warn("unknown_fields", len(fields.unknown))
        return _finished(found, fields, sink, wire.bytes_read)
    except BaseException:
        sink.close()
        raise


def _unpacked(wire: Wire, content_encoding: str | None, limits: Limits) -> Iterator[bytes]:
    encoding = (content_encoding or "identity").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return gunzip(wire, limits)
    if encoding in ("identity", ""):
        return iter(wire)
    raise errors.EncodingNotAccepted(given=encoding)


def _finished(found: Found, fields: Fields, sink: Sink, bytes_read: int) -> Reading:
    has_list = found.payload_given and not found.payload_null
    faults = sink.fault_file
    if has_list:
        sink.spool.finish()
        if not sink.spool.ids_count and (sink.keeps_going or not faults.count):
            warnings = dict(sink.warnings)
            error = errors.ListEmpty(
                fault_count=faults.count, faults=faults.first, warnings=warnings, sheet=sink.sheet
            )
            error.fields_read = found.given_back()
            raise error
    else:
        sink.spool.close()
    return Reading(
        format=found.format,
        fields=fields,
        spool=sink.spool if has_list else None,
        faults=faults.first,
        fault_count=faults.count,
        warnings=dict(sink.warnings),
        column=sink.column,
        sheet=sink.sheet,
        payload_as_sent=None if faults.count else found.payload_as_sent,
        bytes_read=bytes_read if found.list_bytes is None else found.list_bytes,
        fault_file=faults,
        file_name=found.file_name,
    )


def _fields(found: Found, allowed: frozenset[str], ignorable: frozenset[str]) -> Fields:
    names = list(found.values)
    return Fields(
        values={name: found.values[name] for name in names if name in allowed},
        payload_given=found.payload_given,
        payload_null=found.payload_null,
        ignored=tuple(name for name in names if name in ignorable and name not in allowed),
        unknown=tuple(name for name in names if name not in allowed and name not in ignorable),
    )


def _read_json(chunks: Iterator[bytes], media: MediaType, lists: ListReader, column: str | None) -> Found:
    utf8 = as_utf8(chunks, lists.limits, must_be_utf16=media.is_utf16)
    body = JsonBody(utf8, lists.sink, lists.limits)
    body.read()
    return Found("json", body.fields, body.payload_given, body.payload_null, body.payload_as_sent)


def _read_raw(chunks: Iterator[bytes], media: MediaType, lists: ListReader, column: str | None) -> Found:
    lists.read(ACCEPTED[media.type], chunks, column=column, media=media)
    return Found(lists.format, {}, payload_given=True)


_READERS = {
    "json": _read_json,
    "text": _read_raw,
    "csv": _read_raw,
    "ndjson": _read_raw,
    "multipart": read_multipart,
    "urlencoded": read_urlencoded,
}
