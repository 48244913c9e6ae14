"""Scans the bytes of a JSON body: strings, numbers as they are spelled, and bounded arrays and objects."""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from scheduling.core import exact_json, id_tokens
from scheduling.parsing import errors
from scheduling.parsing.results import Limits

_SKIP = re.compile(rb"[ \t\n\r]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+\-]?[0-9]+)?")
_NUMBER_BYTES = re.compile(rb"[0-9+\-.eE]+")
# Possessive quantifiers (`++`) never backtrack, however long the string is.
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"')
_LITERAL = re.compile(rb"[a-zA-Z]+")
LITERALS = {b"true": True, b"false": False, b"null": None}
# What matters inside an array or object that is taken whole: strings, quotes that are not closed yet, brackets.
_NESTED = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"|["\[\]{}]', re.DOTALL)


class Scanner:
    """The bytes of the body from the current position on, and the line and column of that position."""

    def __init__(self, chunks: Iterator[bytes], limits: Limits) -> None:
        self._chunks = chunks
        self._limits = limits
        self._line = 1
        self._line_began = 0
        self._passed = 0
        self.buffer = b""
        self.at = 0
        self.ended = False

    def more(self) -> bool:
        """Append one more chunk to the buffer. Returns False at the end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            self.ended = True
            return False
        self._forget()
        self.buffer += chunk
        return True

    def _forget(self) -> None:
        done = self.buffer[: self.at]
        self._line += done.count(b"\n")
        last = done.rfind(b"\n")
        if last >= 0:
            self._line_began = self._passed + last + 1
        self._passed += self.at
        self.buffer = self.buffer[self.at :]
        self.at = 0

    def passed(self) -> int:
        """Return how many bytes have been read so far."""
        return self._passed + self.at

    def place(self) -> dict[str, int]:
        """Return the current line and column (in bytes), both from 1."""
        self._forget()
        return {"line": self._line, "column": self._passed - self._line_began + 1}

    def broken(self, problem: str) -> NoReturn:
        """Refuse the body, because it is not JSON at this position."""
        raise errors.BrokenJson(problem=problem, **self.place())

    def skip_space(self) -> None:
        """Advance to the next byte that is not white space."""
        while True:
            match = _SKIP.match(self.buffer, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.buffer) or not self.more():
                return

    def peek(self) -> bytes:
        """Return the next byte that is not white space, or b"" at the end."""
        self.skip_space()
        return self.buffer[self.at : self.at + 1]

    def expect(self, byte: bytes, where: str) -> None:
        """Read `byte`, or refuse the body."""
        actual = self.peek()
        if actual != byte:
            self.broken(f"{byte.decode()} is expected {where}, but {shown(actual)} is there")
        self.at += 1

    def token(self, pattern: re.Pattern[bytes]) -> bytes:
        """Return what `pattern` matches here, reading more chunks if needed, or b"" if nothing."""
        while True:
            match = pattern.match(self.buffer, self.at)
            if match is not None and match.end() < len(self.buffer):
                break
            if len(self.buffer) - self.at > self._limits.max_field_bytes:
                if match is None:
                    return b""
                limit = self._limits.max_field_bytes
                self.broken(f"a token has more than {limit:,} bytes: {self.visible_rest()}")
            if not self.more():
                match = pattern.match(self.buffer, self.at)
                if match is None:
                    return b""
                break
        text = match[0]
        self.at += len(text)
        return text

    def visible_rest(self) -> str:
        """Return up to 40 characters from here, for display."""
        return shown(self.buffer[self.at : self.at + id_tokens.SHOWN_CHARACTERS])

    def string(self) -> bytes:
        """Return the raw string that begins here, with its quotes."""
        raw = self.token(_STRING)
        if not raw:
            self.broken_string()
        return raw

    def broken_string(self) -> NoReturn:
        """Refuse the body, because the string here is broken."""
        self.broken(f"a string has a control character, an invalid escape or no end: {self.visible_rest()}")

    def number(self) -> bytes:
        """Return the number that begins here, as it is spelled."""
        start = self.token(_NUMBER_BYTES)
        if not _NUMBER.fullmatch(start):
            self.at -= len(start)
            self.broken(f"{shown(start) or self.visible_rest()} is not a JSON number")
        return start

    def literal(self) -> bytes:
        """Return true, false or null."""
        word = self.token(_LITERAL)
        if word not in LITERALS:
            self.at -= len(word)
            self.broken(f"{self.visible_rest() or 'the end'} is not a JSON value")
        return word

    def nested(self) -> bytes:
        """Return the raw array or object that begins here. Checks its depth and length, but not its grammar."""
        while True:
            end = self._end_of_nested()
            if end is not None:
                raw = self.buffer[self.at : end]
                self.at = end
                return raw
            if len(self.buffer) - self.at > self._limits.max_field_bytes:
                self.broken(f"an array or object has more than {self._limits.max_field_bytes:,} bytes")
            if not self.more():
                self.broken("an array or object has no end, or a string in it is broken")

    def _end_of_nested(self) -> int | None:
        """Return where the array or object that begins here ends, or None if its end is not in the buffer."""
        depth = 0
        for match in _NESTED.finditer(self.buffer, self.at):
            if match.end() - self.at > self._limits.max_field_bytes:
                return None
            byte = match[0]
            if byte in (b"[", b"{"):
                depth += 1
                if depth > self._limits.max_json_depth:
                    self.at = match.start()
                    token = self.visible_rest()
                    raise errors.JsonTooDeep(limit=self._limits.max_json_depth, token=token, **self.place())
            elif byte in (b"]", b"}"):
                depth -= 1
                if depth == 0:
                    return match.end()
            elif byte == b'"':
                return None
        return None


def shown(raw: bytes) -> str:
    """Return bytes of the body for display."""
    return id_tokens.visible(raw.decode("utf-8", "surrogateescape")) or "the end"


class DoubledName(Exception):
    """A name appears twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise DoubledName(next(name for name in names if names.count(name) > 1))
    return result


def _whole(digits: str) -> int | str:
    # `int` is slow for thousands of digits, and no value here is that large, so such a number stays text.
    return int(digits) if len(digits) <= 20 else digits


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_constant=_no_constant)
exact_decoder = exact_json.decoder(_object)
