"""Reads the body of a request: chooses the reader, and decides what makes the result a list."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from scheduling.parsing import errors
from scheduling.parsing.data_columns import DataRequest
from scheduling.parsing.form_body import BodyContent, read_multipart, read_urlencoded
from scheduling.parsing.json_body import JsonBody
from scheduling.parsing.list_options import OPTION_FIELDS, ListOptions, parsed_option
from scheduling.parsing.list_reader import CopiedChunks, ListReader
from scheduling.parsing.media import MediaType, media_type
from scheduling.parsing.reading import Reading
from scheduling.parsing.record_spool import RecordSpool
from scheduling.parsing.results import Fields, Limits
from scheduling.parsing.spool import Spool
from scheduling.parsing.streams import ArrivingBody, as_utf8, gunzip

FIELDS = frozenset(
    {"task_name", "queue", "column", "sheet", "id_type", "header", "data", "not_before", "expires_at", "id"}
)

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
    sheet: str | None = None,
    id_type: str | None = None,
    data: Any = None,
    header: bool | None = None,
    id_type_of: Callable[[str], str | None] | None = None,
    default_id_type: str | None = None,
    skip_faults: bool = False,
    leave_out_hidden: bool = False,
    payload_optional: bool = False,
    allowed: frozenset[str] = FIELDS,
    ignorable: frozenset[str] = frozenset(),
    option_fields: frozenset[str] = OPTION_FIELDS,
) -> Reading:
    """Read a body to its end, in constant memory, and return what it contains. Close the Reading afterwards.

    chunks: the body as it arrives; if it raises OSError, the sender has disconnected. column, sheet, id_type, data,
    header: from the query; those in `allowed` may also be fields of the body. id_type_of: the id_type of the list
    that the body's field `id` names. default_id_type: where neither query nor body says it.
    skip_faults: `on_error=skip`. leave_out_hidden: leave out rows hidden in a sheet. payload_optional: the payload may
    be absent or null, as in an edit. allowed: the fields to keep. ignorable: read-only fields, which are dropped. Any
    other field is listed in the result as unknown. option_fields: those that say how the list is to be read.

    Faults in tokens are in the Reading. Raises a ReadingError if the body as such can't be read, is too large,
    contains too many entries or no list. Then nothing is left on disk.
    """
    media = media_type(content_type)
    kind = ACCEPTED.get(media.type)
    if kind is None:
        raise errors.TypeNotAccepted(given=media.shown, accepted=_NAMED)
    media.check_charset()
    body = ArrivingBody(chunks, content_length=content_length, limits=limits)
    if content_length == 0:
        raise errors.BodyEmpty
    plain = _unpacked(body, content_encoding, limits)
    options = ListOptions(
        column=column,
        sheet=sheet,
        id_type=None if id_type is None else parsed_option("id_type", id_type),
        data=DataRequest.parse(data),
        header=header,
        leave_out_hidden=leave_out_hidden,
        id_type_of=id_type_of,
        default_id_type=default_id_type,
        accepted=option_fields & allowed,
    )
    lists = ListReader(options, limits=limits, folder=spool_dir, keeps_going=skip_faults)
    try:
        content = _READERS[kind](plain, media, lists)
        if not content.payload_given and not payload_optional:
            raise errors.PayloadMissing
        if content.payload_null and not payload_optional:
            raise errors.PayloadNotAList(what="null")
        if options.sheet is not None and content.format != "xlsx" and content.payload_given:
            raise errors.NoSheets
        fields = _fields(content, allowed, ignorable)
        lists.sink.warn("unknown_fields", len(fields.unknown))
        return _finished(content, fields, lists, body.bytes_read)
    except BaseException:
        lists.close()
        raise


def _unpacked(body: ArrivingBody, content_encoding: str | None, limits: Limits) -> Iterator[bytes]:
    encoding = (content_encoding or "identity").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return gunzip(body, limits)
    if encoding in ("identity", ""):
        return iter(body)
    raise errors.EncodingNotAccepted(given=encoding)


def _finished(content: BodyContent, fields: Fields, lists: ListReader, bytes_read: int) -> Reading:
    sink = lists.sink
    has_list = content.payload_given and not content.payload_null
    faults = sink.fault_file
    if has_list:
        sink.finish()
        if not sink.spool.ids_count and (sink.keeps_going or not faults.count):
            warnings = dict(sink.warnings)
            error = errors.ListEmpty(
                fault_count=faults.count, faults=faults.first, warnings=warnings, sheet=sink.sheet
            )
            error.fields_read = content.reusable_fields()
            raise error
    else:
        sink.spool.close()
    return Reading(
        format=content.format,
        fields=fields,
        spool=sink.spool if has_list and isinstance(sink.spool, Spool) else None,
        records=sink.spool if has_list and isinstance(sink.spool, RecordSpool) else None,
        faults=faults.first,
        fault_count=faults.count,
        warnings=dict(sink.warnings),
        column=sink.column,
        sheet=sink.sheet,
        payload_as_sent=None if faults.count or sink.keeps_records else content.payload_as_sent,
        bytes_read=bytes_read if content.list_bytes is None else content.list_bytes,
        fault_file=faults,
        file_name=content.file_name,
        id_type=lists.options.id_type or "integer",
        data_columns=sink.data_columns,
        columns_left_out=sink.columns_left_out,
    )


def _fields(content: BodyContent, allowed: frozenset[str], ignorable: frozenset[str]) -> Fields:
    names = list(content.values)
    return Fields(
        values={name: content.values[name] for name in names if name in allowed},
        payload_given=content.payload_given,
        payload_null=content.payload_null,
        ignored=tuple(name for name in names if name in ignorable and name not in allowed),
        unknown=tuple(name for name in names if name not in allowed and name not in ignorable),
    )


def _read_json(chunks: Iterator[bytes], media: MediaType, lists: ListReader) -> BodyContent:
    utf8 = as_utf8(chunks, lists.limits, must_be_utf16=media.is_utf16)
    with CopiedChunks(utf8, lists.folder) as copied:
        body = JsonBody(iter(copied), lists)
        body.read()
        if body.must_read_again:
            # A field after the payload says how the payload is to be read.
            lists.start_again()
            body = JsonBody(copied.again(lists.limits.block_bytes), lists)
            body.read()
    lists.format = "json"
    return BodyContent("json", body.fields, body.payload_given, body.payload_null, body.payload_as_sent)


def _read_raw(chunks: Iterator[bytes], media: MediaType, lists: ListReader) -> BodyContent:
    lists.read(ACCEPTED[media.type], chunks, media=media)
    return BodyContent(lists.format, {}, payload_given=True)


_READERS = {
    "json": _read_json,
    "text": _read_raw,
    "csv": _read_raw,
    "ndjson": _read_raw,
    "multipart": read_multipart,
    "urlencoded": read_urlencoded,
}
