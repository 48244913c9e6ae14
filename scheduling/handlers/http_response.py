"""Reads one HTTP/1 response from bytes as they arrive. Pure: no sockets, no clock.

What is made of a response depends on its bytes alone, not on how the network splits them into packets: a line
counts once its end has arrived, headers once the blank line has. The status line decides what becomes of an ID;
anything wrong after it is only a note. So this reader accepts what an HTTP library has to refuse: a 204 with a
body, two Content-Lengths, Content-Length beside chunked, a header line without a colon, a body that is cut.
Source: RFC 9112, sections 4 to 7.
"""

import re
from enum import Enum, auto

# The bound on the headers of a response, with those of interim responses (1xx) before it.
HEAD_BYTES = 64 * 1024
# This much of a body is read, so that its connection can be used again; the rest of a longer one is not read.
BODY_BYTES = 64 * 1024
# A chunked body may take more bytes than it contains.
_CHUNKED_BYTES = 1024 * 1024
_CHUNK_LINE_BYTES = 4 * 1024
# Bytes of the response before that are skipped at most.
_STRAY_BYTES = 16 * 1024

_STATUS_LINE = re.compile(rb"HTTP/(\d)(?:\.(\d))?[ \t]+([1-9]\d\d)(?:[ \t][^\n]*|\r)?\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?\Z", re.DOTALL)
# A head in which nothing is unusual.
_PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-9]\d\d)(?: [^\r\n]*+)?\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n]*+\r\n)*+\r\n"
)
# The headers that anybody looks at; the values of others aren't stored.
_HEADERS = (
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "location",
    "retry-after",
    "transfer-encoding",
)
_HEADER = re.compile(rb"\n(%s):([^\r]*)\r" % "|".join(_HEADERS).encode(), re.IGNORECASE)
_SHORT_NUMBER = re.compile(r"[0-9]{1,5}")
_NO_BODY = (204, 304)

_TOO_LONG = "the response is longer than what is read of it"
_BAD_CHUNK = "the chunked body of the response is malformed"


class NotHttp(ValueError):
    """The response doesn't begin with a status line."""


class Part(Enum):
    """The part of a response that is read next."""

    HEAD = auto()
    SIZED_BODY = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    BODY_UNTIL_CLOSE = auto()
    NOTHING = auto()


_BLANK = frozenset({" ", "\t"})
_CHUNKED = frozenset({Part.CHUNK_SIZE, Part.CHUNK, Part.CHUNK_END, Part.TRAILER})


