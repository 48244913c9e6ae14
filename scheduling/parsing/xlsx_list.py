"""Reads a sheet of an XLSX file, row by row. The type of a cell counts, not how it is displayed.

Excel keeps 15 digits of a number, so a longer ID is already damaged in the file. A truth value, a date, an error
value, a formula without a result or one that adds up other rows, and a fraction are faults, never IDs and never
empty rows.
"""

import re
from array import array
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import NAMES, listed, plain_name
from scheduling.parsing.data_columns import DataProblem, TableData
from scheduling.parsing.list_options import ListOptions, table_of
from scheduling.parsing.results import Choice, Column, Limits, Sheet
from scheduling.parsing.sheet_rows import MOST_ROWS, ROW_END, Cell, Row, SheetRows, column_letters
from scheduling.parsing.sink import Sink
from scheduling.parsing.text_list import plain_ids
from scheduling.parsing.workbook import SheetPart, Workbook, unescaped

EXACT_BELOW = 10**15
PARAMETER = "sheet"
_TOP_ROWS = 100
# Bounds the memory for the rows at the top, and the time for looking into each sheet.
_TOP_CELLS = 20_000
_TOP_CHARACTERS = 4_000_000
_PROBED_CELLS = 2_000
# Of a cell, unless it may travel with an ID.
_CHARACTERS = 400
_VALUES_SHOWN = 3
_CHOICES = 50
_BLOCK_IDS = 4096
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+\-]?[0-9]{1,3})?")
_FIRST_DAY = datetime(1899, 12, 30)  # noqa: DTZ001 a sheet's dates have no zone
_FIRST_DAY_1904 = datetime(1904, 1, 1)  # noqa: DTZ001 as above
# Day 60 of Excel is the 29th of February 1900, which never was: the days before it are counted from a day later.
_LEAP_DAY_1900 = 60
_LAST_DAY = datetime(9999, 12, 31)  # noqa: DTZ001 as above
_DAY_SECONDS = 86_400
_MOST_DAYS = 3_000_000
# Row number, style, value.
_PLAIN_CELL = '<c r="{}([0-9]{{1,7}})"(?: s="([0-9]{{1,6}})")?(?: t="n")?><v>([1-9][0-9]{{0,14}})</v></c>'
_HAS_TEXT = frozenset({"s", "str", "inlineStr"})
_REFERENCE = r"\$?[A-Z]{1,3}\$?[0-9]{1,7}"
# A formula that adds up or counts cells. `A2+1` is none: it continues a series.
_ADDS_UP = re.compile(
    r"(?<![A-Z0-9_.])(?:SUM|SUMIFS?|SUMPRODUCT|SUBTOTAL|AGGREGATE|COUNT|COUNTA|COUNTIFS?|AVERAGE|AVERAGEIFS?"
    rf"|MEDIAN|PRODUCT|MIN|MAX|DSUM|DCOUNT)\(|{_REFERENCE} ?\+ ?{_REFERENCE}",
    re.IGNORECASE,
)


def read_xlsx(data: Any, sink: Sink, limits: Limits, options: ListOptions, *, name: str) -> None:
    """Read a sheet of `data`, a seekable file. Faults name sheet, cell, line and column.

    Raises BrokenWorkbook, FileNotAccepted, FilePasswordProtected, BodyTooLarge, SheetUnclear, SheetUnknown,
    ColumnUnclear, ColumnUnknown.
    """
    workbook = Workbook(data, name=id_tokens.visible(name, 80), limits=limits)
    characters = limits.data_max_bytes + 1 if options.data is not None else _CHARACTERS
    cells = _Cells(workbook, characters)
    sheet = options.sheet
    part = _requested(workbook, sheet) if sheet is not None else _only_possible(workbook, cells)
    reader = _Reader(cells, sink, id_tokens.visible(part.name), options)
    reader.read(SheetRows(workbook, part.path, characters))
    others = tuple(id_tokens.visible(other.name) for other in workbook.sheets if other is not part)
    sink.sheet = Sheet(id_tokens.visible(part.name), others, reader.hidden_count)


