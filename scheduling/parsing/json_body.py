"""Reads a JSON body, an object whose payload may have any length, in constant memory.

It uses a scanner of our own, because the available parsers keep a whole string in memory (a list of ten million IDs
may be one string), don't give the spelling of a number (so that 1e3 can't be named), and some end the process on
a long integer or take gigabytes for brackets. Here the digits of a number are counted before it becomes an int,
everything but the list has a limited depth and length, and a field that is given twice is refused. The list is read
block by block by a fast parser, or token by token where that parser can't be used.
"""

from __future__ import annotations

import codecs
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import orjson

from scheduling.core import id_tokens
from scheduling.parsing import errors, id_objects
from scheduling.parsing.data_columns import ObjectData
from scheduling.parsing.id_objects import IdObjects
from scheduling.parsing.json_scanner import LITERALS, DoubledName, Scanner, decoder, exact_decoder, shown
from scheduling.parsing.list_reader import ListReader
from scheduling.parsing.sink import Sink
from scheduling.parsing.text_list import plain_ids, read_text

_STRING_PART = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})++')
_HALF_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_IN_ARRAY = b"0123456789, \t\n\r"
TOKENS_SENT_BACK = 1000
BYTES_SENT_BACK = 64 * 1024
_ESCAPE_BYTES = 6


class JsonBody:
    """Reads one body: its fields into `fields`, its list into the sink."""

    def __init__(self, chunks: Iterator[bytes], lists: ListReader) -> None:
        self._in = Scanner(chunks, lists.limits)
        self._lists = lists
        self._limits = lists.limits
        # Whether a field after the payload says how the payload is to be read.
        self.must_read_again = False
        self.fields: dict[str, Any] = {}
        self.payload_given = False
        self.payload_null = False
        self.payload_as_sent: Any = None

    def read(self) -> None:
        """Read all of it. Raises Broken and NotAList errors, TooManyIds."""
        scan = self._in
        first = scan.peek()
        if first == b"":
            raise errors.BodyEmpty
        if first != b"{":
            self._refuse_top_level(first)
        scan.at += 1
        names: set[str] = set()
        if scan.peek() == b"}":
            scan.at += 1
        else:
            self._read_members(names)
        if scan.peek():
            scan.broken(f"{scan.visible_rest()} follows the end of the object")

    def _refuse_top_level(self, first: bytes) -> NoReturn:
        if first == b"[":
            raise errors.NotAnObject(what="an array")
        if first == b'"':
            raise errors.NotAnObject(what="a string")
        if first in b"-0123456789":
            self._in.number()
            raise errors.NotAnObject(what="a number")
        raise errors.NotAnObject(what=self._in.literal().decode())

    def _read_members(self, names: set[str]) -> None:
        scan = self._in
        fields_bytes = 0
        while True:
            if scan.peek() != b'"':
                scan.broken(f"the name of a field is expected, but {shown(scan.peek())} is there")
            name = self.decode(scan.string())
            if name in names:
                raise errors.DoubledField(name=id_tokens.visible(name))
            names.add(name)
            if len(names) > self._limits.max_fields:
                raise errors.TooManyFields(limit=self._limits.max_fields)
            scan.expect(b":", "after a field's name")
            if name == "payload":
                self._read_payload()
            else:
                began = scan.passed()
                self.fields[name] = self._read_value(name)
                if self._lists.options.note(name, self.fields[name]):
                    self.must_read_again |= self.payload_given
                fields_bytes += scan.passed() - began
                if fields_bytes > self._limits.max_fields_bytes:
                    raise errors.FieldsTooLong(limit=self._limits.max_fields_bytes)
            if scan.peek() == b"}":
                scan.at += 1
                return
            scan.expect(b",", "between fields")

    def _read_value(self, name: str) -> Any:
        scan = self._in
        first = scan.peek()
        if first == b'"':
            return self.decode(scan.string())
        if first and first in b"[{":
            # An object with this name is the data of one ID, whose numbers stay as they are spelled.
            is_data = name == "data" and first == b"{"
            return self.decode(scan.nested(), exact_decoder if is_data else decoder)
        if first and first in b"-0123456789":
            return self.decode(scan.number())
        return LITERALS[scan.literal()]

    def decode(self, raw: bytes, by: json.JSONDecoder = decoder) -> Any:
        """Return the value of a short piece of JSON. Refuses the body if the piece is not valid."""
        try:
            value = by.decode(raw.decode())
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            self._in.broken(f"the byte 0x{raw[error.start]:02X} in {shown(raw)} is not UTF-8")
        except UnicodeEncodeError:
            self._in.broken(f"{shown(raw)} contains half a character (a lone surrogate)")
        except DoubledName as error:
            raise errors.DoubledField(name=id_tokens.visible(str(error))) from error
        except (ValueError, RecursionError) as error:
            self._in.broken(f"{getattr(error, 'msg', error)} in {shown(raw)}")
        return value

    def _read_payload(self) -> None:
        scan = self._in
        first = scan.peek()
        self.payload_given = True
        if first == b'"':
            scan.at += 1
            self._read_payload_string()
        elif first == b"[":
            scan.at += 1
            self.payload_as_sent = _Array(self, scan, self._lists).read()
        elif first == b"{":
            raise errors.PayloadNotAList(what="an object")
        elif first and first in b"-0123456789":
            digits = scan.number().decode()
            ids = array("q")
            sink = self._lists.sink
            sink.token(digits, ids, index=0)
            _warn_of_javascript(sink, ids)
            sink.take(ids)
            self.payload_as_sent = ids[0] if ids else None
        else:
            value = LITERALS[scan.literal()]
            if value is not None:
                raise errors.PayloadNotAList(what=str(value).lower())
            self.payload_null = True

    def _read_payload_string(self) -> None:
        """Read a string like plain text, as it arrives."""
        copies: list[bytes] | None = []
        length = 0

        def pieces() -> Iterator[bytes]:
            nonlocal copies, length
            for piece in _string_pieces(self._in):
                length += len(piece)
                if copies is not None and length <= BYTES_SENT_BACK:
                    copies.append(piece)
                else:
                    copies = None
                yield piece

        sink = self._lists.sink
        self._lists.refuse_column_options()
        read_text(pieces(), sink, self._limits, one_per_line=self._lists.options.is_text)
        if copies is not None and sink.entries_count <= TOKENS_SENT_BACK:
            self.payload_as_sent = b"".join(copies).decode()


