"""Reads CSV as people export it: comma, semicolon or tab, `sep=` line, with or without header, quoted line ends.

Lines are physical lines of the file. `csv.reader` does not report a quote that is never closed: everything after
it becomes one cell. Only then does it read past the end, where it gets a line that we recognize in the cell.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import secrets
from _csv import Reader
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import NAMES, Table, is_blank, is_header, plain_name
from scheduling.parsing.data_columns import DataProblem, TableData
from scheduling.parsing.list_options import ListOptions, table_of
from scheduling.parsing.results import Column, Limits
from scheduling.parsing.sink import RecordSink, Sink
from scheduling.parsing.streams import Blocks, line_ends
from scheduling.parsing.text_list import plain_ids

DELIMITERS = (",", ";", "\t")
_SEP_LINE = re.compile(rb'"?sep=([^\r\n"0-9A-Za-z])"?[,;]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
# Delimiter, header and column are determined from this much of the file, and from at most this many rows.
_TOP_BYTES = 16 * 1024
_TOP_ROWS = 100
_CELLS_TRIED = 200
# The longest cell is as long as a row. `csv` keeps its own limit for the whole process.
csv.field_size_limit(2 * Limits.max_line_bytes)
# IDs that are taken as they are: visible ASCII, and numbers that fit.
_PLAIN_TEXT = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_PLAIN_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
# Inside a quoted cell a quote is doubled, so only one that is not, or an empty pair, may begin a cell. It may also
# end one, after a delimiter and a space.
_SPACE_BEFORE_QUOTE = re.compile(rb'(?:^|[,;\t\r\n]) +"(?:[^"]|"(?:[,;\t\r\n]|\Z))')
_END_MARK = secrets.token_hex(16)
_ONE_COLUMN = bytes.maketrans(b"\n", b",")


def read_csv(chunks: Iterable[bytes], sink: Sink, limits: Limits, options: ListOptions) -> None:
    """Read UTF-8 CSV into `sink`. Faults name the line and the number of the column, both from 1.

    Raises QuoteNeverClosed, LineTooLong, ColumnUnclear, ColumnUnknown.
    """
    blocks = Blocks(chunks, separators=b"\r\n", unit="row", limits=limits)
    top, rest = _top(iter(blocks))
    sep = _SEP_LINE.match(top)
    lines_before = 0
    if sep:
        top = top[sep.end() :]
        lines_before = 1
    delimiter = sep[1].decode() if sep else _delimiter(_lines(top[: _cut(top)]))
    table = _table(_lines(top[: _cut(top)]), delimiter, options)
    index = table.find(options.column)
    data = TableData(table, index, options.data)
    sink.data_columns, sink.columns_left_out = data.names, data.left_out
    sink.column = Column(index + 1, table.shown_name(index))
    if table.header:
        sink.warn("not_utf8", not _is_utf8(table.header))
        if index < len(table.header):
            sink.warn("trimmed", len(table.header[index]) != len(table.name(index)))
    rows = _Rows(chain([top] if top else [], rest), blocks, delimiter, limits, first_line=1 + lines_before)
    _Reader(rows, sink, table, index, data).read()


def _top(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    lines: list[bytes] = []
    for block in blocks:
        lines.append(block)
        if sum(map(len, lines)) >= _TOP_BYTES:
            break
    return b"".join(lines), blocks


def _cut(top: bytes) -> int:
    """Return where the examined part of the top ends, which does not depend on how the bytes arrived."""
    if len(top) <= _TOP_BYTES:
        return len(top)
    end = max(top.rfind(b"\n", 0, _TOP_BYTES), top.rfind(b"\r", 0, _TOP_BYTES)) + 1
    return end or len(top)


def _lines(block: bytes) -> str:
    text = _text(block)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _text(block: bytes) -> str:
    return block.decode("utf-8", "surrogateescape")


def _line_ends(cell: str) -> int:
    """Return how many lines end in a cell."""
    return cell.count("\n") + (cell.count("\r") - cell.count("\r\n") if "\r" in cell else 0)


@cache
def _cell(delimiter: str) -> re.Pattern[bytes]:
    """A cell with what precedes it; the first group and the second one are all but the spaces before its quote."""
    ends = re.escape(delimiter.encode()) + rb"\r\n"
    quoted = rb'"(?:[^"]++|"")*+(?:"[^%b]*+)?' % ends
    return re.compile(rb'(\A|[%b])(?: +(?="))?(%b|[^%b]*+)' % (ends, quoted, ends))


def _table(text: str, delimiter: str, options: ListOptions) -> Table:
    return table_of(_top_rows(text, delimiter), options)


def _top_rows(text: str, delimiter: str) -> list[list[str]]:
    """Return the first rows that are not blank, up to a cell that is too long."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        lines = io.StringIO(text, newline="\n")
        rows += islice(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), _TOP_ROWS)
    return [row for row in rows if not is_blank(row)]


