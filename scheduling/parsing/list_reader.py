"""One list of any format into a sink: the one place that knows which reader reads what."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scheduling.parsing import errors
from scheduling.parsing.csv_list import read_csv
from scheduling.parsing.media import MediaType, ending, file_format, is_table
from scheduling.parsing.ndjson_list import read_ndjson
from scheduling.parsing.results import Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.streams import as_utf8, gunzip
from scheduling.parsing.text_list import read_text
from scheduling.parsing.xlsx_list import read_xlsx

HEAD_BYTES = 4096
# Formats in which a column may have to be named.
_WITH_COLUMNS = frozenset({"csv", "ndjson"})


class ListReader:
    """Reads the one list of a body."""

    def __init__(self, *, sink: Sink, limits: Limits, folder: Path, leave_out_hidden: bool) -> None:
        self.sink = sink
        self.limits = limits
        self._folder = folder
        self._leave_out_hidden = leave_out_hidden
        self.format = ""

    def read(self, format: str, chunks: Iterator[bytes], *, column: str | None, media: MediaType) -> None:
        """Read text, csv or ndjson as it comes."""
        self.format = format
        utf8 = as_utf8(chunks, self.limits, must_be_utf16=media.is_utf16)
        if format == "text":
            read_text(utf8, self.sink, self.limits)
        elif format == "csv":
            read_csv(utf8, self.sink, self.limits, column=column)
        else:
            read_ndjson(utf8, self.sink, self.limits, column=column)

    def read_file(self, file: "UploadedFile", *, column: str | None) -> None:
        """Read a file that was set aside."""
        if file.format == "xlsx":
            self.format = "xlsx"
            read_xlsx(
                file.data,
                self.sink,
                self.limits,
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
        """Read an upload's file as it comes, or set it aside: a workbook, or if a column may yet be named.

        Returns what was set aside; the caller closes it.
        """
        head, chunks = peeked(chunks)
        format = file_format(head, name, media)
        if format == "gzip":
            name = name[: -len(".gz")] if name and ending(name) == "gz" else name
            head, chunks = peeked(gunzip(chunks, self.limits))
            format = file_format(head, name, MediaType("", media.parameters, media.shown))
            if format == "gzip":
                raise errors.FileNotAccepted(name=name or "without a name", what="gzip in gzip")
        if format == "text" and is_table(head, column=column):
            format = "csv"
        if format == "xlsx" or (format in _WITH_COLUMNS and column is None):
            return UploadedFile(format, chunks, name=name, media=media, folder=self._folder)
        self.read(format, chunks, column=column, media=media)
        return None


class UploadedFile:
    """A file on disk without a name, deleted when it is closed."""

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
        """Give the disk space back."""
        errors.close_quietly(self.data)


def peeked(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all of them once more."""
    kept: list[bytes] = []
    length = 0
    for chunk in chunks:
        kept.append(chunk)
        length += len(chunk)
        if length >= HEAD_BYTES:
            break
    head = b"".join(kept)

    def again() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head, again()
