"""Reads the rows of a worksheet as they are stored: types, spelled values, formulas, hidden rows."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from scheduling.parsing import errors
from scheduling.parsing.columns import MOST_COLUMNS
from scheduling.parsing.workbook import Workbook
from scheduling.parsing.xml_part import XmlPart

MOST_ROWS = 1_048_576
ROW_END = b"</row>"
FORMULA_CHARACTERS = 200
_MAX_SHARED_FORMULAS = 10_000
_KIND_CHARACTERS = 20
# A million rows of 25 cells, as far as they fit into the largest body.
_MAX_ELEMENTS = 60_000_000
_MAX_OTHER_ELEMENTS = 2_000_000
_REFERENCE = re.compile(r"([A-Z]{1,3})[0-9]*")


@dataclass(slots=True)
class Cell:
    """A cell as stored in the file. kind: its attribute `t`. value: as it is spelled. formula: None without one."""

    kind: str
    style: str
    value: str = ""
    formula: str | None = None
    has_value: bool = False


@dataclass(slots=True)
class Row:
    """A row. number: from 1. cells: by column, from 0."""

    number: int
    hidden: bool
    cells: dict[int, Cell] = field(default_factory=dict)


class SheetRows:
    """Yields the rows of a sheet that have cells, except those that `plain` reads.

    characters: how many of a cell's value are kept. plain: is given a block of whole rows as XML, and returns the
    number of the last row if it has read them all, else None.
    """

    def __init__(self, workbook: Workbook, path: str, characters: int) -> None:
        self._pieces = workbook.pieces(path)
        self._parser = _SheetParser(characters)
        self._xml = XmlPart(
            path,
            start=self._parser.start,
            end=self._parser.end,
            text=self._parser.text,
            max_elements=_MAX_ELEMENTS,
        )
        self.plain: Callable[[bytes], int | None] = lambda block: None

    def __iter__(self) -> Iterator[Row]:
        # A comment may contain text that looks like rows.
        has_comments = between_rows = False
        for block in self._blocks():
            has_comments = has_comments or b"<!" in block
            last = self.plain(block) if between_rows and not has_comments else None
            between_rows = block.endswith(ROW_END)
            if last is not None:
                self._parser.continue_after(last)
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
            cut = data.rfind(ROW_END)
            cut = len(data) if cut < 0 else cut + len(ROW_END)
            rest = data[cut:]
            yield data[:cut]
        if rest:
            yield rest


class _SheetParser:
    """Builds rows from the events of the XML parser."""

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._done: list[Row] = []
        self._row = Row(0, False)
        self._cell: Cell | None = None
        self._column = -1
        self._in_value = False
        self._in_formula = False
        self._in_hint = False
        self._columns: dict[str, int] = {}
        self._shared_formulas: dict[str, str] = {}
        self._shared_formula: str | None = None
        self._other_elements = 0

    def start(self, tag: str, facts: dict[str, str]) -> None:
        """Begin a row, a cell or a part of a cell."""
        if tag == "c":
            self._start_cell(facts)
        elif tag == "row":
            self._start_row(facts)
        elif tag == "v" or (tag == "t" and not self._in_hint):
            if self._cell is not None:
                self._in_value = self._cell.has_value = True
        elif tag == "f":
            self._start_formula(facts)
        else:
            self._in_hint = self._in_hint or tag == "rPh"
            self._other_elements += 1
            if self._other_elements > _MAX_OTHER_ELEMENTS:
                raise errors.BrokenWorkbook(problem="a sheet has too many elements that are not cells")

    def _start_row(self, facts: dict[str, str]) -> None:
        number = facts.get("r", "")
        follows = self._row.number + 1
        row_number = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else follows
        if row_number > MOST_ROWS:
            raise errors.BrokenWorkbook(problem="a sheet has more rows than Excel allows")
        self._row = Row(row_number, facts.get("hidden") in ("1", "true"))
        self._column = -1

    def _start_cell(self, facts: dict[str, str]) -> None:
        self._column = self._column_of(facts.get("r"))
        if self._column >= MOST_COLUMNS:
            raise errors.BrokenWorkbook(problem="a row has more cells than Excel allows")
        kind, style = facts.get("t", "n"), facts.get("s", "")
        self._cell = Cell(kind[:_KIND_CHARACTERS], style[:_KIND_CHARACTERS])

    def _start_formula(self, facts: dict[str, str]) -> None:
        if self._cell is None:
            return
        self._in_formula = True
        self._cell.formula = ""
        # Of a formula that several cells share, only the first has the text.
        shared = facts.get("t") == "shared"
        self._shared_formula = facts.get("si", "")[:_KIND_CHARACTERS] if shared else None

    def text(self, text: str) -> None:
        """Add to the value or the formula of the cell. Only the first characters are kept."""
        if self._cell is None:
            return
        if self._in_value:
            room = self._characters - len(self._cell.value)
            self._cell.value += text[: max(0, room)]
        elif self._in_formula and self._cell.formula is not None:
            room = FORMULA_CHARACTERS - len(self._cell.formula)
            self._cell.formula += text[: max(0, room)]

    def end(self, tag: str) -> None:
        """End a row, a cell or a part of a cell."""
        self._in_value = False
        if tag == "c" and self._cell is not None:
            # A cell that only has a colour is ignored.
            if self._cell.has_value or self._cell.formula is not None:
                self._row.cells[self._column] = self._cell
            self._cell = None
        elif tag == "row":
            if self._row.cells:
                self._done.append(self._row)
        elif tag == "f":
            self._end_formula()
        elif tag == "rPh":
            self._in_hint = False

    def _end_formula(self) -> None:
        self._in_formula = False
        if self._cell is None or self._shared_formula is None:
            return
        if not self._cell.formula:
            self._cell.formula = self._shared_formulas.get(self._shared_formula, "")
        elif len(self._shared_formulas) < _MAX_SHARED_FORMULAS:
            self._shared_formulas[self._shared_formula] = self._cell.formula

    def take(self) -> list[Row]:
        """Return the rows that are complete, each once."""
        done, self._done = self._done, []
        return done

    def continue_after(self, number: int) -> None:
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


def column_letters(index: int) -> str:
    """Return the letters of a column counted from 0: `AA` for 26."""
    letters = ""
    number = index + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
