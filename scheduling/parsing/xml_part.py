"""Parses an XML part with expat, in time and memory linear in its size."""

from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from scheduling.parsing import errors

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]
Text = Callable[[str], None]

# expat searches an unfinished tag or comment again with each piece, so an endless one would take quadratic time.
_MAX_TOKEN_BYTES = 256 * 1024
_MAX_DEPTH = 100
_MAX_ATTRIBUTES = 200
# expat keeps every name of an element or attribute until the end.
_MAX_NAMES = 5_000


class XmlPart:
    """Parses one part. Calls `start`, `end` and `text` with names without namespace.

    max_elements: how many elements it may have.
    """

    def __init__(
        self, path: str, *, start: Start, end: End | None = None, text: Text | None = None, max_elements: int
    ) -> None:
        self._path = path
        self._start = start
        self._end = end
        self._max_elements = max_elements
        self._elements = 0
        self._depth = 0
        self._bytes = 0
        self._names: dict[str, str] = {}
        self._parser = expat.ParserCreate(intern=self._names)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start_element
        self._parser.EndElementHandler = self._end_element
        if text is not None:
            self._parser.CharacterDataHandler = text
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype

    def feed(self, piece: bytes) -> None:
        """Parse one more piece. Raises BrokenWorkbook."""
        self._parse(piece, False)
        self._bytes += len(piece)
        if self._bytes - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
            self._refuse(f"has a tag or comment of more than {_MAX_TOKEN_BYTES:,} bytes")
        if len(self._names) > _MAX_NAMES:
            self._refuse(f"has more than {_MAX_NAMES:,} different names")

    def finish(self) -> None:
        """Parse the end of the part."""
        self._parse(b"", True)

    def _parse(self, piece: bytes, final: bool) -> None:
        try:
            self._parser.Parse(piece, final)
        except (expat.ExpatError, UnicodeError, LookupError) as error:
            raise errors.BrokenWorkbook(problem=f"its part {self._path} is not valid XML") from error

    def _start_element(self, tag: str, facts: dict[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        if self._elements > self._max_elements:
            self._refuse(f"has more than {self._max_elements:,} elements; save the sheet as CSV")
        if self._depth > _MAX_DEPTH or len(facts) > _MAX_ATTRIBUTES:
            self._refuse(f"has more than {_MAX_DEPTH} levels, or an element with {len(facts)} attributes")
        self._start(tag.rpartition(":")[2] if ":" in tag else tag, facts)

    def _end_element(self, tag: str) -> None:
        self._depth -= 1
        if self._end is not None:
            self._end(tag.rpartition(":")[2] if ":" in tag else tag)

    def _refuse(self, problem: str) -> None:
        raise errors.BrokenWorkbook(problem=f"its part {self._path} {problem}")

    def _refuse_doctype(self, *facts: Any) -> None:
        raise errors.BrokenWorkbook(problem="its XML declares a document type, which workbooks never do")
