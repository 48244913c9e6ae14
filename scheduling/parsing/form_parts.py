"""Splits forms into their parts as they arrive: multipart/form-data and application/x-www-form-urlencoded."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.media import MediaType, media_type
from scheduling.parsing.results import Limits


@dataclass
class Part:
    """One field of a form. Read `chunks` to its end before asking for the next part."""

    name: str
    file_name: str | None
    media: MediaType
    chunks: Iterator[bytes]

    def text(self, limits: Limits) -> str:
        """Return the value of a short field."""
        value = b""
        for chunk in self.chunks:
            value += chunk
            if len(value) > limits.max_field_bytes:
                raise errors.FieldTooLong(name=id_tokens.visible(self.name), limit=limits.max_field_bytes)
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            problem = f"in the field {id_tokens.visible(self.name)}"
            raise errors.BrokenText(encoding="UTF-8", problem=problem) from error


class _Multipart:
    """Turns the callbacks of the multipart parser into a stream of parts."""

    def __init__(self, chunks: Iterable[bytes], boundary: str, limits: Limits) -> None:
        self._chunks = iter(chunks)
        self._limits = limits
        # The events of at most one chunk that have not been processed yet.
        self._events: list[tuple[str, bytes]] = []
        self._ended = False

        def record(kind: str) -> Callable[..., None]:
            def callback(data: bytes = b"", start: int = 0, end: int = 0) -> None:
                self._events.append((kind, bytes(data[start:end])))

            return callback

        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": record("begin"),
                    "on_header_field": record("field"),
                    "on_header_value": record("value"),
                    "on_header_end": record("header"),
                    "on_headers_finished": record("headers"),
                    "on_part_data": record("data"),
                    "on_part_end": record("part"),
                    "on_end": record("end"),
                },
            )
        except FormParserError as error:
            raise errors.BrokenForm(problem=str(error).lower()) from error

    def _next(self) -> tuple[str, bytes] | None:
        while not self._events:
            chunk = next(self._chunks, None)
            if chunk is None:
                return None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise errors.BrokenForm(problem=str(error).lower()) from error
            self._events.reverse()
        return self._events.pop()

    def parts(self) -> Iterator[Part]:
        while True:
            event = self._next()
            if event is None:
                if not self._ended:
                    raise errors.BrokenForm(problem="it ends before its closing boundary")
                return
            if event[0] == "end":
                self._ended = True
            elif event[0] == "begin":
                yield self._part()

    def _part(self) -> Part:
        headers: dict[str, str] = {}
        field = value = b""
        while True:
            event = self._next()
            if event is None:
                raise errors.BrokenForm(problem="it ends in the middle of a header")
            kind, data = event
            if kind == "field":
                field += data
            elif kind == "value":
                value += data
            elif kind == "header":
                headers[field.decode("latin-1").lower()] = value.decode("utf-8", "replace")
                field = value = b""
            elif kind == "headers":
                return self._with_headers(headers)

    def _with_headers(self, headers: dict[str, str]) -> Part:
        disposition = media_type(headers.get("content-disposition"))
        name = disposition.parameters.get("name")
        if disposition.type != "form-data" or name is None:
            raise errors.BrokenForm(problem="a part has no name")
        transfer = headers.get("content-transfer-encoding", "binary").strip().lower()
        if transfer not in ("binary", "8bit", "7bit"):
            raise errors.BrokenForm(
                problem=f"the part {id_tokens.visible(name)} has a Content-Transfer-Encoding; send it as binary"
            )
        media = media_type(headers.get("content-type"))
        return Part(name, disposition.parameters.get("filename"), media, self._data())

    def _data(self) -> Iterator[bytes]:
        while True:
            event = self._next()
            if event is None:
                raise errors.BrokenForm(problem="it ends in the middle of a part")
            if event[0] == "part":
                return
            yield event[1]


def multipart_parts(chunks: Iterable[bytes], media: MediaType, limits: Limits) -> Iterator[Part]:
    """Yield the parts of a multipart body as they arrive. Raises BrokenForm."""
    boundary = media.parameters.get("boundary")
    if not boundary:
        raise errors.BrokenForm(problem="its Content-Type does not name a boundary")
    return _checked(_Multipart(chunks, boundary, limits).parts(), limits)


def urlencoded_parts(chunks: Iterable[bytes], limits: Limits) -> Iterator[Part]:
    """Yield the fields of an application/x-www-form-urlencoded body as they arrive."""
    return _checked(_Urlencoded(chunks, limits).parts(), limits)


def _checked(parts: Iterator[Part], limits: Limits) -> Iterator[Part]:
    """Refuse a name that appears twice, and too many parts."""
    seen: set[str] = set()
    for part in parts:
        if part.name in seen:
            raise errors.DoubledField(name=id_tokens.visible(part.name))
        seen.add(part.name)
        if len(seen) > limits.max_fields:
            raise errors.TooManyFields(limit=limits.max_fields)
        yield part
        for _ in part.chunks:
            pass


class _Urlencoded:
    """Turns `a=1&b=2` into a stream of parts. A value may have any length."""

    def __init__(self, chunks: Iterable[bytes], limits: Limits) -> None:
        self._chunks = iter(chunks)
        self._limits = limits
        self._buffer = b""
        self._ended = False

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
            return False
        self._buffer += chunk
        return True

    def parts(self) -> Iterator[Part]:
        while True:
            name = self._name()
            if name is None:
                return
            if name:
                yield Part(name, None, media_type(None), self._value())

    def _name(self) -> str | None:
        """Return the next name, "" for an empty pair, or None at the end."""
        while True:
            ends = [at for at in (self._buffer.find(b"="), self._buffer.find(b"&")) if at >= 0]
            if ends:
                at = min(ends)
                break
            if len(self._buffer) > self._limits.max_field_bytes:
                raise errors.BrokenForm(problem="a field has a name that is too long")
            if not self._more():
                if not self._buffer:
                    return None
                at = len(self._buffer)
                break
        raw, self._buffer = self._buffer[:at], self._buffer[at:]
        if self._buffer.startswith(b"&") and not raw:
            self._buffer = self._buffer[1:]
            return ""
        self._buffer = self._buffer.removeprefix(b"=")
        try:
            return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
        except UnicodeDecodeError as error:
            raise errors.BrokenForm(problem="the name of a field is not UTF-8") from error

    def _value(self) -> Iterator[bytes]:
        while True:
            end = self._buffer.find(b"&")
            if end >= 0:
                yield _unquoted(self._buffer[:end])
                self._buffer = self._buffer[end + 1 :]
                return
            # An escape may be split between two chunks.
            escape = self._buffer.rfind(b"%", -2)
            cut = len(self._buffer) if escape < 0 or self._ended else escape
            if cut:
                yield _unquoted(self._buffer[:cut])
                self._buffer = self._buffer[cut:]
            if self._ended and not self._buffer:
                return
            self._more()


def _unquoted(raw: bytes) -> bytes:
    # The separators of a list first, since each takes only one pass in C.
    plain = raw.replace(b"+", b" ").replace(b"%2C", b",").replace(b"%0D%0A", b"\r\n").replace(b"%0A", b"\n")
    return unquote_to_bytes(plain) if b"%" in plain else plain
