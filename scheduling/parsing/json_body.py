"""A JSON body: an object whose payload may have any length, read in constant memory.

A scanner of our own. The parsers at hand hold a string in memory whole (a list of ten million IDs may be one
string), give numbers without their spelling (so that 1e3 cannot be named), and some end the process on long
integers or take gigabytes for brackets (field case 46). Here a number is never turned into an int before its
digits are counted, depth and length of all but the list are bounded, a field given twice is refused, and the
list is read block by block by a fast parser, or token by token where it is not plain.
"""

import codecs
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import orjson

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.json_scanner import LITERALS, Doubled, Scanner, decoder, shown
from scheduling.parsing.results import Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.text_list import plain_ids, read_text

_STRING_PART = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})++')
_ESCAPES = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+|\\.")
_HALF_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_IN_ARRAY = b"0123456789, \t\n\r"
TOKENS_SENT_BACK = 1000
BYTES_SENT_BACK = 64 * 1024
_ESCAPE_BYTES = 6


class JsonBody:
    """Reads one body: the fields into `fields`, the list into the sink."""

    def __init__(self, chunks: Iterator[bytes], sink: Sink, limits: Limits) -> None:
        self._in = Scanner(chunks, limits)
        self._sink = sink
        self._limits = limits
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
        seen: set[str] = set()
        if scan.peek() == b"}":
            scan.at += 1
        else:
            self._read_members(seen)
        if scan.peek():
            scan.broken(f"{scan.shown_here()} stands after the end")

    def _refuse_top_level(self, first: bytes) -> NoReturn:
        if first == b"[":
            raise errors.NotAnObject(what="an array")
        if first == b'"':
            raise errors.NotAnObject(what="a string")
        if first in b"-0123456789":
            self._in.number()
            raise errors.NotAnObject(what="a number")
        raise errors.NotAnObject(what=self._in.literal().decode())

    def _read_members(self, seen: set[str]) -> None:
        scan = self._in
        while True:
            if scan.peek() != b'"':
                scan.broken(f"the name of a field expected, {shown(scan.peek())} found")
            name = self.decode(scan.string())
            if name in seen:
                raise errors.DoubledField(name=id_tokens.visible(name))
            seen.add(name)
            if len(seen) > self._limits.max_fields:
                raise errors.TooManyFields(limit=self._limits.max_fields)
            scan.expect(b":", "after a field's name")
            if name == "payload":
                self._read_payload()
            else:
                self.fields[name] = self._read_value()
            if scan.peek() == b"}":
                scan.at += 1
                return
            scan.expect(b",", "between fields")

    def _read_value(self) -> Any:
        scan = self._in
        first = scan.peek()
        if first == b'"':
            return self.decode(scan.string())
        if first and first in b"[{":
            return self.decode(scan.nested())
        if first and first in b"-0123456789":
            return self.decode(scan.number())
        return LITERALS[scan.literal()]

    def decode(self, raw: bytes) -> Any:
        """The value of a short piece of JSON, its grammar checked now."""
        try:
            value = decoder.decode(raw.decode())
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            self._in.broken(f"it is not UTF-8 near {shown(raw)}, byte {raw[error.start]:#04x}")
        except UnicodeEncodeError:
            self._in.broken(f"half a character (a lone surrogate) in {shown(raw)}")
        except Doubled as error:
            raise errors.DoubledField(name=id_tokens.visible(str(error))) from error
        except (ValueError, RecursionError) as error:
            self._in.broken(f"{getattr(error, 'msg', error)}, in {shown(raw)}")
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
            self.payload_as_sent = _Array(self, scan, self._sink).read()
        elif first == b"{":
            raise errors.PayloadNotAList(what="an object")
        elif first and first in b"-0123456789":
            spelled = scan.number().decode()
            found = array("q")
            self._sink.token(spelled, found, index=0)
            _warn_of_javascript(self._sink, found)
            self._sink.take(found)
            self.payload_as_sent = found[0] if found else None
        else:
            value = LITERALS[scan.literal()]
            if value is not None:
                raise errors.PayloadNotAList(what=str(value).lower())
            self.payload_null = True

    def _read_payload_string(self) -> None:
        """A string is read like plain text, as it passes."""
        kept: list[bytes] | None = []
        length = 0

        def pieces() -> Iterator[bytes]:
            nonlocal kept, length
            for piece in _string_pieces(self._in):
                length += len(piece)
                if kept is not None and length <= BYTES_SENT_BACK:
                    kept.append(piece)
                else:
                    kept = None
                yield piece

        read_text(pieces(), self._sink, self._limits)
        if kept is not None and self._sink.entries_count <= TOKENS_SENT_BACK:
            self.payload_as_sent = b"".join(kept).decode()


