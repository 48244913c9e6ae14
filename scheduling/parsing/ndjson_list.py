"""Reads NDJSON. Each line is a number, a numeric string, or an object with `id`, `user_id` or the requested column."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import orjson

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import NAMES, PARAMETER, listed, plain_name
from scheduling.parsing.results import Choice, Column, Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.streams import Blocks
from scheduling.parsing.text_list import plain_ids

_TO_COMMA = bytes.maketrans(b"\n", b",")


class _Number(str):
    """A number as it is spelled in the file."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object as pairs of name and value, which keeps names that appear twice."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value in JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant
)


def read_ndjson(chunks: Iterable[bytes], sink: Sink, limits: Limits, *, column: str | None) -> None:
    """Read UTF-8 NDJSON into `sink`. A line that is not JSON is a fault.

    Raises LineTooLong, and ColumnUnclear for an object with both `id` and `user_id` if no column was requested.
    """
    blocks = Blocks(chunks, separators=b"\r\n", what="line", limits=limits)
    reader = _Reader(sink, column)
    for block in blocks:
        lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block
        lines = lines.removesuffix(b"\n")
        reader.read(lines, blocks.line)
        blocks.line += lines.count(b"\n") + 1


class _Reader:
    """Reads lines in blocks: the fast way if they are all alike, else one by one."""

    def __init__(self, sink: Sink, column: str | None) -> None:
        self._sink = sink
        self._asked = column.strip(id_tokens.TRIMMED) if column is not None else None
        wanted = id_tokens.visible(self._asked) if self._asked else "id or user_id"
        self._without_id = f"The object has no field {wanted}."

    def read(self, lines: bytes, first_line: int) -> None:
        """Read whole lines, joined by LF."""
        count = lines.count(b"\n") + 1
        plain = plain_ids(lines.translate(_TO_COMMA))
        if plain is not None and len(plain[0]) == count:
            self._take(plain, plain[0])
        elif not self._read_objects(lines, count):
            self._read_carefully(lines, first_line)

    def _take(self, plain: tuple[array[int], int], numbers: Sequence[int]) -> None:
        """Take IDs that were read in a block. numbers: those of them that are JSON numbers."""
        if numbers and max(numbers) >= id_tokens.PAST_JAVASCRIPT:
            self._sink.warn("past_2_53", sum(number >= id_tokens.PAST_JAVASCRIPT for number in numbers))
        self._sink.warn("leading_zeros", plain[1])
        self._sink.take(plain[0])

    def _read_objects(self, lines: bytes, count: int) -> bool:
        """Read lines that are all objects with a plain ID under the same name. Returns whether it could."""
        # A name with escapes could be spelled in two ways.
        if not lines.startswith(b"{") or b"\\" in lines:
            return False
        try:
            objects = list(map(orjson.loads, lines.split(b"\n")))
        except orjson.JSONDecodeError:
            return False
        if set(map(type, objects)) != {dict}:
            return False
        names = {tuple(self._names(shape)) for shape in set(map(tuple, objects))}
        name = next(iter(names))[:1]
        # A name that appears twice in an object is counted twice here, but is parsed once.
        if names != {name} or not name or lines.count(b'"' + name[0].encode() + b'"') != count:
            return False
        values = [item[name[0]] for item in objects]
        if not {int, str}.issuperset(map(type, values)):
            return False
        plain = plain_ids(",".join(map(str, values)).encode())
        if plain is None or len(plain[0]) != count:
            return False
        self._note_column(name[0])
        self._take(plain, [value for value in values if type(value) is int])
        return True

    def _names(self, names: Iterable[str]) -> list[str]:
        """Return the names of an object that could hold the ID."""
        if self._asked is None:
            return [name for name in names if plain_name(name) in NAMES]
        listed_names = list(names)
        return [name for name in listed_names if name == self._asked] or [
            name for name in listed_names if plain_name(name) == plain_name(self._asked)
        ]

    def _note_column(self, name: str) -> None:
        if self._sink.column is None:
            self._sink.column = Column(None, name)

    def _read_carefully(self, lines: bytes, first_line: int) -> None:
        found = array("q")
        for number, line in enumerate(lines.split(b"\n"), first_line):
            text = line.decode("utf-8", "surrogateescape")
            core = text.strip(id_tokens.TRIMMED)
            if not core:
                self._sink.warn("blank_rows")
            elif core[0] in '{["':
                self._read_json(core, number, found)
            else:
                self._read_number(text.strip(" \t"), number, found)
        self._sink.take(found)

    def _read_json(self, text: str, line: int, found: array[int]) -> None:
        try:
            # Bytes that are not UTF-8 were decoded to surrogates, which JSON would accept.
            text.encode()
            value = _decoder.decode(text)
        except UnicodeEncodeError:
            self._sink.fault(text, id_tokens.read(text).reason or "", line=line, column=1)
            return
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", None) or "it is nested too deep"
            column = getattr(error, "colno", 1)
            self._sink.fault(text, f"The line is not JSON: {problem}.", line=line, column=column)
            return
        if isinstance(value, _Pairs):
            self._read_object(value, text, line, found)
        else:
            self._read_value(value, line, found, empty=id_tokens.EMPTY)

    def _read_object(self, pairs: _Pairs, text: str, line: int, found: array[int]) -> None:
        names = self._names(name for name, _ in pairs)
        if not names:
            self._sink.fault(text, self._without_id, line=line, column=1)
            return
        if len(set(names)) > 1:
            choices = tuple(
                Choice(0, id_tokens.visible(name), (_shown(dict(pairs)[name]),)) for name in names
            )
            raise errors.ColumnUnclear(
                problem=f"the object in line {line:,} has more than one of these fields",
                choices=choices,
                listed=listed(choices),
                parameter=PARAMETER,
            )
        if len(names) > 1:
            self._sink.fault(
                text, f"The field {id_tokens.visible(names[0])} appears twice.", line=line, column=1
            )
            return
        self._note_column(names[0])
        empty = f"The field {id_tokens.visible(names[0])} is empty."
        self._read_value(dict(pairs)[names[0]], line, found, empty=empty)

    def _read_value(self, value: Any, line: int, found: array[int], *, empty: str) -> None:
        if isinstance(value, _Number):
            self._read_number(value, line, found)
        elif isinstance(value, str):
            self._sink.token(value, found, empty=empty, line=line, column=1)
        elif isinstance(value, list):
            what = "an object" if isinstance(value, _Pairs) else "a list"
            self._sink.fault(_shown(value), f"It is {what}, not an ID.", line=line, column=1)
        else:
            self._sink.token(_shown(value), found, line=line, column=1)

    def _read_number(self, spelled: str, line: int, found: array[int]) -> None:
        before = len(found)
        self._sink.token(spelled, found, empty=id_tokens.EMPTY, line=line, column=1)
        if len(found) > before and found[-1] >= id_tokens.PAST_JAVASCRIPT:
            self._sink.warn("past_2_53")


def _shown(value: Any) -> str:
    """Return a value for display, spelled as in JSON."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, _Pairs):
        return "{" + ", ".join(name for name, _ in value[:5]) + "}"
    return id_tokens.visible(str(value))