def _string_pieces(scan: Scanner) -> Iterator[bytes]:
    """Yield the content of a string as UTF-8, up to its closing quote. The opening quote was already read."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    while True:
        match = _STRING_PART.match(scan.buffer, scan.at)
        if match is None:
            if scan.buffer[scan.at : scan.at + 1] == b'"':
                break
            remaining = len(scan.buffer) - scan.at
            cut_escape = remaining < _ESCAPE_BYTES and scan.buffer[scan.at : scan.at + 1] in (b"", b"\\")
            if not (cut_escape and scan.more()):
                scan.broken_string()
            continue
        raw = match[0]
        # The second half of a surrogate pair may come with the next chunk.
        if _HALF_ESCAPE.search(raw) and len(scan.buffer) - match.end() < _ESCAPE_BYTES and scan.more():
            continue
        scan.at = match.end()
        try:
            text = utf8.decode(raw)
            # All escapes of a piece at once: one by one, each would cost a microsecond.
            yield (json.loads(f'"{text}"') if "\\" in text else text).encode()
        except UnicodeError:
            scan.broken("a string is not UTF-8 or contains half a character (a lone surrogate)")
    try:
        utf8.decode(b"", final=True)
    except UnicodeError:
        scan.broken("a string is not UTF-8")
    scan.at += 1


class _Array:
    """Reads the items of a payload that is an array. Faults name the index of the item."""

    def __init__(self, body: JsonBody, scan: Scanner, lists: ListReader) -> None:
        self._body = body
        self._in = scan
        self._sink = lists.sink
        self._data = ObjectData(lists.options.data)
        self._objects = IdObjects(self._sink, lists.options.column, self._data)
        self._index = 0
        self._as_sent: list[int | str] | None = []
        self._ids = array("q")

    def read(self) -> list[int | str] | None:
        """Read to the closing bracket. Returns the items as they were sent if they are few, else None."""
        scan = self._in
        if scan.peek() == b"]":
            scan.at += 1
            return []
        careful_until = 0
        while True:
            if scan.passed() >= careful_until and not self._read_block():
                careful_until = scan.passed() + len(scan.buffer) - scan.at
            self._read_item()
            after = scan.peek()
            if after == b"]":
                scan.at += 1
                break
            scan.expect(b",", "between items")
        self._take_ids()
        self._sink.data_columns = tuple(self._data.names)
        self._sink.columns_left_out = tuple(self._data.left_out)
        self._sink.warn("data_missing", self._data.missing_count)
        return self._as_sent

    def _take_ids(self) -> None:
        if self._ids:
            self._sink.take(self._ids)
            self._ids = array("q")

    def _keep(self, values: list[Any]) -> None:
        if self._as_sent is not None:
            self._as_sent += values
            if len(self._as_sent) > TOKENS_SENT_BACK:
                self._as_sent = None

    def _read_block(self) -> bool:
        """Read the items up to the last comma in the buffer if they are plain. Returns whether it could."""
        scan = self._in
        cut = scan.buffer.rfind(b",", scan.at)
        if cut <= scan.at or self._sink.keeps_records:
            return False
        self._take_ids()
        block = scan.buffer[scan.at : cut]
        has_strings = bool(block.translate(None, _IN_ARRAY))
        if has_strings and block.translate(None, _IN_ARRAY + b'"'):
            return False
        try:
            values = orjson.loads(b"[" + block + b"]")
        except orjson.JSONDecodeError:
            return False
        if not values:
            return False
        read = _plain_strings(values) if has_strings else _plain_numbers(values)
        if read is None:
            return False
        self._sink.take(read[0])
        self._sink.warn("leading_zeros", read[1])
        numbers = [value for value in values if type(value) is int] if has_strings else values
        _warn_of_javascript(self._sink, numbers)
        self._keep(values)
        self._index += len(values)
        scan.at = cut + 1
        return True

    def _read_item(self) -> None:
        scan = self._in
        first = scan.peek()
        at = self._index
        self._index += 1
        if first == b'"':
            text = self._body.decode(scan.string())
            self._sink.token(text, self._ids, empty=id_tokens.EMPTY, index=at)
            self._keep([text])
        elif first and first in b"-0123456789":
            digits = scan.number().decode()
            count = len(self._ids)
            self._sink.token(digits, self._ids, index=at)
            _warn_of_javascript(self._sink, self._ids[count:])
            self._keep(self._ids[count:].tolist())
        elif first and first in b"[{":
            raw = scan.nested()
            self._body.decode(raw)
            if first == b"[":
                self._sink.fault(_text(raw), "It is a list inside the list.", index=at)
            else:
                self._read_object(raw, at)
        elif first == b"]":
            scan.broken("a value is expected after the comma, but ] is there")
        else:
            # Even of a text list: null would be a word that somebody wrote.
            word = scan.literal().decode()
            self._sink.fault(word, id_tokens.read(word).reason or "", index=at)

    def _read_object(self, raw: bytes, at: int) -> None:
        count = len(self._ids)
        self._objects.read(id_objects.decoder.decode(raw.decode()), _text(raw), self._ids, {"index": at})
        self._keep(self._ids[count:].tolist())


def _text(raw: bytes) -> str:
    return raw[: 4 * id_tokens.SHOWN_CHARACTERS].decode("utf-8", "surrogateescape")


def _plain_numbers(values: list[Any]) -> tuple[array[int], int] | None:
    try:
        numbers = array("q", values)
    except (OverflowError, TypeError):
        return None
    return None if 0 in values else (numbers, 0)


def _plain_strings(values: list[Any]) -> tuple[array[int], int] | None:
    read = plain_ids(",".join(map(str, values)).encode())
    # A string that contains a comma would count as two.
    return read if read is not None and len(read[0]) == len(values) else None


def _warn_of_javascript(sink: Sink, numbers: Sequence[int]) -> None:
    if numbers and max(numbers) >= id_tokens.PAST_JAVASCRIPT:
        sink.warn("past_2_53", sum(number >= id_tokens.PAST_JAVASCRIPT for number in numbers))
