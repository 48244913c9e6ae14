"""Reads a list of any format into a sink. Only this module knows which reader reads which format."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.csv_list import read_csv
from scheduling.parsing.media import MediaType, ending, file_format, is_table, refuse_binary
from scheduling.parsing.ndjson_list import read_ndjson
from scheduling.parsing.results import Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.streams import as_utf8, gunzip
from scheduling.parsing.text_list import read_text
from scheduling.parsing.xlsx_list import read_xlsx

HEAD_BYTES = 4096
# Formats whose reader may need to be told the column.
_WITH_COLUMNS = frozenset({"csv", "ndjson"})


class ListReader:
    """Reads the list of a body."""

    def __init__(
        self, *, sink: Sink, limits: Limits, folder: Path, leave_out_hidden: bool, sheet: str | None
    ) -> None:
        self.sink = sink
        self.limits = limits
        self._folder = folder
        self._leave_out_hidden = leave_out_hidden
        # A form may give it, as it may give the column.
        self.sheet = sheet
        self.format = ""

    def read(self, format: str, chunks: Iterator[bytes], *, column: str | None, media: MediaType) -> None:
        """Read text, csv or ndjson as it arrives."""
        self.format = format
        head, chunks = peeked(chunks)
        refuse_binary(head)
        utf8 = as_utf8(chunks, self.limits, must_be_utf16=media.is_utf16)
        if format == "text":
            read_text(utf8, self.sink, self.limits)
        elif format == "csv":
            read_csv(utf8, self.sink, self.limits, column=column)
        else:
            read_ndjson(utf8, self.sink, self.limits, column=column)

    def read_file(self, file: "UploadedFile", *, column: str | None) -> None:
        """Read a file that was kept until the column was known."""
        if file.format == "xlsx":
            self.format = "xlsx"
            read_xlsx(
                file.data,
                self.sink,
                self.limits,
                sheet=self.sheet,
                column=column,
                name=file.shown_name,
                leave_out_hidden=self._leave_out_hidden,
            )
        else:
            file.data.seek(0)
            chunks = iter(lambda: file.data.read(self.limits.block_bytes), b"")
            self.read(file.format, chunks, column=column, media=file.media)

    def receive_file(
        self, chunks: Iterator[bytes], *, name: str | None, media: MediaType, column: str | None
    ) -> "UploadedFile | None":
        """Read an uploaded file as it arrives, or keep it on disk and return it.

        A workbook is kept because it is read from its end, another table because a later field may name its
        column. The caller closes the file.
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
        if format == "text" and is_table(head, column=column):
            format = "csv"
        if format == "xlsx" or (format in _WITH_COLUMNS and column is None):
            return UploadedFile(format, chunks, name=name, media=media, folder=self._folder)
        self.read(format, chunks, column=column, media=media)
        return None


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


def peeked(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, and an iterator that yields all bytes including them."""
    kept: list[bytes] = []
    length = 0
    for chunk in chunks:
        kept.append(chunk)
        length += len(chunk)
        if length >= HEAD_BYTES:
            break
    head = b"".join(kept)

    def all_chunks() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head, all_chunks()
