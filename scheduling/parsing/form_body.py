"""Reads a form: short fields and one list, which may be a file or a payload and may come anywhere in the form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scheduling.parsing import errors
from scheduling.parsing.form_parts import Part, multipart_parts, urlencoded_parts
from scheduling.parsing.json_body import BYTES_SENT_BACK, TOKENS_SENT_BACK
from scheduling.parsing.list_reader import HEAD_BYTES, ListReader, UploadedFile, peeked
from scheduling.parsing.media import MediaType, is_table

LISTS = frozenset({"file", "payload"})


@dataclass
class BodyContent:
    """What a body contains besides the list."""

    format: str
    values: dict[str, Any]
    payload_given: bool
    payload_null: bool = False
    payload_as_sent: Any = None
    file_name: str | None = None
    # The size of the file or the payload alone, without the form around it.
    list_bytes: int | None = None
    payload_text: str | None = None

    def reusable_fields(self) -> dict[str, Any]:
        """Return what a page can fill in again if the list is refused: the fields and a short payload."""
        short = {} if self.payload_text is None else {"payload": self.payload_text}
        return self.values | short


def read_multipart(chunks: Iterator[bytes], media: MediaType, lists: ListReader) -> BodyContent:
    """Read multipart/form-data. If the fields that say how precede the file, it can be read as it arrives."""
    return _Form(lists).read(multipart_parts(chunks, media, lists.limits))


def read_urlencoded(chunks: Iterator[bytes], media: MediaType, lists: ListReader) -> BodyContent:
    """Read application/x-www-form-urlencoded. Its payload is plain text or a table with a header."""
    return _Form(lists).read(urlencoded_parts(chunks, lists.limits))


class _Form:
    def __init__(self, lists: ListReader) -> None:
        self._lists = lists
        self._content = BodyContent("", {}, payload_given=False)
        self._postponed_file: UploadedFile | None = None
        self._postponed_is_payload = False
        self._has_list = False
        self._fields_bytes = 0

    def read(self, parts: Iterator[Part]) -> BodyContent:
        """Read all parts, then the file if it had to wait for them."""
        try:
            for part in parts:
                if part.name in LISTS:
                    self._read_list(part)
                else:
                    self._read_field(part)
            if self._postponed_file is not None:
                self._lists.read_file(self._postponed_file)
                if self._postponed_is_payload:
                    self._keep_payload()
        except errors.ReadingError as error:
            error.fields_read = self._content.reusable_fields()
            raise
        finally:
            if self._postponed_file is not None:
                self._postponed_file.close()
        self._content.format = self._lists.format
        return self._content

    def _read_field(self, part: Part) -> None:
        value = part.text(self._lists.limits)
        self._fields_bytes += len(value)
        if self._fields_bytes > self._lists.limits.max_fields_bytes:
            raise errors.FieldsTooLong(limit=self._lists.limits.max_fields_bytes)
        self._content.values[part.name] = value
        self._lists.options.note(part.name, value)

    def _read_list(self, part: Part) -> None:
        head, chunks = peeked(part.chunks)
        if len(head) < HEAD_BYTES and not head.strip():
            # A browser also sends a file input without a file, and an empty text field.
            self._content.payload_given |= part.name == "payload" or bool(part.file_name)
            return
        if self._has_list:
            raise errors.BrokenForm(problem="file and payload both contain a list; send only one of them")
        self._has_list = self._content.payload_given = True
        part.media.check_charset()
        chunks = self._counted(chunks, keep=part.name == "payload")
        is_text = part.name == "payload" and part.file_name is None and part.media.type in ("", "text/plain")
        options = self._lists.options
        is_plain = is_text and not is_table(head, column=options.column)
        if is_plain and (options.is_complete or self._lists.reads_numbers("text")):
            self._read_payload(chunks, part.media)
            return
        if is_plain:
            self._postponed_file = self._lists.keep("text", chunks, media=part.media)
            self._postponed_is_payload = True
            return
        self._content.file_name = part.file_name
        self._postponed_file = self._lists.receive_file(chunks, name=part.file_name, media=part.media)

    def _counted(self, chunks: Iterator[bytes], *, keep: bool) -> Iterator[bytes]:
        """Pass the list on, count its bytes and keep the text of a short one."""
        self._content.list_bytes = 0
        content = bytearray()
        for chunk in chunks:
            self._content.list_bytes += len(chunk)
            keep = keep and self._content.list_bytes <= BYTES_SENT_BACK
            if keep:
                content += chunk
                self._content.payload_text = content.decode("utf-8", "replace")
            else:
                self._content.payload_text = None
            yield chunk

    def _read_payload(self, chunks: Iterator[bytes], media: MediaType) -> None:
        self._lists.read("text", chunks, media=media)
        self._keep_payload()

    def _keep_payload(self) -> None:
        if self._lists.sink.entries_count <= TOKENS_SENT_BACK:
            self._content.payload_as_sent = self._content.payload_text