def _requested(workbook: Workbook, requested: str) -> SheetPart:
    """Return the sheet with this name, or with this number. Raises SheetUnknown."""
    requested_name = requested.strip(id_tokens.TRIMMED)
    exact = [sheet for sheet in workbook.sheets if sheet.name.strip(id_tokens.TRIMMED) == requested_name]
    similar = [sheet for sheet in workbook.sheets if plain_name(sheet.name) == plain_name(requested_name)]
    matches = exact or similar
    if len(matches) == 1:
        return matches[0]
    if not matches and id_tokens.is_id(requested_name) and int(requested_name) <= len(workbook.sheets):
        return workbook.sheets[int(requested_name) - 1]
    choices = tuple(_choice(workbook, sheet, ()) for sheet in workbook.sheets[:_CHOICES])
    raise errors.SheetUnknown(
        given=id_tokens.visible(requested_name), choices=choices, listed=listed(choices), parameter=PARAMETER
    )


def _only_possible(workbook: Workbook, cells: "_Cells") -> SheetPart:
    """Return the only visible sheet that could hold the list. Raises SheetUnclear if there are several."""
    visible = [sheet for sheet in workbook.sheets if sheet.is_visible]
    if not visible:
        raise errors.BrokenWorkbook(problem="it has no visible sheet")
    if len(visible) == 1:
        return visible[0]
    filled: list[tuple[SheetPart, list[str]]] = []
    for sheet in visible:
        texts = list(_first_texts(workbook, cells, sheet))
        if texts:
            filled.append((sheet, texts))
    # Any digit makes a sheet possible: damaged IDs on one must not hand the list over to another.
    possible = [(sheet, texts) for sheet, texts in filled if any(map(_could_be_of_a_list, texts))]
    candidates = possible or filled
    if len(candidates) > 1:
        choices = tuple(_choice(workbook, sheet, texts) for sheet, texts in candidates[:_CHOICES])
        raise errors.SheetUnclear(choices=choices, listed=listed(choices), parameter=PARAMETER)
    return candidates[0][0] if candidates else visible[0]


def _could_be_of_a_list(text: str) -> bool:
    return any(c.isdigit() for c in text) or plain_name(text) in NAMES


def _first_texts(workbook: Workbook, cells: "_Cells", sheet: SheetPart) -> Iterator[str]:
    count = 0
    for number, row in enumerate(SheetRows(workbook, sheet.path, _CHARACTERS)):
        yield from (
            text for cell in row.cells.values() if (text := cells.text(cell).strip(id_tokens.TRIMMED))
        )
        count += len(row.cells)
        if number == _TOP_ROWS or count > _PROBED_CELLS:
            return


def _choice(workbook: Workbook, sheet: SheetPart, texts: list[str] | tuple[()]) -> Choice:
    number = workbook.sheets.index(sheet) + 1
    return Choice(number, id_tokens.visible(sheet.name), tuple(map(id_tokens.visible, texts[:_VALUES_SHOWN])))


