"""Takes the columns that travel with each ID: from the header of a table, or from the names of an object."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from operator import itemgetter
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
    """Return a name as it is, except for what a database refuses: controls and lone surrogates are spelled out."""
    if all(unicodedata.category(character) not in ("Cc", "Cs") for character in name):
        return name
    return id_tokens.visible(name, 8 * len(name))


def _needs_no_escapes(rows: Iterable[Iterable[str]]) -> bool:
    """Return whether all cells stand in JSON as they are."""
    text = "".join(map("".join, rows))
    return '"' not in text and "\\" not in text and text.isprintable()


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
        stripped = [id_tokens.composed(name.strip(id_tokens.TRIMMED)) for name in names]
        chosen = tuple(dict.fromkeys(name for name in stripped if name))
        if len(chosen) > MOST_DATA_COLUMNS:
            raise errors.DataUnclear(problem=f"there are more than {MOST_DATA_COLUMNS} columns")
        if not chosen:
            return None
        return cls(None if chosen == (ALL,) else chosen)


class TableData:
    """The data columns of a table, packed as compact JSON for each row."""

    def __init__(self, table: Table, id_column: int, request: DataRequest | None) -> None:
        others = {column: table.name(column) for column in range(table.width) if column != id_column}
        named = {column: name for column, name in others.items() if name}
        columns = [] if request is None else self._columns(table, named, request, table.name(id_column))
        self.names = tuple(_storable(id_tokens.readable(named[column])) for column in columns)
        self.left_out = tuple(
            id_tokens.visible(named.get(column, "")) or str(column + 1)
            for column in table.used()
            if column != id_column and column not in columns
        )
        self._columns_kept = columns
        # A row in which nothing has to be escaped is written by a pattern, in a third of the time.
        self._pattern: str | None = None
        if columns and len(set(self.names)) == len(columns):
            members = (f'{orjson.dumps(name).decode().replace("%", "%%")}:"%s"' for name in self.names)
            self._pattern = f"{{{','.join(members)}}}"
            self._values_of = itemgetter(*columns)

    @staticmethod
    def _columns(table: Table, named: dict[int, str], request: DataRequest, id_name: str) -> list[int]:
        if table.header is None:
            raise errors.DataUnclear(problem="the list has no header that names the columns")
        if request.names is None:
            columns = list(named)
        else:
            columns = [TableData._column(table, named, name, id_name) for name in request.names]
        names = [named[column] for column in columns]
        doubled = next((name for name in names if list(named.values()).count(name) > 1), None)
        if doubled is not None:
            raise errors.DoubledColumn(name=id_tokens.visible(doubled))
        if len(columns) > MOST_DATA_COLUMNS:
            raise errors.DataUnclear(problem=f"there are more than {MOST_DATA_COLUMNS} columns")
        return columns

    @staticmethod
    def _column(table: Table, named: dict[int, str], requested_name: str, id_name: str) -> int:
        exact = [column for column, name in named.items() if name == requested_name]
        similar = [column for column, name in named.items() if plain_name(name) == plain_name(requested_name)]
        matches = exact or similar
        if not matches and plain_name(requested_name) == plain_name(id_name):
            raise errors.DataIsId(given=id_tokens.visible(requested_name))
        if not matches:
            choices = table.choices()
            raise errors.DataUnknown(
                given=id_tokens.visible(requested_name),
                choices=choices,
                listed=listed(choices),
                parameter="data",
            )
        if len(matches) > 1:
            raise errors.DoubledColumn(name=id_tokens.visible(requested_name))
        return matches[0]

    def pack_all(self, rows: Sequence[Sequence[str]]) -> list[bytes]:
        """Return the data of rows, as `pack` does. Raises DataProblem."""
        if (
            self._pattern is None
            or not _needs_no_escapes(rows)
            or min(map(len, rows)) <= max(self._columns_kept)
        ):
            return list(map(self.pack, rows))
        return "\n".join(map(self._pattern.__mod__, map(self._values_of, rows))).encode().split(b"\n")

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
        self._requested = None if request is None or request.names is None else frozenset(request.names)
        self._keeps_all = request is not None and request.names is None
        # In the order in which they first appeared.
        self.names: dict[str, None] = {}
        self.left_out: dict[str, None] = {}
        # Of the requested ones.
        self._present: set[str] = set()

    def note(self, names: Iterable[str], id_name: str) -> None:
        """Remember which names are kept and which are left out. Only the first ones are remembered."""
        for written_name in names:
            if written_name == id_name:
                continue
            name = id_tokens.composed(written_name)
            is_kept = self._keeps_all or (self._requested is not None and name in self._requested)
            if is_kept and self._requested is not None:
                self._present.add(name)
            names_so_far = self.names if is_kept else self.left_out
            if len(names_so_far) < MOST_DATA_COLUMNS:
                names_so_far[_storable(name) if is_kept else id_tokens.visible(name)] = None

    @property
    def missing_count(self) -> int:
        """How many of the requested names no object has."""
        return len((self._requested or frozenset()) - self._present)

    def pack(self, members: Sequence[tuple[str, str]], id_name: str) -> bytes:
        """Return the data of an object. members: names, and values as JSON. Raises DataProblem."""
        composed = ((id_tokens.composed(name), value) for name, value in members if name != id_name)
        values = {
            name: value for name, value in composed if self._requested is None or name in self._requested
        }
        if len(values) > MOST_DATA_COLUMNS:
            raise DataProblem(f"The object has more than {MOST_DATA_COLUMNS} columns.")
        joined = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in values.items())
        try:
            return f"{{{joined}}}".encode()
        except UnicodeEncodeError:
            raise DataProblem("Its data contain half of a character (a lone surrogate).") from None
