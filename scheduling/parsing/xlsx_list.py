"""Reads the first visible sheet of an XLSX file, row by row. The type of a cell counts, not how it is displayed.

Excel keeps 15 digits of a number, so a longer ID is already damaged in the file. A truth value, a date, an error
value, a formula without a result and a fraction are faults, never IDs and never empty rows.
"""

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import MOST_COLUMNS, Table, is_header
from scheduling.parsing.results import Column, Limits, Sheet
from scheduling.parsing.sink import Sink
from scheduling.parsing.text_list import plain_ids
from scheduling.parsing.workbook import Workbook, Xml

EXACT_BELOW = 10**15
_TOP_ROWS = 100
_VALUE_CHARACTERS = 400
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+\-]?[0-9]{1,3})?")
_REFERENCE = re.compile(r"([A-Z]{1,3})[0-9]*")
_FIRST_DAY = datetime(1899, 12, 30)  # noqa: DTZ001 a sheet's dates have no zone
_ROW_END = b"</row>"
# Row number, style, value.
_PLAIN_CELL = '<c r="{}([0-9]{{1,7}})"(?: s="([0-9]{{1,6}})")?(?: t="n")?><v>([1-9][0-9]{{0,14}})</v></c>'
_HAS_TEXT = frozenset({"s", "str", "inlineStr"})


@dataclass(slots=True)
class Cell:
    """A cell as stored in the file. kind: its attribute `t`. value: as it is spelled."""

    kind: str
    style: str
    value: str = ""
    has_formula: bool = False
    has_value: bool = False


@dataclass(slots=True)
class Row:
    """A row. number: from 1. cells: by column, from 0."""

    number: int
    hidden: bool
    cells: dict[int, Cell] = field(default_factory=dict)


def read_xlsx(
    data: Any, sink: Sink, limits: Limits, *, column: str | None, name: str, leave_out_hidden: bool
) -> None:
    """Read the first visible sheet of `data`, a seekable file. Faults name sheet, cell, line and column.

    Raises BrokenWorkbook, FileNotAccepted, FilePasswordProtected, BodyTooLarge, ColumnUnclear, ColumnUnknown.
    """
    workbook = Workbook(data, name=id_tokens.visible(name, 80), limits=limits)
    part = next((sheet for sheet in workbook.sheets if sheet.is_visible), None)
    if part is None:
        raise errors.BrokenWorkbook(problem="it has no visible sheet")
    reader = _Reader(workbook, sink, id_tokens.visible(part.name), column, leave_out_hidden)
    reader.read(_Rows(workbook, part.path))
    others = tuple(id_tokens.visible(sheet.name) for sheet in workbook.sheets if sheet is not part)
    sink.sheet = Sheet(id_tokens.visible(part.name), others, reader.hidden_count)


class _Rows:
    """Yields the rows of a sheet that have cells, except those that `plain` reads.

    plain: is given a block of whole rows as XML, and returns the number of the last row if it has read them all,
    else None.
    """

    def __init__(self, workbook: Workbook, path: str) -> None:
        self._pieces = workbook.pieces(path)
        self._parser = _SheetParser()
        self._xml = Xml(path, start=self._parser.start, end=self._parser.end, text=self._parser.text)
        self.plain: Callable[[bytes], int | None] = lambda block: None

    def __iter__(self) -> Iterator[Row]:
        # A comment may contain text that looks like rows.
        has_comments = between_rows = False
        for block in self._blocks():
            has_comments = has_comments or b"<!" in block
            last = self.plain(block) if between_rows and not has_comments else None
            between_rows = block.endswith(_ROW_END)
            if last is not None:
                self._parser.passed(last)
                continue
            self._xml.feed(block)
            yield from self._parser.take()
        self._xml.finish()
        yield from self._parser.take()

    def _blocks(self) -> Iterator[bytes]:
        """Yield pieces that end after a row, if they contain the end of a row."""
        rest = b""
        for piece in self._pieces:
            data = rest + piece
            cut = data.rfind(_ROW_END)
            cut = len(data) if cut < 0 else cut + len(_ROW_END)
            rest = data[cut:]
            yield data[:cut]
        if rest:
            yield rest