class _Cells:
    """Knows what the cells of a workbook say."""

    def __init__(self, workbook: Workbook, characters: int) -> None:
        self._texts = workbook.texts(characters)
        styles = workbook.date_styles()
        self.dates, self._durations = styles.all, styles.durations
        self._from_1904 = bool(self.dates) and workbook.counts_from_1904()

    def text(self, cell: Cell) -> str:
        """Return the text of a cell, for display and for finding the column."""
        if cell.kind == "s":
            number = int(cell.value) if cell.value.isascii() and cell.value.isdigit() else -1
            if not 0 <= number < len(self._texts):
                raise errors.BrokenWorkbook(problem="a cell refers to a text that does not exist")
            return self._texts[number]
        if cell.kind in _HAS_TEXT:
            return unescaped(cell.value)
        if cell.kind == "b":
            return "TRUE" if cell.value == "1" else "FALSE"
        if self._is_date(cell):
            return _date(cell.value, from_1904=self._from_1904)
        exact = _exact(cell.value) if cell.kind == "n" else None
        return cell.value if exact is None else str(exact)

    def data(self, cell: Cell) -> str:
        """Return what travels with an ID: a number as it is spelled, a date or time as ISO 8601.

        Raises DataProblem.
        """
        if cell.formula is not None and not cell.has_value:
            raise DataProblem("Its data contain a formula without a stored result.")
        is_date = self._is_date(cell)
        if cell.kind == "n" and not is_date:
            return cell.value
        return self.text(cell).replace(" ", "T") if is_date else self.text(cell)

    def _is_date(self, cell: Cell) -> bool:
        return cell.kind == "n" and cell.style in self.dates and cell.style not in self._durations

    def reason(self, cell: Cell) -> str | None:
        """Return why a cell of this type is not an ID, or None if its text decides."""
        if cell.formula is not None:
            if not cell.value and not (cell.has_value and cell.kind in _HAS_TEXT):
                return (
                    "It is a formula without a stored result. "
                    "Open the file in Excel and save it, or paste the values."
                )
            if _ADDS_UP.search(cell.formula.replace("_xlfn.", "")):
                return f"It is the result of the formula {id_tokens.visible(cell.formula)}, not an ID."
        if cell.kind == "b":
            return "It is a truth value, not an ID."
        if cell.kind == "e":
            return "It is an error value, not an ID."
        if cell.kind == "d" or (cell.kind == "n" and cell.style in self.dates):
            return "It is a date, not an ID."
        if cell.kind == "n" and _NUMBER.fullmatch(cell.value):
            number = float(cell.value)
            if abs(number) >= EXACT_BELOW:
                return "It has more than 15 digits, so Excel has rounded it. Store such IDs as text."
            if not number.is_integer():
                return "It is a fraction. IDs are whole numbers."
        return None