def _delimiter(text: str) -> str:
    """Return the delimiter that yields IDs and gives all rows the same width.

    There may be several if a cell contains another delimiter, as in `90001;12,50`. Then the delimiter wins by
    which a column is named id or user_id; or whose cells contain the others only in numbers; or by which the
    first ID comes earliest; or which makes the most columns.
    """
    best: str = ","
    best_rank: tuple[bool | float, ...] = (False,)
    for delimiter in DELIMITERS:
        rows = _top_rows(text, delimiter)
        if not rows or len(rows[0]) == 1:
            continue
        rank = _rank(rows, "".join(set(DELIMITERS) - {delimiter}))
        if rank > best_rank:
            best, best_rank = delimiter, rank
    return best


def _rank(rows: list[list[str]], others: str) -> tuple[bool | float, ...]:
    # The last row may end in the middle of a quoted cell.
    widths = set(map(len, rows[:-1] if len(rows) > 2 else rows))
    has_header = is_header(rows[0])
    named = has_header and any(plain_name(cell) in NAMES for cell in rows[0])
    sample = [row[:_CELLS_TRIED] for row in rows[has_header:]]
    firsts = [_first_id(row) for row in sample]
    clean = not any(
        mark in cell and not id_tokens.looks_like_a_number(cell)
        for row in sample
        for cell in row
        for mark in others
    )
    positions = [at for at in firsts if at is not None]
    mean = sum(positions) / len(positions) if positions else 0
    return bool(positions), named, len(widths) == 1, clean, -mean, len(rows[0])


def _first_id(row: list[str]) -> int | None:
    """Return how many characters of the row precede its first ID, or None if it has no ID."""
    characters = 0
    for cell in row:
        if id_tokens.is_id(cell):
            return characters
        characters += len(cell) + 1
    return None


class _Rows:
    """Yields the rows of a file in batches, and knows the physical line in which each batch begins."""

    def __init__(
        self, source: Iterator[bytes], blocks: Blocks, delimiter: str, limits: Limits, *, first_line: int
    ) -> None:
        self._source = source
        self._blocks = blocks
        self._limits = limits
        self._fed: list[io.StringIO] = []
        self._fed_lines = 0
        self._fed_in_row = 0
        self._ended = False
        # The line after the last row that was read.
        self.line = first_line
        self.lines_in_batch = 0
        self.damaged = False
        self._delimiter = delimiter
        self._reader: Reader = csv.reader(self._feed(), delimiter=delimiter)

    def next_block(self) -> bytes | None:
        """Return the next block, or None. The caller reads it or passes it to `rows`. No row is open."""
        block = next(self._source, None)
        if block is None:
            self._ended = True
        return block

    def pass_lines(self, count: int) -> None:
        """Count the lines of a block that the caller has read."""
        self.line += count
        self._blocks.line = self.line

    def rows(self, block: bytes) -> Iterator[list[list[str]]]:
        """Yield the rows of `block` in batches. The last row may extend into the next blocks."""
        quoted = b'"' in block
        self._give(self._without_spaces(block) if quoted else block, is_quoted=quoted)
        while self._reader.line_num < self._fed_lines:
            self._fed_in_row = 0
            before = self._reader.line_num
            self._read_batch(quoted)
            self.lines_in_batch = self._reader.line_num - before
            yield self._batch
            self.pass_lines(self.lines_in_batch)

    def _read_batch(self, quoted: bool) -> None:
        self._batch: list[list[str]] = []
        try:
            if not quoted:
                self._batch += islice(self._reader, self._fed_lines - self._reader.line_num)
                return
            for row in self._reader:
                self._batch.append(row)
                if self._reader.line_num >= self._fed_lines:
                    break
        except csv.Error as error:
            # "field larger than field limit": some other code of this process has lowered the limit.
            limit = csv.field_size_limit()
            raise errors.LineTooLong(line=self._line_of_row(), what="cell", limit=limit) from error
        last = self._batch[-1] if self._batch else []
        if self._ended and last and last[-1].endswith(_END_MARK + "\n"):
            self._batch.pop()
            inside = sum(map(_line_ends, last[:-1]))
            raise errors.QuoteNeverClosed(line=self._line_of_row() + inside)

    def _line_of_row(self) -> int:
        """Return the line in which the row after the batch begins."""
        return self.line + sum(1 + sum(map(_line_ends, row)) for row in self._batch)

    def _without_spaces(self, block: bytes, *, is_open: bool = False) -> bytes:
        """Leave out spaces before quotes that begin a cell: such a quote would be a character of its cell.

        is_open: the block begins inside a quoted cell.
        """
        if not _SPACE_BEFORE_QUOTE.search(block):
            return block
        opened = b'"' + block if is_open else block
        return _cell(self._delimiter).sub(rb"\1\2", opened)[is_open:]

    def _give(self, block: bytes, *, is_quoted: bool) -> None:
        try:
            block.decode()
            self.damaged = False
        except UnicodeDecodeError:
            self.damaged = True
        # Inside a quoted cell, a line end is a part of the data; elsewhere all are alike, and LF is read fastest.
        lines = (
            io.StringIO(_text(block), newline="") if is_quoted else io.StringIO(_lines(block), newline="\n")
        )
        self._fed.append(lines)
        self._fed_lines += line_ends(block) + (not block.endswith((b"\n", b"\r")))

    def _feed(self) -> Iterator[str]:
        """Yield lines to csv.reader. It asks for more than one block only while a quoted cell is open."""
        while True:
            if not self._fed:
                block = self.next_block()
                if block is None:
                    yield _END_MARK + "\n"
                    return
                self._fed_in_row += len(block)
                limit = self._limits.max_line_bytes
                if self._fed_in_row > limit:
                    raise errors.QuotedCellTooLong(line=self._line_of_row(), limit=limit)
                self._give(self._without_spaces(block, is_open=True), is_quoted=True)
            yield from self._fed.pop()


