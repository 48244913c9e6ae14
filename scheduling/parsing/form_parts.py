"""Splits forms into their parts as they arrive: multipart/form-data and application/x-www-form-urlencoded.

Both are searched with `bytes.find` from a position that only advances, so the time is linear in the form. The buffer
holds at most a chunk and an unfinished name, header or boundary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.media import MediaType, media_type
from scheduling.parsing.results import Limits
from scheduling.parsing.streams import sized

_MAX_BOUNDARY_BYTES = 200
_MAX_HEADER_BYTES = 16 * 1024
_MAX_HEADERS = 50


@dataclass
class Part:
    """One field of a form. Read `chunks` to its end before asking for the next part."""

    name: str
    file_name: str | None
    media: MediaType
    chunks: Iterator[bytes]

    def text(self, limits: Limits) -> str:
        """Return the value of a short field."""
        value = bytearray()
        for chunk in self.chunks:
            value += chunk
            if len(value) > limits.max_field_bytes:
                raise errors.FieldTooLong(name=id_tokens.visible(self.name), limit=limits.max_field_bytes)
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            problem = f"the byte 0x{value[error.start]:02X} in the field {id_tokens.visible(self.name)}"
            raise errors.BrokenText(encoding="UTF-8", problem=problem) from error


def multipart_parts(chunks: Iterable[bytes], media: MediaType, limits: Limits) -> Iterator[Part]:
    """Yield the parts of a multipart body as they arrive. Raises BrokenForm."""
    boundary = media.parameters.get("boundary", "").encode("utf-8", "replace")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise errors.BrokenForm(problem="its Content-Type does not name a boundary")
    return _validated(_Multipart(sized(chunks, limits.block_bytes), boundary).parts(), limits)


def urlencoded_parts(chunks: Iterable[bytes], limits: Limits) -> Iterator[Part]:
    """Yield the fields of an application/x-www-form-urlencoded body as they arrive."""
    return _validated(_Urlencoded(sized(chunks, limits.block_bytes), limits).parts(), limits)


def _validated(parts: Iterator[Part], limits: Limits) -> Iterator[Part]:
    """Refuse a name that appears twice, and too many parts. Empty ones count too, but are left out."""
    names: set[str] = set()
    for count, part in enumerate(parts, 1):
        if count > limits.max_fields:
            raise errors.TooManyFields(limit=limits.max_fields)
        if not part.name:
            continue
        if part.name in names:
            raise errors.DoubledField(name=id_tokens.visible(part.name))
        names.add(part.name)
        yield part
        for _ in part.chunks:
            pass


class _Buffer:
    """The bytes of a form from the current position on."""

    def __init__(self, chunks: Iterable[bytes], start: bytes = b"") -> None:
        self._chunks = iter(chunks)
        self.data = start
        self.at = 0

    def __len__(self) -> int:
        return len(self.data) - self.at

    def more(self) -> bool:
        """Append one more chunk and drop what was taken. Returns False at the end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self.data = self.data[self.at :] + chunk
        self.at = 0
        return True

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes and advance past them."""
        data = self.data[self.at : self.at + count]
        self.at += len(data)
        return data

    def find(self, pattern: bytes) -> int:
        """Return how many bytes precede `pattern`, or -1 if it is not in the buffer."""
        index = self.data.find(pattern, self.at)
        return index - self.at if index >= 0 else -1


class _Multipart:
    """Splits a multipart body at its boundary."""

    def __init__(self, chunks: Iterable[bytes], boundary: bytes) -> None:
        # The first boundary has no line end before it.
        self._buffer = _Buffer(chunks, b"\r\n")
        self._delimiter = b"\r\n--" + boundary

    def parts(self) -> Iterator[Part]:
        """Yield the parts up to the closing boundary. What follows it is not read."""
        self._need(len(self._delimiter), "before its first boundary")
        if self._buffer.take(len(self._delimiter)) != self._delimiter:
            raise errors.BrokenForm(problem="it does not begin with its boundary")
        while not self._is_closing_boundary():
            yield self._part()
        while self._buffer.more():
            self._buffer.at = len(self._buffer.data)

    def _need(self, count: int, where: str) -> None:
        while len(self._buffer) < count:
            if not self._buffer.more():
                raise errors.BrokenForm(problem=f"it ends {where}")

    def _is_closing_boundary(self) -> bool:
        self._need(2, "after a boundary")
        if self._buffer.data.startswith(b"--", self._buffer.at):
            return True
        # Spaces may fill the line of a boundary.
        line = self._until(b"\r\n", "after a boundary")
        if line.strip(b" \t"):
            raise errors.BrokenForm(problem="a line that begins with its boundary goes on")
        return False

    def _until(self, end: bytes, where: str) -> bytes:
        """Return the bytes before `end`, and advance past it."""
        while (length := self._buffer.find(end)) < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise errors.BrokenForm(problem=f"a header has more than {_MAX_HEADER_BYTES:,} bytes")
            self._need(len(self._buffer) + 1, where)
        data = self._buffer.take(length)
        self._buffer.take(len(end))
        return data

    def _part(self) -> Part:
        headers = self._headers()
        disposition = media_type(headers.get("content-disposition"))
        name = disposition.parameters.get("name")
        if disposition.type != "form-data" or name is None:
            raise errors.BrokenForm(problem="a part has no name")
        transfer = headers.get("content-transfer-encoding", "binary").strip().lower()
        if transfer not in ("binary", "8bit", "7bit"):
            problem = f"the part {id_tokens.visible(name)} has a Content-Transfer-Encoding; send it as binary"
            raise errors.BrokenForm(problem=problem)
        media = media_type(headers.get("content-type"))
        return Part(name, disposition.parameters.get("filename"), media, self._data())

    def _headers(self) -> dict[str, str]:
        lines: list[bytes] = []
        size = 0
        while line := self._until(b"\r\n", "in the middle of a header"):
            size += len(line)
            if size > _MAX_HEADER_BYTES or len(lines) == _MAX_HEADERS:
                problem = (
                    f"a part has more than {_MAX_HEADERS} headers or {_MAX_HEADER_BYTES:,} bytes of them"
                )
                raise errors.BrokenForm(problem=problem)
            lines.append(line)
        pairs = (line.partition(b":") for line in lines)
        return {
            name.decode("latin-1").strip().lower(): value.decode("utf-8", "replace").strip()
            for name, _, value in pairs
        }

    def _data(self) -> Iterator[bytes]:
        while (length := self._buffer.find(self._delimiter)) < 0:
            # The end of the buffer may be the beginning of the boundary.
            certain = len(self._buffer) - len(self._delimiter) + 1
            if certain > 0:
                yield self._buffer.take(certain)
            self._need(len(self._buffer) + 1, "in the middle of a part")
        if length:
            yield self._buffer.take(length)
        self._buffer.take(len(self._delimiter))


class _Urlencoded:
    """Turns `a=1&b=2` into a stream of parts. A value may have any length."""

    def __init__(self, chunks: Iterable[bytes], limits: Limits) -> None:
        self._buffer = _Buffer(chunks)
        self._limits = limits

    def parts(self) -> Iterator[Part]:
        """Yield the fields. That of an empty pair has the name ""."""
        while len(self._buffer) or self._buffer.more():
            raw = self._name()
            try:
                name = unquote_to_bytes(raw.replace(b"+", b" ")).decode()
            except UnicodeDecodeError as error:
                raise errors.BrokenForm(problem="the name of a field is not UTF-8") from error
            yield Part(name, None, media_type(None), self._value())
            if not name:
                # It was not read by anybody else.
                for _ in self._value():
                    pass

    def _name(self) -> bytes:
        """Return the bytes before the next `=`, and advance past it, or before the next `&` or the end."""
        while True:
            end = self._buffer.find(b"&")
            equals = self._buffer.data.find(
                b"=", self._buffer.at, self._buffer.at + end if end >= 0 else None
            )
            if equals >= 0:
                name = self._buffer.take(equals - self._buffer.at)
                self._buffer.take(1)
                return name
            if end >= 0:
                return self._buffer.take(end)
            if len(self._buffer) > self._limits.max_field_bytes:
                raise errors.BrokenForm(problem="a field has a name that is too long")
            if not self._buffer.more():
                return self._buffer.take(len(self._buffer))

    def _value(self) -> Iterator[bytes]:
        """Yield the bytes before the next `&`, and advance past it."""
        while (length := self._buffer.find(b"&")) < 0:
            # An escape may be split between two chunks.
            escape = self._buffer.data.find(b"%", max(self._buffer.at, len(self._buffer.data) - 2))
            certain = (escape if escape >= 0 else len(self._buffer.data)) - self._buffer.at
            if certain:
                yield _unquoted(self._buffer.take(certain))
            if not self._buffer.more():
                yield _unquoted(self._buffer.take(len(self._buffer)))
                return
        yield _unquoted(self._buffer.take(length))
        self._buffer.take(1)


def _unquoted(raw: bytes) -> bytes:
    # The separators of a list first, since each takes only one pass in C.
    plain = raw.replace(b"+", b" ").replace(b"%2C", b",").replace(b"%0D%0A", b"\r\n").replace(b"%0A", b"\n")
    return unquote_to_bytes(plain) if b"%" in plain else plain