class _Reader:
    """Takes the ID column out of the rows."""

    def __init__(self, cells: _Cells, sink: Sink, sheet: str, options: ListOptions) -> None:
        self._cells = cells
        self._sink = sink
        self._sheet = sheet
        self._options = options
        self._index = 0
        self._empty = ""
        self._ids = array("q")
        self._last_number = 0
        self.hidden_count = 0

    def read(self, rows: SheetRows) -> None:
        """Read all rows that are not blank."""
        used = (row for row in rows if self._is_used(row))
        top = list(_first_rows(used))
        has_header = self._choose_column(top)
        if not self._sink.keeps_records:
            rows.plain = self._read_block
        for row in chain(top, used):
            # Only blank rows between others count. Those after the last are just the size of the sheet.
            self._sink.warn("blank_rows", max(0, row.number - self._last_number - 1))
            self._last_number = row.number
            if has_header:
                has_header = False
            else:
                self._read_row(row)
            if len(self._ids) >= _BLOCK_IDS:
                self._take()
        self._take()

    def _read_block(self, block: bytes) -> int | None:
        """Read consecutive rows that each have a plain number in the ID column, ten times as fast as by cell.

        Returns the number of the last row, or None if there is anything else in the block.
        """
        rows = self._plain_cell.findall(block)
        if not rows or len(rows) != block.count(ROW_END) or b"hidden" in block:
            return None
        numbers, styles, values = zip(*rows, strict=True)
        first, last = int(numbers[0]), int(numbers[-1])
        consecutive = last - first + 1 == len(rows) == len(set(numbers))
        if not consecutive or first != self._last_number + 1 or last > MOST_ROWS:
            return None
        plain = plain_ids(b",".join(values))
        if plain is None or not self._cells.dates.isdisjoint(style.decode() for style in set(styles)):
            return None
        self._take()
        self._sink.take(plain[0])
        self._last_number = last
        return last

    def _take(self) -> None:
        self._sink.take(self._ids)
        self._ids = array("q")

    def _is_used(self, row: Row) -> bool:
        return any(
            cell.formula is not None or self._cells.text(cell).strip(id_tokens.TRIMMED)
            for cell in row.cells.values()
        )

    def _choose_column(self, top: list[Row]) -> bool:
        """Find the ID column by the first rows. Returns whether the first of them is a header."""
        width = max((max(row.cells) + 1 for row in top), default=1)
        rows = [self._texts_of(row, width) for row in top]
        table = table_of(rows, self._options)
        self._index = table.find(self._options.column)
        self._data = TableData(table, self._index, self._options.data)
        self._sink.data_columns, self._sink.columns_left_out = self._data.names, self._data.left_out
        self._width = width
        self._plain_cell = re.compile(_PLAIN_CELL.format(column_letters(self._index)).encode())
        self._empty = table.empty_reason(self._index)
        self._sink.column = Column(self._index + 1, table.shown_name(self._index))
        return table.header is not None

    def _pack(self, row: Row) -> bytes:
        values = [""] * self._width
        for column, cell in row.cells.items():
            if column < self._width and column != self._index:
                values[column] = self._cells.data(cell)
        return self._data.pack(values)

    def _texts_of(self, row: Row, width: int) -> list[str]:
        texts = [""] * width
        for column, cell in row.cells.items():
            texts[column] = self._cells.text(cell)
        return texts

    def _read_row(self, row: Row) -> None:
        if row.hidden and self._options.leave_out_hidden:
            self._sink.warn("hidden_rows_left_out")
            return
        cell = row.cells.get(self._index)
        place = {
            "line": row.number,
            "column": self._index + 1,
            "sheet": self._sheet,
            "cell": f"{column_letters(self._index)}{row.number}",
        }
        reason = self._cells.reason(cell) if cell is not None else None
        text = self._cells.text(cell) if cell is not None else ""
        if reason:
            self._sink.fault(text, reason, **place)
            return
        if not self._sink.token(text, self._ids, empty=self._empty, data=lambda: self._pack(row), **place):
            return
        self._sink.warn("formulas", cell is not None and cell.formula is not None)
        if row.hidden:
            self.hidden_count += 1
            self._sink.warn("hidden_rows")


def _first_rows(rows: Iterator[Row]) -> Iterator[Row]:
    """Yield the rows by which the column is chosen."""
    cells = characters = 0
    for count, row in enumerate(rows, 1):
        yield row
        cells += len(row.cells)
        characters += sum(len(cell.value) for cell in row.cells.values())
        if count > _TOP_ROWS or cells > _TOP_CELLS or characters > _TOP_CHARACTERS:
            return


def _exact(value: str) -> int | None:
    """Return the value of a number cell if it is whole and Excel has kept all of its digits."""
    if not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return int(number) if abs(number) < EXACT_BELOW and number.is_integer() else None


def _date(value: str, *, from_1904: bool) -> str:
    """Return a count of days as Excel shows it: a date, a time of day, or both. Others are returned as they are."""
    if not _NUMBER.fullmatch(value) or not 0 <= float(value) < _MOST_DAYS:
        return value
    # A count has 15 digits, so that two o'clock may be a few microseconds early.
    day, second = divmod(round(float(value) * _DAY_SECONDS), _DAY_SECONDS)
    if not day and (second or not from_1904):
        return str(timedelta(seconds=second)).zfill(len("00:00:00"))
    if from_1904:
        first_day = _FIRST_DAY_1904
    elif day == _LEAP_DAY_1900:
        return value
    else:
        first_day = _FIRST_DAY if day > _LEAP_DAY_1900 else _FIRST_DAY + timedelta(days=1)
    if day > (_LAST_DAY - first_day).days:
        return value
    at = first_day + timedelta(days=day, seconds=second)
    return at.isoformat(" ", "seconds") if second else at.date().isoformat()
