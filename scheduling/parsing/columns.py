"""Decides which column of a table holds the IDs: the requested one, the one named so, or the only one there is."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.results import Choice

NAMES = frozenset({"id", "userid"})
PARAMETER = "column"
CHOICES_LISTED = 20
_CHOICES = 50
MOST_COLUMNS = 16_384
_VALUES_SHOWN = 3
_NAME_CHARACTERS = 200


def plain_name(name: str) -> str:
    """Return a column's name in its plainest spelling: `userid` for "User ID"."""
    folded = id_tokens.composed(name.strip(id_tokens.TRIMMED)).casefold()
    return "".join(c for c in folded if c not in "_-" and not c.isspace())


def is_blank(row: Sequence[str]) -> bool:
    """Return whether a row contains nothing visible."""
    return not any(cell.strip(id_tokens.TRIMMED) for cell in row)


def is_header(row: Sequence[str]) -> bool:
    """Return whether a first row is a header: none of its cells is a number, not even a damaged one (1e+05, 12.0)."""
    return not any(id_tokens.is_id(cell) or id_tokens.looks_like_a_number(cell) for cell in row)


@dataclass(frozen=True)
class Table:
    """The first rows of a table.

    header: the first row, if it names columns. rows: some of the rows after it.
    """

    header: Sequence[str] | None
    rows: Sequence[Sequence[str]]

    @property
    def width(self) -> int:
        """The number of columns, which is that of the first row."""
        first = self.header if self.header is not None else self.rows[0] if self.rows else ()
        return max(1, len(first))

    def name(self, column: int) -> str:
        """Return the trimmed name of a column in NFC, or "" if it has none."""
        if not self.header or column >= len(self.header):
            return ""
        return id_tokens.composed(self.header[column].strip(id_tokens.TRIMMED))

    def shown_name(self, column: int) -> str | None:
        """Return the name of a column as it can be stored and sent, or None if it has none."""
        return id_tokens.readable(self.name(column))[:_NAME_CHARACTERS] or None

    def values(self, column: int) -> list[str]:
        """Return the column's cells in these rows, trimmed, without empty ones."""
        cells = (row[column].strip(id_tokens.TRIMMED) for row in self.rows if column < len(row))
        return [cell for cell in cells if cell]

    def empty_reason(self, column: int) -> str:
        """Return the reason of a fault in a row that has nothing in this column."""
        return f"The column {id_tokens.visible(self.name(column)) or column + 1} is empty in this row."

    def choices(self) -> tuple[Choice, ...]:
        """Return the first 50 columns that are not empty, each with its first values."""
        return tuple(
            Choice(
                column + 1,
                id_tokens.visible(self.name(column)),
                tuple(map(id_tokens.visible, self.values(column)[:_VALUES_SHOWN])),
            )
            for column in self.used()[:_CHOICES]
        )

    def used(self) -> list[int]:
        """Return the columns that have a name or a value."""
        with_values = {
            column
            for row in self.rows
            for column, cell in enumerate(row[: self.width])
            if cell.strip(id_tokens.TRIMMED)
        }
        return [column for column in range(self.width) if column in with_values or self.name(column)]

    def find(self, requested: str | None) -> int:
        """Return the index of the ID column. Raises ColumnUnclear, ColumnUnknown, TooManyColumns."""
        if self.width > MOST_COLUMNS:
            raise errors.TooManyColumns(limit=MOST_COLUMNS)
        if requested is not None:
            return self._named(requested)
        named = [column for column in range(self.width) if plain_name(self.name(column)) in NAMES]
        if len(named) == 1:
            return named[0]
        if named:
            raise self._unclear("more than one column is named id or user_id")
        used = self.used()
        if len(used) <= 1:
            return used[0] if used else 0
        # Even if only one of them contains numbers: they may be amounts beside IDs that are damaged.
        raise self._unclear("there are several, and none is named id or user_id")

    def _named(self, requested: str) -> int:
        requested_name = id_tokens.composed(requested.strip(id_tokens.TRIMMED))
        names = {column: self.name(column) for column in range(self.width) if self.name(column)}
        exact = [column for column, name in names.items() if name == requested_name]
        similar = [column for column, name in names.items() if plain_name(name) == plain_name(requested_name)]
        # The choices spell out what is invisible, and so may the request.
        spelled_out = [column for column, name in names.items() if id_tokens.visible(name) == requested_name]
        for matches in (exact, similar, spelled_out):
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise self._unclear(
                    f"more than one column is named {id_tokens.visible(requested_name)}, so give its number"
                )
        read = id_tokens.read(requested_name)
        if read.id is not None and read.id <= self.width:
            return read.id - 1
        choices = self.choices()
        raise errors.ColumnUnknown(
            given=id_tokens.visible(requested_name),
            choices=choices,
            listed=listed(choices),
            parameter=PARAMETER,
        )

    def _unclear(self, problem: str) -> errors.ColumnUnclear:
        choices = self.choices()
        return errors.ColumnUnclear(
            problem=problem, choices=choices, listed=listed(choices), parameter=PARAMETER
        )


def listed(choices: Sequence[Choice]) -> str:
    """List the choices for a sentence: `1 user_id (90017, 90018), 2 without a name (1, 2)`."""
    shown = [
        f"{choice.number or ''} {choice.name or 'without a name'} ({', '.join(choice.values)})".strip()
        for choice in choices[:CHOICES_LISTED]
    ]
    more = len(choices) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more > 0 else "")
