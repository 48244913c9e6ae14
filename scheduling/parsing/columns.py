"""Which column of a table holds the IDs: asked for, named so, or the only one that can. No guess."""

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


def plain_name(name: str) -> str:
    """A column's name without what spelling differs by: `userid` for "User ID"."""
    return "".join(c for c in name.strip(id_tokens.TRIMMED).casefold() if c not in "_-" and not c.isspace())


def is_blank(row: Sequence[str]) -> bool:
    """Whether a row holds nothing, or nothing that can be seen."""
    return not any(cell.strip(id_tokens.TRIMMED) for cell in row)


def is_header(row: Sequence[str]) -> bool:
    """A first row is a header if none of its cells is a whole number, nor a damaged one (1e+05, 12.0)."""
    return not any(id_tokens.read(cell).id is not None or id_tokens.looks_like_a_number(cell) for cell in row)


@dataclass(frozen=True)
class Table:
    """The top of a table. header: its first row if that names columns; rows: some of those that follow."""

    header: Sequence[str] | None
    rows: Sequence[Sequence[str]]

    @property
    def width(self) -> int:
        """How many columns there are: as many as the first row has."""
        first = self.header if self.header is not None else self.rows[0] if self.rows else ()
        return max(1, len(first))

    def name(self, column: int) -> str:
        """The trimmed name of a column, "" if it has none."""
        return (
            self.header[column].strip(id_tokens.TRIMMED) if self.header and column < len(self.header) else ""
        )

    def values(self, column: int) -> list[str]:
        """What the rows at the top have in it, trimmed, without empty cells."""
        cells = (row[column].strip(id_tokens.TRIMMED) for row in self.rows if column < len(row))
        return [cell for cell in cells if cell]

    def choices(self) -> tuple[Choice, ...]:
        """The columns that are not empty, the first 50 of them, each with its first values."""
        return tuple(
            Choice(
                column + 1,
                id_tokens.visible(self.name(column)),
                tuple(map(id_tokens.visible, self.values(column)[:_VALUES_SHOWN])),
            )
            for column in self.used()[:_CHOICES]
        )

    def used(self) -> list[int]:
        """The columns that have a name or a value."""
        return [column for column in range(self.width) if self.name(column) or self.values(column)]

    def find(self, asked: str | None) -> int:
        """Return the index of the IDs' column. Raises ColumnUnclear, ColumnUnknown, TooManyColumns."""
        if self.width > MOST_COLUMNS:
            raise errors.TooManyColumns(limit=MOST_COLUMNS)
        if asked is not None:
            return self._asked(asked)
        named = [column for column in range(self.width) if plain_name(self.name(column)) in NAMES]
        if len(named) == 1:
            return named[0]
        if named:
            raise self._unclear("more than one is named id or user_id")
        used = self.used()
        if len(used) <= 1:
            return used[0] if used else 0
        return self._by_values(used)

    def _asked(self, asked: str) -> int:
        wanted = asked.strip(id_tokens.TRIMMED)
        for same in (lambda name: name == wanted, lambda name: plain_name(name) == plain_name(wanted)):
            found = [column for column in range(self.width) if self.name(column) and same(self.name(column))]
            if len(found) == 1:
                return found[0]
            if found:
                raise self._unclear(f"more than one is named {id_tokens.visible(wanted)}; give its number")
        read = id_tokens.read(wanted)
        if read.id is not None and read.id <= self.width:
            return read.id - 1
        choices = self.choices()
        raise errors.ColumnUnknown(
            given=id_tokens.visible(wanted), choices=choices, listed=listed(choices), parameter=PARAMETER
        )

    def _by_values(self, used: list[int]) -> int:
        """The only column that has an ID in it; or, where none has, the only one that has a digit."""
        with_ids = [c for c in used if any(id_tokens.read(cell).id is not None for cell in self.values(c))]
        with_digits = [c for c in used if any(ch.isdigit() for cell in self.values(c) for ch in cell)]
        candidates = with_ids or with_digits
        if len(candidates) != 1:
            raise self._unclear("none is named id or user_id, and several could hold them")
        column = candidates[0]
        if self.header is not None and not self.name(column) and self._counts(column):
            raise self._unclear("the only one with numbers has no name and counts the rows")
        return column

    def _counts(self, column: int) -> bool:
        numbers = [id_tokens.read(cell).id or 0 for cell in self.values(column)]
        return numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))

    def _unclear(self, problem: str) -> errors.ColumnUnclear:
        choices = self.choices()
        return errors.ColumnUnclear(
            problem=problem, choices=choices, listed=listed(choices), parameter=PARAMETER
        )


def listed(choices: Sequence[Choice]) -> str:
    """The choices for people: `1 user_id (90017, 90018), 2 without a name (1, 2)`."""
    shown = [
        f"{choice.number or ''} {choice.name or 'without a name'} ({', '.join(choice.values)})".strip()
        for choice in choices[:CHOICES_LISTED]
    ]
    more = len(choices) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more > 0 else "")
