"""Plain values that every reader takes or returns: limits, faults, columns, sheets, fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scheduling.core import id_tokens

FAULTS_SHOWN = 20

# Each kind of warning, and what its number counts.
WARNINGS = {
    "trimmed": "Entries whose outer spaces or invisible characters were trimmed",
    "leading_zeros": "IDs whose leading zeros were ignored",
    "past_2_53": "Numbers of 2^53 or more, which JavaScript may have rounded (send them as strings)",
    "blank_rows": "Blank rows, which were skipped",
    "hidden_rows": "Rows hidden in the sheet, whose IDs are included",
    "hidden_rows_left_out": "Rows hidden in the sheet, which were left out",
    "formulas": "Cells with a formula, whose stored result was read",
    "repeats_differ": "Repeats whose data differ from those of the first occurrence, which were ignored",
    "data_missing": "Requested columns that no object of the list has",
    "only_numbers": "IDs that are text and contain nothing but digits: they are not the numbers that look the same",
    "multi_line_cells": "Rows with line breaks inside quoted cells",
    "not_utf8": "Rows with bytes that are not UTF-8, but not in an ID",
    "unknown_fields": "Unknown fields, which were ignored",
}


@dataclass(frozen=True)
class Limits:
    """How much is read. Bytes are counted as they arrive, and again after unpacking."""

    max_ids: int = 10_000_000
    max_body_bytes: int = 512 * 1024 * 1024
    # One token of plain text, one row of CSV, one line of NDJSON.
    max_line_bytes: int = 1024 * 1024
    max_field_bytes: int = 256 * 1024
    # All short fields of a body together.
    max_fields_bytes: int = 1024 * 1024
    max_fields: int = 200
    # An ordinary file has one. Programs that compress in blocks (bgzip) write one per 64 KiB.
    max_gzip_members: int = 20_000
    max_json_depth: int = 32
    # The compact JSON that travels with an ID.
    data_max_bytes: int = 4 * 1024
    max_faults_kept: int = 100_000
    # Lists longer than this are kept on disk.
    ids_in_memory: int = 200_000
    # How much is parsed at once. Only tests have a reason to change it.
    block_bytes: int = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """An entry that is not an ID.

    line, column: counted from 1. In text the column is that of the character, in CSV and XLSX that of the table.
    index: the position in a JSON array, counted from 0. token: visible, at most 40 characters. cell: in a
    sheet, `A6` for example. reason: a sentence that can stand alone.
    """

    line: int | None
    column: int | None
    index: int | None
    token: str
    reason: str
    sheet: str | None = None
    cell: str | None = None

    @property
    def place(self) -> str:
        """Where it is, as a sentence begins: "Line 3, column 1"."""
        if self.cell:
            return f"Cell {self.cell}"
        if self.line is None:
            return f"Item {self.index}"
        return f"Line {self.line:,}" + (f", column {self.column:,}" if self.column else "")

    @property
    def sentence(self) -> str:
        """The refusal with its place: "Line 3, column 1: 0 is not allowed: IDs begin at 1."."""
        return f"{self.place}: {id_tokens.refusal(self.token, self.reason)}"


class Choice(NamedTuple):
    """A column or sheet that may be meant: its number from 1, its name, its first values."""

    number: int
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """The column that was read: its number from 1 (None for NDJSON) and its header, if it has one."""

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
    """The fields of the body other than the list: strings from a form, JSON values from JSON."""

    values: Mapping[str, Any] = field(default_factory=dict)
    payload_given: bool = False
    payload_null: bool = False
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