def _string_pieces(scan: Scanner) -> Iterator[bytes]:
    """Yield what a string holds, as UTF-8, up to its closing quote; the opening one was read."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    while True:
        match = _STRING_PART.match(scan.buffer, scan.at)
        if match is None:
            if scan.buffer[scan.at : scan.at + 1] == b'"':
                break
            left = len(scan.buffer) - scan.at
            cut_escape = left < _ESCAPE_BYTES and scan.buffer[scan.at : scan.at + 1] in (b"", b"\\")
            if not (cut_escape and scan.more()):
                scan.broken_string()
            continue
        raw = match[0]
        # The second half of a character may come with the next chunk, or the rest of it.
        if _HALF_ESCAPE.search(raw) and len(scan.buffer) - match.end() < _ESCAPE_BYTES and scan.more():
            continue
        scan.at = match.end()
        try:
            utf8.decode(raw)
            yield _ESCAPES.sub(_unescaped, raw) if b"\\" in raw else raw
        except UnicodeError:
            scan.broken("a string is not UTF-8, or has half a character (a lone surrogate)")
    try:
        utf8.decode(b"", final=True)
    except UnicodeError:
        scan.broken("a string is not UTF-8")
    scan.at += 1


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return json.loads(b'"' + escape[0] + b'"').encode()


class _Array:
    """Reads the items of a payload that is an array; faults have the item's index."""

    def __init__(self, body: JsonBody, scan: Scanner, sink: Sink) -> None:
        self._body = body
        self._in = scan
        self._sink = sink
        self._index = 0
        self._as_sent: list[int | str] | None = []
        self._found = array("q")

    def read(self) -> list[int | str] | None:
        """Read to the closing bracket; return the items as they were sent if they are few."""
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
        self._take_found()
        return self._as_sent

    def _take_found(self) -> None:
        if self._found:
            self._sink.take(self._found)
            self._found = array("q")

    def _keep(self, values: list[Any]) -> None:
        if self._as_sent is not None:
            self._as_sent += values
            if len(self._as_sent) > TOKENS_SENT_BACK:
                self._as_sent = None

    def _read_block(self) -> bool:
        """Read the items up to the last comma in sight, if they are plain. False: read them one by one."""
        scan = self._in
        cut = scan.buffer.rfind(b",", scan.at)
        if cut <= scan.at:
            return False
        self._take_found()
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
            self._sink.token(text, self._found, empty="nothing in it", index=at)
            self._keep([text])
        elif first and first in b"-0123456789":
            spelled = scan.number().decode()
            count = len(self._found)
            self._sink.token(spelled, self._found, index=at)
            _warn_of_javascript(self._sink, self._found[count:])
            self._keep(self._found[count:].tolist())
        elif first and first in b"[{":
            raw = scan.nested()
            self._body.decode(raw)
            what = "a list inside the list" if first == b"[" else "an object, not an ID"
            self._sink.fault(_text(raw), what, index=at)
        elif first == b"]":
            scan.broken("a value expected after the comma, ] found")
        else:
            self._sink.token(scan.literal().decode(), self._found, index=at)


def _text(raw: bytes) -> str:
    return raw[: 4 * id_tokens.SHOWN_CHARACTERS].decode("utf-8", "surrogateescape")


def _plain_numbers(values: list[Any]) -> tuple[array, int] | None:
    try:
        found = array("q", values)
    except (OverflowError, TypeError):
        return None
    return None if 0 in values else (found, 0)


def _plain_strings(values: list[Any]) -> tuple[array, int] | None:
    read = plain_ids(",".join(map(str, values)).encode())
    # A string with a comma in it would count twice.
    return read if read is not None and len(read[0]) == len(values) else None


def _warn_of_javascript(sink: Sink, numbers: Sequence[int]) -> None:
    if numbers and max(numbers) >= id_tokens.PAST_JAVASCRIPT:
        sink.warn("past_2_53", sum(number >= id_tokens.PAST_JAVASCRIPT for number in numbers))