class _Reader:
    """Takes the ID column out of the rows."""

    def __init__(self, rows: _Rows, sink: Sink, table: Table, index: int, data: TableData) -> None:
        self._rows = rows
        self._sink = sink
        self._index = index
        self._data = data
        self._width = table.width
        self._named = table.header is not None
        self._empty = table.empty_reason(index)
        self._header_is_due = table.header is not None

    def read(self) -> None:
        """Read all rows."""
        while (block := self._rows.next_block()) is not None:
            is_column = self._width == 1 and not self._sink.keeps_records
            if is_column and not self._header_is_due and self._read_block(block):
                continue
            for batch in self._rows.rows(block):
                if self._header_is_due or self._rows.damaged or not self._read_batch(batch):
                    self._read_carefully(batch)

    def _read_block(self, block: bytes) -> bool:
        """Read a block of a file with only one column, which is almost plain text. Returns whether it could."""
        lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block
        count = lines.count(b"\n") + (not lines.endswith(b"\n"))
        plain = plain_ids(lines.removesuffix(b"\n").translate(_ONE_COLUMN))
        if plain is None or len(plain[0]) != count:
            return False
        self._take(plain)
        self._rows.pass_lines(count)
        return True

    def _read_batch(self, batch: list[list[str]]) -> bool:
        """Read rows that are not too wide and have a plain ID each. Returns whether it could."""
        has_long_cells = self._rows.lines_in_batch != len(batch)
        if has_long_cells or max(map(len, batch), default=0) > self._width:
            return False
        index = self._index
        try:
            cells = [row[index] for row in batch]
        except IndexError:
            return False
        if isinstance(self._sink, RecordSink):
            return self._read_records(self._sink, cells, batch)
        joined = ",".join(cells)
        plain = plain_ids(joined.encode()) if joined.isascii() else None
        if plain is None or len(plain[0]) != len(batch):
            return False
        self._take(plain)
        return True

    def _read_records(self, sink: RecordSink, cells: list[str], batch: list[list[str]]) -> bool:
        """Read rows with plain IDs, whose data are short enough. Returns whether it could."""
        pattern = _PLAIN_TEXT if sink.is_text else _PLAIN_NUMBER
        if not all(map(pattern.fullmatch, cells)):
            return False
        try:
            data = self._data.pack_all(batch) if self._data.names and batch else []
        except DataProblem:
            return False
        if max(map(len, data), default=0) > sink.limits.data_max_bytes:
            return False
        sink.take_records(cells, data)
        return True

    def _take(self, plain: tuple[array[int], int]) -> None:
        self._sink.take(plain[0])
        self._sink.warn("leading_zeros", plain[1])

    def _read_carefully(self, batch: list[list[str]]) -> None:
        if not any(batch):
            # Blank lines, of which a few kilobytes of gzip contain millions.
            self._sink.warn("blank_rows", len(batch))
            return
        line = self._rows.line
        ids = array("q")
        for row in batch:
            line_ends_in_row = sum(map(_line_ends, row))
            self._sink.warn("multi_line_cells", line_ends_in_row > 0)
            if is_blank(row):
                self._sink.warn("blank_rows")
            elif self._header_is_due:
                self._header_is_due = False
            else:
                self._read_row(row, line, ids)
            line += 1 + line_ends_in_row
        self._sink.take(ids)

    def _read_row(self, row: list[str], line: int, ids: array[int]) -> None:
        index = self._index
        extra = row[self._width :]
        if not is_blank(extra):
            first = "the header" if self._named else "the first row"
            reason = (
                f"The row has {len(row)} cells, but {first} has {self._width}. "
                "Put quotes around a cell that contains the delimiter."
            )
            self._sink.fault(" | ".join(row[index:]), reason, line=line, column=self._width + 1)
            return
        cell = row[index] if index < len(row) else ""
        line += sum(map(_line_ends, row[:index]))
        place = {"line": line, "column": index + 1}
        self._sink.token(cell, ids, empty=self._empty, data=lambda: self._data.pack(row), **place)
        if self._rows.damaged and not _is_utf8(row[:index] + row[index + 1 :]):
            self._sink.warn("not_utf8")


def _is_utf8(cells: Iterable[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True