class _SheetParser:
    """Builds rows from the events of the XML parser."""

    def __init__(self) -> None:
        self._done: list[Row] = []
        self._row = Row(0, False)
        self._cell: Cell | None = None
        self._column = -1
        self._takes = False
        self._reading_aid = False
        self._columns: dict[str, int] = {}

    def start(self, tag: str, facts: dict[str, str]) -> None:
        if tag == "c":
            self._column = self._column_of(facts.get("r"))
            if len(self._row.cells) >= MOST_COLUMNS or self._column >= MOST_COLUMNS:
                raise errors.BrokenWorkbook(problem="a row has more cells than Excel allows")
            self._cell = Cell(facts.get("t", "n"), facts.get("s", ""))
        elif tag == "row":
            number = facts.get("r", "")
            follows = self._row.number + 1
            given = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else follows
            self._row = Row(given, facts.get("hidden") in ("1", "true"))
            self._column = -1
        elif self._cell is not None:
            if tag == "v" or (tag == "t" and not self._reading_aid):
                self._takes = self._cell.has_value = True
            elif tag == "f":
                self._cell.has_formula = True
            elif tag == "rPh":
                self._reading_aid = True

    def text(self, text: str) -> None:
        if self._takes and self._cell is not None and len(self._cell.value) < _VALUE_CHARACTERS:
            self._cell.value += text

    def end(self, tag: str) -> None:
        self._takes = False
        if tag == "c" and self._cell is not None:
            # A cell that only has a colour is ignored.
            if self._cell.has_value or self._cell.has_formula:
                self._row.cells[self._column] = self._cell
            self._cell = None
        elif tag == "row":
            if self._row.cells:
                self._done.append(self._row)
        elif tag == "rPh":
            self._reading_aid = False

    def take(self) -> list[Row]:
        """Return the rows that are complete, each once."""
        done, self._done = self._done, []
        return done

    def passed(self, number: int) -> None:
        """Continue after this row, which was read elsewhere."""
        self._row = Row(number, False)

    def _column_of(self, reference: str | None) -> int:
        match = _REFERENCE.match(reference or "")
        if match is None:
            return self._column + 1
        letters = match[1]
        if letters not in self._columns:
            number = 0
            for letter in letters:
                number = number * 26 + ord(letter) - 64
            self._columns[letters] = number - 1
        return self._columns[letters]


