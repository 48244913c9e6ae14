"""Reads NDJSON. Each line is a number, a numeric string, or an object with `id`, `user_id` or the requested column."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from scheduling.core import id_tokens
from scheduling.core.exact_json import Number
from scheduling.parsing.data_columns import ObjectData
from scheduling.parsing.id_objects import IdObjects, decoder
from scheduling.parsing.list_options import ListOptions
from scheduling.parsing.results import Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.streams import Blocks
from scheduling.parsing.text_list import plain_ids

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_WORDS = ("true", "false", "null")
_NOT_QUOTED = "The line is not JSON: text is written in quotes."
_TO_COMMA = bytes.maketrans(b"\n", b",")


def read_ndjson(chunks: Iterable[bytes], sink: Sink, limits: Limits, options: ListOptions) -> None:
    """Read UTF-8 NDJSON into `sink`. A line that is not JSON is a fault.

    Raises LineTooLong, and ColumnUnclear for an object with both `id` and `user_id` if no column was requested.
    """
    blocks = Blocks(chunks, separators=b"\r\n", unit="line", limits=limits)
    reader = _Reader(sink, options)
    for block in blocks:
        lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block
        lines = lines.removesuffix(b"\n")
        reader.read(lines, blocks.line)
        blocks.line += lines.count(b"\n") + 1
    reader.finish()


class _Reader:
    """Reads lines in blocks: the fast way if they are all alike, else one by one."""

    def __init__(self, sink: Sink, options: ListOptions) -> None:
        self._sink = sink
        self._data = ObjectData(options.data)
        self._objects = IdObjects(sink, options.column, self._data)

    def finish(self) -> None:
        """Report which columns travel with the IDs, and which do not."""
        self._sink.data_columns = tuple(self._data.names)
        self._sink.columns_left_out = tuple(self._data.left_out)
        self._sink.warn("data_missing", self._data.missing_count)

    def read(self, lines: bytes, first_line: int) -> None:
        """Read whole lines, joined by LF."""
        if self._sink.keeps_records:
            self._read_carefully(lines, first_line)
            return
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
        objects = _objects(lines)
        if objects is None:
            return False
        shapes = set(map(tuple, objects))
        names = {tuple(self._objects.names(shape)) for shape in shapes}
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
        self._objects.note_column(name[0])
        for shape in shapes:
            self._data.note(shape, name[0])
        self._take(plain, [value for value in values if type(value) is int])
        return True

    def _read_carefully(self, lines: bytes, first_line: int) -> None:
        ids = array("q")
        for number, line in enumerate(lines.split(b"\n"), first_line):
            text = line.decode("utf-8", "surrogateescape")
            core = text.strip(id_tokens.TRIMMED)
            if not core:
                self._sink.warn("blank_rows")
            elif core[0] in '{["':
                self._read_json(core, number, ids)
            elif self._sink.is_text and not _NUMBER.fullmatch(core):
                # As a text ID, null and the truth values would be words that somebody wrote.
                reason = id_tokens.read(core).reason if core in _WORDS else _NOT_QUOTED
                self._sink.fault(text, reason or "", line=number, column=1)
            else:
                self._objects.read(Number(text.strip(" \t")), text, ids, {"line": number, "column": 1})
        self._sink.take(ids)

    def _read_json(self, text: str, line: int, ids: array[int]) -> None:
        try:
            # Bytes that are not UTF-8 were decoded to surrogates, which JSON would accept.
            text.encode()
            value = decoder.decode(text)
        except UnicodeEncodeError:
            self._sink.fault(text, id_tokens.read(text).reason or "", line=line, column=1)
            return
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", None) or "it is nested too deep"
            column = getattr(error, "colno", 1)
            self._sink.fault(text, f"The line is not JSON: {problem}.", line=line, column=column)
            return
        self._objects.read(value, text, ids, {"line": line, "column": 1})


def _objects(lines: bytes) -> list[dict[str, Any]] | None:
    """Return what the lines contain if they all are objects, and no name in them can be spelled in two ways."""
    if not lines.startswith(b"{") or b"\\" in lines:
        return None
    try:
        objects = list(map(orjson.loads, lines.split(b"\n")))
    except orjson.JSONDecodeError:
        return None
    return objects if set(map(type, objects)) == {dict} else None
