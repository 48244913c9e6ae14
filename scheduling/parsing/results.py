"""What goes into a reading and what comes out: limits, fields, faults, the column, the reading itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scheduling.parsing.sink import FaultFile
    from scheduling.parsing.spool import Spool

FAULTS_SHOWN = 20

# The kinds of warnings, each with its sentence.
WARNINGS = {
    "trimmed": "blanks or invisible characters were trimmed",
    "leading_zeros": "leading zeros were read past",
    "past_2_53": "numbers from 2^53 on may be rounded already by JavaScript: send them as strings",
    "blank_rows": "blank rows were passed over",
    "hidden_rows": "rows hidden in the sheet are among the IDs",
    "hidden_rows_left_out": "rows hidden in the sheet were left out",
    "multi_line_cells": "quoted cells go over several lines",
    "not_utf8": "rows have bytes that are not UTF-8 outside the column of the IDs",
    "unknown_fields": "fields are not known and were passed over",
}


@dataclass(frozen=True)
class Limits:
    """How much is read. Bytes are counted on the wire and again as they come out of gzip."""

    max_ids: int = 10_000_000
    max_body_bytes: int = 512 * 1024 * 1024
    # One token of plain text, one row of CSV, one line of NDJSON.
    max_line_bytes: int = 1024 * 1024
    max_field_bytes: int = 256 * 1024
    max_fields: int = 200
    max_json_depth: int = 32
    max_faults_kept: int = 100_000
    # Longer lists go to disk.
    ids_in_memory: int = 200_000
    # What is parsed at once. Only tests have a reason to change it.
    block_bytes: int = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """A place that holds no ID.

    line, column: counted from 1; in text the column is the character, in CSV and XLSX that of the table.
    index: counted from 0, in a JSON array. token: visible, at most 40 characters. cell: as `A6`, in a sheet.
    """

    line: int | None
    column: int | None
    index: int | None
    token: str
    reason: str
    sheet: str | None = None
    cell: str | None = None


class Choice(NamedTuple):
    """A column that could be meant: its number from 1, its name, its first values."""

    number: int
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """The column that was read: its number from 1 (None for NDJSON), and its header as it stands, or None."""

    number: int | None
    name: str | None


@dataclass(frozen=True)
class Sheet:
    """The sheet that was read, the names of the others, and how many of its rows with an ID are hidden."""

    name: str
    others: tuple[str, ...]
    hidden_rows_count: int


@dataclass(frozen=True)
class Fields:
    """The other fields of the body, as they were given: strings from a form, JSON values from JSON."""

    values: Mapping[str, Any] = field(default_factory=dict)
    payload_given: bool = False
    payload_null: bool = False
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A body, read. Close it when its IDs are stored: it holds files that have no name.

    faults: the first 20; `all_faults()` gives as many as are kept. warnings: kind (of WARNINGS) to count.
    payload_as_sent: the payload itself where a JSON or form payload has at most 1,000 tokens and no faults.
    spool: None if there was no payload and none was needed. bytes_read: of the file or the payload as it came,
    without the form around it.
    """

    format: str
    fields: Fields
    spool: Spool | None
    faults: tuple[Fault, ...]
    fault_count: int
    warnings: Mapping[str, int]
    column: Column | None
    sheet: Sheet | None
    payload_as_sent: Any
    bytes_read: int
    fault_file: FaultFile
    file_name: str | None = None

    @property
    def ids_count(self) -> int:
        """How many different IDs there are."""
        return self.spool.ids_count if self.spool else 0

    @property
    def repeats_count(self) -> int:
        """How many tokens repeat an ID that came before."""
        return self.spool.repeats_count if self.spool else 0

    @property
    def digest(self) -> str:
        """Fingerprint of the list as it was sent, faults too: the same however the bytes were wrapped."""
        return self.fault_file.digest(self.spool.digest if self.spool else "")

    def all_faults(self) -> Iterator[Fault]:
        """Yield the faults that are kept, up to the limit, in order."""
        return self.fault_file.faults()

    def close(self) -> None:
        """Delete what is on disk. May be called again."""
        if self.spool:
            self.spool.close()
        self.fault_file.close()

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