class _Reader:
    """Takes the ID column out of the rows."""

    def __init__(
        self, workbook: Workbook, sink: Sink, sheet: str, column: str | None, leave_out_hidden: bool
    ) -> None:
        self._texts = workbook.texts()
        self._dates = frozenset(map(str, workbook.date_styles()))
        self._sink = sink
        self._sheet = sheet
        self._asked = column
        self._leave_out_hidden = leave_out_hidden
        self._index = 0
        self._empty = ""
        self._found = array("q")
        self._last_number = 0
        self.hidden_count = 0

    def read(self, rows: _Rows) -> None:
        """Read all rows that are not blank."""
        used = (row for row in rows if self._holds_something(row))
        top: list[Row] = []
        for row in used:
            top.append(row)
            if len(top) > _TOP_ROWS:
                break
        has_header = self._choose(top)
        rows.plain = self._read_block
        for row in chain(top, used):
            # Only blank rows between others count. Those after the last are just the size of the sheet.
            self._sink.warn("blank_rows", max(0, row.number - self._last_number - 1))
            self._last_number = row.number
            if has_header:
                has_header = False
            else:
                self._read_row(row)
            if len(self._found) >= 4096:
                self._take()
        self._take()

    def _read_block(self, block: bytes) -> int | None:
        """Read consecutive rows that each have a plain number in the ID column, ten times as fast as by cell.

        Returns the number of the last row, or None if there is anything else in the block.
        """
        found = self._plain_cell.findall(block)
        if not found or len(found) != block.count(_ROW_END) or b"hidden" in block:
            return None
        numbers, styles, values = zip(*found, strict=True)
        first, last = int(numbers[0]), int(numbers[-1])
        consecutive = last - first + 1 == len(found) == len(set(numbers))
        if not consecutive or first != self._last_number + 1:
            return None
        plain = plain_ids(b",".join(values))
        if plain is None or not self._dates.isdisjoint(style.decode() for style in set(styles)):
            return None
        self._take()
        self._sink.take(plain[0])
        self._last_number = last
        return last

    def _take(self) -> None:
        self._sink.take(self._found)
        self._found = array("q")

    def _holds_something(self, row: Row) -> bool:
        return any(
            cell.has_formula or self._text(cell).strip(id_tokens.TRIMMED) for cell in row.cells.values()
        )

    def _choose(self, top: list[Row]) -> bool:
        """Find the ID column by the first rows. Returns whether the first of them is a header."""
        width = max((max(row.cells) + 1 for row in top), default=1)
        rows = [[self._text(row.cells[n]) if n in row.cells else "" for n in range(width)] for row in top]
        has_header = bool(rows) and is_header(rows[0])
        table = Table(rows[0], rows[1:]) if has_header else Table(None, rows)
        self._index = table.find(self._asked)
        self._plain_cell = re.compile(_PLAIN_CELL.format(_letters(self._index)).encode())
        name = table.name(self._index)
        self._empty = table.empty_reason(self._index)
        self._sink.column = Column(self._index + 1, name or None)
        return has_header

    def _text(self, cell: Cell) -> str:
        """Return the text of a cell, for display and for finding the column."""
        if cell.kind == "s":
            number = int(cell.value) if cell.value.isascii() and cell.value.isdigit() else -1
            if not 0 <= number < len(self._texts):
                raise errors.BrokenWorkbook(problem="a cell refers to a text that does not exist")
            return self._texts[number]
        if cell.kind == "b":
            return "TRUE" if cell.value == "1" else "FALSE"
        if cell.kind == "n" and cell.style in self._dates:
            return _date(cell.value)
        if cell.kind == "n":
            exact = _exact(cell.value)
            return cell.value if exact is None else str(exact)
        return cell.value

    def _read_row(self, row: Row) -> None:
        if row.hidden and self._leave_out_hidden:
            self._sink.warn("hidden_rows_left_out")
            return
        before = len(self._found)
        cell = row.cells.get(self._index)
        place = {
            "line": row.number,
            "column": self._index + 1,
            "sheet": self._sheet,
            "cell": f"{_letters(self._index)}{row.number}",
        }
        reason = self._reason(cell) if cell is not None else None
        if reason:
            assert cell is not None
            self._sink.fault(self._text(cell), reason, **place)
        else:
            text = self._text(cell) if cell is not None else ""
            self._sink.token(text, self._found, empty=self._empty, **place)
        if row.hidden and len(self._found) > before:
            self.hidden_count += 1
            self._sink.warn("hidden_rows")

    def _reason(self, cell: Cell) -> str | None:
        """Return why a cell of this type is not an ID, or None if its text decides."""
        if cell.has_formula and not cell.value and not (cell.has_value and cell.kind in _HAS_TEXT):
            return (
                "It is a formula without a stored result. "
                "Open the file in Excel and save it, or paste the values."
            )
        if cell.kind == "b":
            return "It is a truth value, not an ID."
        if cell.kind == "e":
            return "It is an error value, not an ID."
        if cell.kind == "d" or (cell.kind == "n" and cell.style in self._dates):
            return "It is a date, not an ID."
        if cell.kind == "n" and _NUMBER.fullmatch(cell.value):
            number = float(cell.value)
            if abs(number) >= EXACT_BELOW:
                return "It has more than 15 digits, so Excel has rounded it. Store such IDs as text."
            if not number.is_integer():
                return "It is a fraction. IDs are whole numbers."
        return None


def _exact(value: str) -> int | None:
    """Return the value of a number cell if it is whole and Excel has kept all of its digits."""
    if not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return int(number) if abs(number) < EXACT_BELOW and number.is_integer() else None


def _date(value: str) -> str:
    if not _NUMBER.fullmatch(value) or not 0 <= float(value) < 2_958_466:
        return value
    at = _FIRST_DAY + timedelta(days=float(value))
    return at.date().isoformat() if float(value).is_integer() else at.isoformat(" ", "seconds")


def _letters(index: int) -> str:
    letters = ""
    number = index + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
