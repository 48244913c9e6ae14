"""Takes the columns that travel with each ID: from the header of a table, or from the names of an object."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import Table, listed, plain_name

MOST_DATA_COLUMNS = 100
ALL = "*"


class DataProblem(Exception):
    """The data of one ID can't be kept. Its text is the reason of the fault."""


def _storable(name: str) -> str:
    """Return a name as it is, except for what a database refuses: controls and halves of characters are spelled out."""
    if all(unicodedata.category(character) not in ("Cc", "Cs") for character in name):
        return name
    return id_tokens.visible(name, 8 * len(name))


class DataRequest(NamedTuple):
    """Which columns travel with each ID: the names, or None for all but the ID's column."""

    names: tuple[str, ...] | None

    @classmethod
    def parse(cls, value: Any) -> "DataRequest | None":
        """Read `*`, names separated by commas, or a JSON array of names. Raises DataUnclear."""
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                raise errors.DataUnclear(problem="it is not a JSON array of names") from None
        names = value.split(",") if isinstance(value, str) else [] if value is None else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise errors.DataUnclear(
                problem="it is neither *, nor names separated by commas, nor an array of names"
            )
        stripped = [name.strip(id_tokens.TRIMMED) for name in names]
        wanted = tuple(dict.fromkeys(name for name in stripped if name))
        if len(wanted) > MOST_DATA_COLUMNS:
            raise errors.DataUnclear(problem=f"there are more than {MOST_DATA_COLUMNS} columns")
        if not wanted:
            return None
        return cls(None if wanted == (ALL,) else wanted)


class TableData:
    """The data columns of a table, packed as compact JSON for each row."""

    def __init__(self, table: Table, id_column: int, request: DataRequest | None) -> None:
        others = {column: table.name(column) for column in range(table.width) if column != id_column}
        named = {column: name for column, name in others.items() if name}
        columns = [] if request is None else self._columns(table, named, request)
        self.names = tuple(_storable(id_tokens.readable(named[column])) for column in columns)
        self.left_out = tuple(
            id_tokens.visible(named.get(column, "")) or str(column + 1)
            for column in table.used()
            if column != id_column and column not in columns
        )
        self._columns_kept = columns

    @staticmethod
    def _columns(table: Table, named: dict[int, str], request: DataRequest) -> list[int]:
        if table.header is None:
            raise errors.DataUnclear(problem="the list has no header that names the columns")
        if request.names is None:
            columns = list(named)
        else:
            columns = [TableData._column(table, named, name) for name in request.names]
        names = [named[column] for column in columns]
        doubled = next((name for name in names if list(named.values()).count(name) > 1), None)
        if doubled is not None:
            raise errors.DoubledColumn(name=id_tokens.visible(doubled))
        if len(columns) > MOST_DATA_COLUMNS:
            raise errors.DataUnclear(problem=f"there are more than {MOST_DATA_COLUMNS} columns")
        return columns

    @staticmethod
    def _column(table: Table, named: dict[int, str], wanted: str) -> int:
        exact = [column for column, name in named.items() if name == wanted]
        similar = [column for column, name in named.items() if plain_name(name) == plain_name(wanted)]
        found = exact or similar
        if not found:
            choices = table.choices()
            raise errors.DataUnknown(
                given=id_tokens.visible(wanted), choices=choices, listed=listed(choices), parameter="data"
            )
        if len(found) > 1:
            raise errors.DoubledColumn(name=id_tokens.visible(wanted))
        return found[0]

    def pack(self, cells: Sequence[str]) -> bytes:
        """Return the data of a row. Cells that it lacks are empty. Raises DataProblem."""
        width = len(cells)
        values = [cells[column] if column < width else "" for column in self._columns_kept]
        try:
            return orjson.dumps(dict(zip(self.names, values, strict=True)))
        except (orjson.JSONEncodeError, UnicodeEncodeError):
            return self._refuse(values)

    def _refuse(self, values: Sequence[str]) -> bytes:
        for name, value in zip(self.names, values, strict=True):
            shown = id_tokens.readable(value)
            if shown != value:
                raise DataProblem(f"The column {id_tokens.visible(name)} contains bytes that are not UTF-8.")
        raise DataProblem("The data can't be written as JSON.")


class ObjectData:
    """The data of objects: their values under the requested names, or all but the ID, packed as compact JSON."""

    def __init__(self, request: DataRequest | None) -> None:
        self._wanted = None if request is None or request.names is None else frozenset(request.names)
        self._keeps_all = request is not None and request.names is None
        # In the order in which they first appeared.
        self.names: dict[str, None] = {}
        self.left_out: dict[str, None] = {}

    def note(self, names: Iterable[str], id_name: str) -> None:
        """Remember which names are kept and which are left out. Only the first ones are remembered."""
        for name in names:
            if name == id_name:
                continue
            is_kept = self._keeps_all or (self._wanted is not None and name in self._wanted)
            known = self.names if is_kept else self.left_out
            if len(known) < MOST_DATA_COLUMNS:
                known[_storable(name) if is_kept else id_tokens.visible(name)] = None

    def pack(self, members: Sequence[tuple[str, str]], id_name: str) -> bytes:
        """Return the data of an object. members: names, and values as JSON. Raises DataProblem."""
        kept = {
            name: value
            for name, value in members
            if name != id_name and (self._wanted is None or name in self._wanted)
        }
        if len(kept) > MOST_DATA_COLUMNS:
            raise DataProblem(f"The object has more than {MOST_DATA_COLUMNS} columns.")
        joined = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in kept.items())
        try:
            return f"{{{joined}}}".encode()
        except UnicodeEncodeError:
            raise DataProblem("Its data contain half of a character (a lone surrogate).") from None
