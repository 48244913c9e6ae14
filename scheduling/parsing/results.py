"""Plain values that every reader takes or returns: limits, faults, columns, sheets, fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