class ResponseReader:
    """Reads one response.

    after_another: the connection carried another response before. Bytes that the target wrote past the end of
    that one are skipped.
    """

    def __init__(self, *, after_another: bool = False) -> None:
        self.part = Part.HEAD
        # Known as soon as the status line is complete.
        self.status: int | None = None
        # Names in lower case, with their values in the order in which they came: of _HEADERS.
        self.headers: dict[str, list[str]] = {}
        self.body = bytearray()
        # The first thing that was wrong after the status line.
        self.note = ""
        # Whether the connection can carry another request.
        self.reusable = False
        self._after_another = after_another
        self._buffer = bytearray()
        self._searched = 0
        self._head_bytes = 0
        self._chunked_bytes = 0
        self._remaining = 0

    @property
    def done(self) -> bool:
        """Whether no more bytes are needed."""
        return self.part is Part.NOTHING

    @property
    def begun(self) -> bool:
        """Whether any byte has arrived."""
        return self.status is not None or self._head_bytes > 0 or bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises NotHttp."""
        if not self.begun and self._read_plain(data):
            return
        self._buffer += data
        while self.part is Part.HEAD and self._read_head():
            pass
        if self.part is Part.SIZED_BODY:
            self._read_sized_body()
        elif self.part in _CHUNKED:
            self._read_chunks()
        elif self.part is Part.BODY_UNTIL_CLOSE and len(self._buffer) >= BODY_BYTES:
            self._finish(_TOO_LONG)

    def end(self, note: str = "") -> None:
        """No more bytes come. note: why; empty if the target closed the connection.

        `status` stays None if no status line came.
        """
        if self.part is Part.HEAD:
            if self.status is not None:
                # Only lines that are complete count.
                self._take_head(self._buffer.rfind(b"\n") + 1)
            self._finish(note or "the connection was closed in the headers of the response")
        elif self.part is Part.BODY_UNTIL_CLOSE and not note:
            self._finish("")
        elif self.part is not Part.NOTHING:
            self._finish(note or "the connection was closed in the body of the response")

    def _finish(self, note: str) -> None:
        if self.part in (Part.SIZED_BODY, Part.BODY_UNTIL_CLOSE):
            self.body = self._buffer
        del self.body[BODY_BYTES:]
        if note:
            self._remark(note)
        self.part = Part.NOTHING

    def _finish_exactly(self) -> None:
        """The response is complete: what else is in the buffer belongs to nothing."""
        if self._buffer:
            self._remark("there are bytes after the end of the response")
        self.part = Part.NOTHING

    def _remark(self, note: str) -> None:
        self.note = self.note or note
        self.reusable = False

    # --- The whole response ---

    def _read_plain(self, data: bytes) -> bool:
        """Read a response that has no flaw and arrives in one piece, as most do. False: it is another one.

        The methods below would read it with the same result, but take several times as long.
        """
        head = _PLAIN_HEAD.match(data)
        if head is None or head.end() > HEAD_BYTES:
            return False
        headers: dict[str, list[str]] = {}
        for name, value in _HEADER.findall(data, 0, head.end()):
            text = value.decode("utf-8", "surrogateescape").strip()
            headers.setdefault(name.decode().lower(), []).append(text)
        status = int(head[1])
        lengths = headers.get("content-length") or (["0"] if status in _NO_BODY else [])
        if len(lengths) != 1 or not _SHORT_NUMBER.fullmatch(lengths[0]) or "transfer-encoding" in headers:
            return False
        length = int(lengths[0])
        if (
            len(data) != head.end() + length
            or length > BODY_BYTES
            or (status in _NO_BODY and lengths != ["0"])
        ):
            return False
        self.status, self.headers, self.body = status, headers, bytearray(data[head.end() :])
        self.reusable = "connection" not in headers or "close" not in self._tokens("connection")
        self.part = Part.NOTHING
        return True

    # --- The head ---

    def _read_head(self) -> bool:
        """Read the head, if it is complete. Returns whether another follows: this one was interim."""
        if self.status is None and not self._read_status():
            return False
        end = _HEAD_END.search(self._buffer, self._searched)
        length = end.end() if end else len(self._buffer)
        room = HEAD_BYTES - self._head_bytes
        if length > room:
            self._take_head(self._buffer.rfind(b"\n", 0, max(0, room)) + 1)
            self._finish(f"the headers of the response are longer than {HEAD_BYTES // 1024} KiB")
            return False
        if end is None:
            self._searched = max(0, len(self._buffer) - 2)
            return False
        self._take_head(length)
        self._searched = 0
        if self.status in range(100, 200) and self.status != 101:
            self.status, self.headers = None, {}
            return True
        self._choose_body()
        return False

    def _read_status(self) -> bool:
        """Find the status line, which stays in the buffer; skip what is before it. False if it isn't complete."""
        buffer = self._buffer
        blank = len(buffer) - len(buffer.lstrip(b"\r\n")) if buffer.startswith((b"\r", b"\n")) else 0
        line = (_STATUS_LINE.search if self._after_another else _STATUS_LINE.match)(buffer, blank)
        longest = _STRAY_BYTES if self._after_another else HEAD_BYTES
        if line is None or line.start() > longest:
            if len(buffer) > longest or (not self._after_another and buffer.find(b"\n", blank) >= 0):
                raise NotHttp(NotHttp.__doc__)
            return False
        self.status = int(line[3])
        # An HTTP/1.0 connection is used once.
        self.reusable = (line[1], line[2]) == (b"1", b"1") and not self.note
        if line.start() > blank:
            self._remark("there are bytes before the response")
        if line.start():
            self._head_bytes += line.start()
            del buffer[: line.start()]
        return True

    def _take_head(self, length: int) -> None:
        """Move the lines of the head from the buffer to `headers`."""
        # Bytes that aren't UTF-8 stay recognizable, and can't be mistaken for text.
        lines = self._buffer[:length].decode("utf-8", "surrogateescape").split("\n")
        del self._buffer[:length]
        self._head_bytes += length
        headers = self.headers
        values: list[str] = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon and line[:1] not in _BLANK and (name := name.strip().lower()):
                values = headers.setdefault(name, []) if name in _HEADERS else []
                values.append(value.strip())
            elif line[:1] in _BLANK and values:
                # A value may go on in the next line (an old form, which RFC 9112 has readers accept).
                values[-1] += f" {line.strip()}"
            elif line.strip("\r"):
                self._remark("a header line of the response has no name or no colon")

    def _choose_body(self) -> None:
        lengths = self._tokens("content-length")
        codings = self._tokens("transfer-encoding")
        if "close" in self._tokens("connection"):
            self.reusable = False
        if self.status in _NO_BODY:
            if codings or (self.status == 204 and set(lengths) - {"0"}):
                self._remark(f"the response is a {self.status} with a body, which was not read")
            self._finish_exactly()
        elif codings:
            if lengths or codings != ["chunked"]:
                beside = " and a Content-Length" if lengths else ""
                self._remark(f"the response has the Transfer-Encoding {', '.join(codings)}{beside}")
            self.part = Part.CHUNK_SIZE if codings[-1] == "chunked" else Part.BODY_UNTIL_CLOSE
        elif lengths:
            self._choose_length(set(lengths))
        else:
            self.part, self.reusable = Part.BODY_UNTIL_CLOSE, False

    def _choose_length(self, lengths: set[str]) -> None:
        valid = [int(text) for text in lengths if text.isascii() and text.isdecimal() and len(text) < 19]
        if len(lengths) > 1:
            self._remark("the response has more than one Content-Length")
        elif not valid:
            self._remark("the Content-Length of the response is not a number")
        # The least of several, so that no time is spent on bytes that may not come.
        self._remaining = min(valid, default=0)
        self.part = Part.SIZED_BODY

    def _tokens(self, name: str) -> list[str]:
        values = self.headers.get(name, ())
        return [token.strip().lower() for value in values for token in value.split(",")]

    # --- The body ---

    def _read_sized_body(self) -> None:
        if self._remaining > BODY_BYTES:
            if len(self._buffer) >= BODY_BYTES:
                self._finish(_TOO_LONG)
        elif len(self._buffer) >= self._remaining:
            self.body = self._buffer[: self._remaining]
            del self._buffer[: self._remaining]
            self._finish_exactly()

    def _read_chunks(self) -> None:
        while self.part in _CHUNKED and (
            self._read_chunk() if self.part is Part.CHUNK else self._read_chunk_line()
        ):
            if len(self.body) >= BODY_BYTES or self._chunked_bytes > _CHUNKED_BYTES:
                self._finish(_TOO_LONG)

    def _read_chunk(self) -> bool:
        """Read what has arrived of a chunk's content; return whether anything had."""
        piece = self._buffer[: self._remaining]
        del self._buffer[: self._remaining]
        self.body += piece
        self._chunked_bytes += len(piece)
        self._remaining -= len(piece)
        if not self._remaining:
            self.part = Part.CHUNK_END
        return bool(piece)

    def _read_chunk_line(self) -> bool:
        """Read a chunk's size, the line end after its content, or a line of the trailer. False if incomplete."""
        end = self._buffer.find(b"\n")
        if end > _CHUNK_LINE_BYTES or (end < 0 and len(self._buffer) > _CHUNK_LINE_BYTES):
            self._finish(_BAD_CHUNK)
            return False
        if end < 0:
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        self._chunked_bytes += end + 1
        if self.part is Part.CHUNK_SIZE and (size := _CHUNK_SIZE.match(line)):
            self._remaining = int(size[1], 16)
            self.part = Part.CHUNK if self._remaining else Part.TRAILER
        elif self.part is Part.CHUNK_END and not line:
            self.part = Part.CHUNK_SIZE
        elif self.part is not Part.TRAILER:
            self._finish(_BAD_CHUNK)
        elif not line:
            self._finish_exactly()
        return True
