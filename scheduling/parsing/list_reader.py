"""Reads a list of any format into a sink. Only this module knows which reader reads which format."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scheduling.core import id_tokens
from scheduling.core.closing import Closing
from scheduling.parsing import errors
from scheduling.parsing.csv_list import read_csv
from scheduling.parsing.list_options import ListOptions
from scheduling.parsing.media import MediaType, ending, file_format, is_table, refuse_binary
from scheduling.parsing.ndjson_list import read_ndjson
from scheduling.parsing.results import Limits
from scheduling.parsing.sink import RecordSink, Sink
from scheduling.parsing.streams import as_utf8, gunzip
from scheduling.parsing.text_list import read_text
from scheduling.parsing.xlsx_list import read_xlsx

HEAD_BYTES = 4096
_COPY_IN_MEMORY = 1024 * 1024
# Formats whose reader may need to be told the column.
_WITH_COLUMNS = frozenset({"csv", "ndjson"})


class ListReader:
    """Reads the list of a body."""

    def __init__(self, options: ListOptions, *, limits: Limits, folder: Path, keeps_going: bool) -> None:
        self.options = options
        self.limits = limits
        self.folder = folder
        self._keeps_going = keeps_going
        self._sink: Sink | None = None
        self.format = ""

    @property
    def sink(self) -> Sink:
        """Where the list goes. Which kind it is depends on the options when it is first needed."""
        if self._sink is None:
            options = self.options
            if options.has_records:
                self._sink = RecordSink(
                    limits=self.limits,
                    folder=self.folder,
                    keeps_going=self._keeps_going,
                    is_text=options.is_text,
                    has_data=options.data is not None,
                )
            else:
                self._sink = Sink(limits=self.limits, folder=self.folder, keeps_going=self._keeps_going)
        return self._sink

    def start_again(self) -> None:
        """Drop what was read, because a later field says how the list is to be read."""
        self.close()
        self._sink = None

    def close(self) -> None:
        """Delete the temporary files."""
        if self._sink is not None:
            self._sink.close()

    def read(self, format: str, chunks: Iterator[bytes], *, media: MediaType) -> None:
        """Read text, csv or ndjson as it arrives."""
        self.format = format
        head, chunks = peeked(chunks)
        refuse_binary(head)
        utf8 = as_utf8(chunks, self.limits, must_be_utf16=media.is_utf16)
        if format == "text":
            self.refuse_column_options()
            read_text(utf8, self.sink, self.limits, one_per_line=self.options.is_text)
        elif format == "csv":
            read_csv(utf8, self.sink, self.limits, self.options)
        else:
            read_ndjson(utf8, self.sink, self.limits, self.options)

    def refuse_column_options(self) -> None:
        """Raise DataUnclear, or HeaderOfText, if data or a header are expected of a list that has no columns."""
        if self.options.header:
            raise errors.HeaderOfText
        if self.options.data is not None:
            raise errors.DataUnclear(
                problem="plain text has no columns; send CSV, NDJSON or a JSON array of objects"
            )

    def read_file(self, file: "UploadedFile") -> None:
        """Read a file that was kept until the options were known."""
        if file.format == "xlsx":
            self.format = "xlsx"
            read_xlsx(file.data, self.sink, self.limits, self.options, name=file.shown_name)
        else:
            file.data.seek(0)
            chunks = iter(lambda: file.data.read(self.limits.block_bytes), b"")
            self.read(file.format, chunks, media=file.media)

    def receive_file(
        self, chunks: Iterator[bytes], *, name: str | None, media: MediaType
    ) -> "UploadedFile | None":
        """Read an uploaded file as it arrives, or keep it on disk and return it.

        A workbook is kept because it is read from its end, another list because a later field may say how it is to
        be read. The caller closes the file.
        """
        head, chunks = peeked(chunks)
        format = file_format(head, name, media)
        if format == "gzip":
            name = name[: -len(".gz")] if name and ending(name) == "gz" else name
            head, chunks = peeked(gunzip(chunks, self.limits))
            format = file_format(head, name, MediaType("", media.parameters, media.shown))
            if format == "gzip":
                raise errors.FileNotAccepted(
                    name=id_tokens.visible(name or "", 80) or "without a name",
                    problem="is a gzip file inside a gzip file",
                )
        if format == "text" and is_table(head, column=self.options.column):
            format = "csv"
        if format != "xlsx" and (self.options.is_complete or self.reads_numbers(format)):
            self.read(format, chunks, media=media)
            return None
        return UploadedFile(format, chunks, name=name, media=media, folder=self.folder)

    def keep(self, format: str, chunks: Iterator[bytes], *, media: MediaType) -> "UploadedFile":
        """Keep a list on disk until the options are known."""
        return UploadedFile(format, chunks, name=None, media=media, folder=self.folder)

    def reads_numbers(self, format: str) -> bool:
        """Return whether a list of this format is read the same whatever a later field says."""
        may_be_records = not self.options.accepted.isdisjoint({"id_type", "data"})
        return not may_be_records and (format not in _WITH_COLUMNS or self.options.column is not None)


class UploadedFile:
    """A temporary file that is deleted when it is closed."""

    def __init__(
        self, format: str, chunks: Iterator[bytes], *, name: str | None, media: MediaType, folder: Path
    ) -> None:
        self.format = format
        self.media = media
        self.shown_name = name or "without a name"
        with errors.disk():
            self.data: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            for chunk in chunks:
                with errors.disk():
                    self.data.write(chunk)
            with errors.disk():
                self.data.flush()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the disk space."""
        errors.close_quietly(self.data)


class CopiedChunks(Closing):
    """Chunks that are copied as they are read, so that they can be read again. May raise NoSpace."""

    def __init__(self, chunks: Iterator[bytes], folder: Path) -> None:
        self._chunks = chunks
        self._copy = tempfile.SpooledTemporaryFile(_COPY_IN_MEMORY, dir=str(folder))  # noqa: SIM115

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            with errors.disk():
                self._copy.write(chunk)
            yield chunk

    def again(self, size: int) -> Iterator[bytes]:
        """Yield all bytes once more, in chunks of `size`."""
        with errors.disk():
            self._copy.seek(0)
        return iter(lambda: self._copy.read(size), b"")

    def close(self) -> None:
        """Release the disk space."""
        errors.close_quietly(self._copy)


def peeked(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, and an iterator that yields all bytes including them."""
    first_chunks: list[bytes] = []
    length = 0
    for chunk in chunks:
        first_chunks.append(chunk)
        length += len(chunk)
        if length >= HEAD_BYTES:
            break
    head = b"".join(first_chunks)

    def all_chunks() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head, all_chunks()
