"""Takes the ID, and the data that travel with it, out of an object of NDJSON or of a JSON array."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from scheduling.core import exact_json, id_tokens
from scheduling.core.exact_json import Number
from scheduling.parsing import errors
from scheduling.parsing.columns import NAMES, PARAMETER, listed, plain_name
from scheduling.parsing.data_columns import DataProblem, ObjectData
from scheduling.parsing.results import Choice, Column, Limits
from scheduling.parsing.sink import Sink

# Of what travels with an ID: whatever shows or sends it goes down as far.
MOST_LEVELS = Limits.max_json_depth


class Pairs(list[tuple[str, Any]]):
    """An object as pairs of name and value, which keeps names that appear twice."""


decoder = exact_json.decoder(Pairs)


class IdObjects:
    """Reads values and objects of one list. The places of faults come from the caller."""

    def __init__(self, sink: Sink, column: str | None, data: ObjectData) -> None:
        self._sink = sink
        self._column = None if column is None else id_tokens.composed(column.strip(id_tokens.TRIMMED))
        self.data = data
        shown_name = id_tokens.visible(self._column) if self._column else "id or user_id"
        self._without_id = f"The object has no field {shown_name}."

    def names(self, names: Iterable[str]) -> list[str]:
        """Return the names of an object that could hold the ID."""
        if self._column is None:
            return [name for name in names if plain_name(name) in NAMES]
        all_names = list(names)
        return [name for name in all_names if name == self._column] or [
            name for name in all_names if plain_name(name) == plain_name(self._column)
        ]

    def note_column(self, name: str) -> None:
        """Remember the first name under which an ID was found."""
        if self._sink.column is None:
            self._sink.column = Column(None, name)

    def read(self, value: Any, text: str, ids: array[int], place: Mapping[str, int]) -> None:
        """Read a decoded value. text: how it is written in the list."""
        if isinstance(value, Pairs):
            self._read_object(value, text, ids, place)
        else:
            self._read_value(value, ids, place, empty=id_tokens.EMPTY, members=())

    def _read_object(self, pairs: Pairs, text: str, ids: array[int], place: Mapping[str, int]) -> None:
        names = self.names(name for name, _ in pairs)
        if not names:
            self._sink.fault(text, self._without_id, **place)
            return
        if len(set(names)) > 1:
            where = f"line {place['line']:,}" if "line" in place else f"item {place['index']:,}"
            choices = tuple(
                Choice(0, id_tokens.visible(name), (_shown(dict(pairs)[name]),)) for name in names
            )
            raise errors.ColumnUnclear(
                problem=f"the object in {where} has more than one of these fields",
                choices=choices,
                listed=listed(choices),
                parameter=PARAMETER,
            )
        if len(names) > 1:
            self._sink.fault(text, f"The field {id_tokens.visible(names[0])} appears twice.", **place)
            return
        name = names[0]
        self.note_column(name)
        self.data.note((other for other, _ in pairs), name)
        empty = f"The field {id_tokens.visible(name)} is empty."
        self._read_value(dict(pairs)[name], ids, place, empty=empty, members=pairs, id_name=name)

    def _read_value(
        self,
        value: Any,
        ids: array[int],
        place: Mapping[str, int],
        *,
        empty: str | None,
        members: Iterable[tuple[str, Any]],
        id_name: str = "",
    ) -> None:
        if isinstance(value, list):
            kind = "an object" if isinstance(value, Pairs) else "a list"
            self._sink.fault(_shown(value), f"It is {kind}, not an ID.", **place)
            return
        if not isinstance(value, str):
            # As a text ID, null and the truth values would be words that somebody wrote.
            self._sink.fault(_shown(value), id_tokens.read(_shown(value)).reason or "", **place)
            return

        def data() -> bytes:
            return self.data.pack([(name, _encoded(member)) for name, member in members], id_name)

        is_id = self._sink.token(value, ids, empty=empty, data=data, **place)
        # As text, a number stays as it is spelled, which may be 1e5.
        if is_id and isinstance(value, Number) and not self._sink.is_text:
            self._sink.warn("past_2_53", int(value) >= id_tokens.PAST_JAVASCRIPT)


def _encoded(value: Any, levels: int = MOST_LEVELS) -> str:
    """Return a value as compact JSON. Numbers keep their spelling. Raises DataProblem for what nobody can read.

    levels: how many of arrays and objects the value may have.
    """
    if isinstance(value, Number):
        if value.is_too_large:
            raise DataProblem(f"Its data contain a number that is too large: {id_tokens.visible(value)}.")
        return str(value)
    if isinstance(value, list) and not levels:
        raise DataProblem(f"Its data have more than {MOST_LEVELS} levels of arrays and objects.")
    if isinstance(value, Pairs):
        members = (
            f"{json.dumps(name, ensure_ascii=False)}:{_encoded(member, levels - 1)}"
            for name, member in dict(value).items()
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join([_encoded(item, levels - 1) for item in value]) + "]"
    return json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    """Return a value for display, spelled as in JSON."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(name for name, _ in value[:5]) + "}"
    return id_tokens.visible(str(value))
