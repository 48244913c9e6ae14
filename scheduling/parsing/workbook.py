"""Reads an XLSX file, a ZIP archive of XML parts, as a stream: its sheets, its texts and its date formats.

It uses expat directly, because the available parsers allocate a sheet as a rectangle (A1 and XFD1048576 make 17
billion cells), and none of them reports hidden rows, formulas without a result or the spelling of a number.
Elements are recognized by name without their namespace, in which strict and transitional files differ.
"""

import re
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from scheduling.parsing import errors
from scheduling.parsing.results import Limits

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_DIRECTORY_BYTES = 4 * 1024 * 1024
_TEXT_CHARACTERS = 200
_TEXTS_BYTES = 64 * 1024 * 1024
_TEXTS_COUNT = 4_000_000
_DATE_FORMATS = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
_NOT_DATE_LETTERS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]|general', re.IGNORECASE)
_DATE_LETTERS = re.compile(r"[dmyhs]", re.IGNORECASE)
_READ_BYTES = 64 * 1024
# What zipfile raises for an archive that is damaged, encrypted or compressed by an unknown method.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]
Text = Callable[[str], None]


@dataclass(frozen=True)
class SheetPart:
    """A worksheet of the workbook. path: its part of the archive."""

    name: str
    path: str
    is_visible: bool


class Workbook:
    """An XLSX file. Raises BrokenWorkbook, FileNotAccepted, FilePasswordProtected, BodyTooLarge."""

    def __init__(self, data: Any, *, name: str, limits: Limits) -> None:
        self._limits = limits
        self._bytes_out = 0
        _check_container(data, name)
        try:
            self._zip = zipfile.ZipFile(data)
        except _ZIP_ERRORS as error:
            raise errors.BrokenWorkbook(problem="it is not a complete ZIP archive") from error
        self._names = set(self._zip.namelist())
        self._book = self._book_path(name)
        self._targets = self._relations(self._book)
        self.sheets = self._sheets()

    def _book_path(self, name: str) -> str:
        for kind, path in self._relations("").values():
            if kind == "officeDocument" and path.endswith(".xml") and path.startswith("xl/"):
                return path
        raise errors.FileNotAccepted(name=name, problem="is a ZIP archive without an Excel workbook in it")

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the parts that `part` refers to: id to (kind, path)."""
        folder, _, file = part.rpartition("/")
        rels = f"{folder}/_rels/{file}.rels".lstrip("/")
        found: dict[str, tuple[str, str]] = {}

        def start(tag: str, facts: dict[str, str]) -> None:
            if tag == "Relationship" and facts.get("TargetMode") != "External":
                kind = facts.get("Type", "").rpartition("/")[2]
                found[facts.get("Id", "")] = (kind, _path(folder, facts.get("Target", "")))

        if rels in self._names:
            self.parse(rels, start=start)
        return found

    def _sheets(self) -> list[SheetPart]:
        found: list[SheetPart] = []

        def start(tag: str, facts: dict[str, str]) -> None:
            if tag != "sheet":
                return
            relation = next((value for key, value in facts.items() if key.rpartition(":")[2] == "id"), "")
            kind, path = self._targets.get(relation, ("", ""))
            if kind == "worksheet" and path in self._names:
                found.append(
                    SheetPart(facts.get("name", ""), path, facts.get("state", "visible") == "visible")
                )

        self.parse(self._book, start=start)
        return found

    def _part_of_kind(self, kind: str) -> str | None:
        paths = [path for found, path in self._targets.values() if found == kind]
        return next((path for path in paths if path in self._names), None)

    def texts(self) -> "Texts":
        """Return the texts that cells refer to by number."""
        texts = Texts()
        path = self._part_of_kind("sharedStrings")
        if path:
            self.parse(path, start=texts.start, end=texts.end, text=texts.text)
        return texts

    def date_styles(self) -> frozenset[int]:
        """Return the numbers of the cell styles that display a number as a date or time."""
        formats: dict[int, bool] = {}
        styles: list[int] = []
        inside = False

        def start(tag: str, facts: dict[str, str]) -> None:
            nonlocal inside
            if tag == "numFmt":
                code = _NOT_DATE_LETTERS.sub("", facts.get("formatCode", "")[:1000])
                formats[_number(facts.get("numFmtId"))] = _DATE_LETTERS.search(code) is not None
            elif tag == "cellXfs":
                inside = True
            elif tag == "xf" and inside and len(styles) < 100_000:
                styles.append(_number(facts.get("numFmtId")))

        def end(tag: str) -> None:
            nonlocal inside
            inside = inside and tag != "cellXfs"

        path = self._part_of_kind("styles")
        if path:
            self.parse(path, start=start, end=end)
        return frozenset(n for n, fmt in enumerate(styles) if formats.get(fmt, fmt in _DATE_FORMATS))

    def parse(self, path: str, *, start: Start, end: End | None = None, text: Text | None = None) -> None:
        """Parse a whole XML part."""
        part = Xml(path, start=start, end=end, text=text)
        for piece in self.pieces(path):
            part.feed(piece)
        part.finish()

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a part of the archive as it unpacks. The total of all parts is bounded."""
        try:
            with self._zip.open(path) as member:
                while piece := member.read(_READ_BYTES):
                    self._bytes_out += len(piece)
                    if self._bytes_out > self._limits.max_body_bytes:
                        raise errors.BodyTooLarge(limit=self._limits.max_body_bytes)
                    yield piece
        except _ZIP_ERRORS as error:
            raise errors.BrokenWorkbook(problem=f"its part {path} is damaged") from error


class Xml:
    """Parses one part with expat. Calls `start`, `end` and `text` with names without namespace."""

    def __init__(self, path: str, *, start: Start, end: End | None = None, text: Text | None = None) -> None:
        self._path = path
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = _local_start(start)
        if end is not None:
            self._parser.EndElementHandler = _local_end(end)
        if text is not None:
            self._parser.CharacterDataHandler = text
        self._parser.StartDoctypeDeclHandler = _no_doctype

    def feed(self, piece: bytes) -> None:
        """Parse one more piece. Raises BrokenWorkbook."""
        self._parse(piece, False)

    def finish(self) -> None:
        """Parse the end of the part."""
        self._parse(b"", True)

    def _parse(self, piece: bytes, final: bool) -> None:
        try:
            self._parser.Parse(piece, final)
        except (expat.ExpatError, UnicodeError) as error:
            raise errors.BrokenWorkbook(problem=f"its part {self._path} is not valid XML") from error


class Texts:
    """Shared texts in compact form: their first characters in one buffer, and where each text ends."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("I")
        self._pieces: list[str] | None = None
        self._pieces_outside_hint: list[str] | None = None
        self._in_text = False

    def start(self, tag: str, facts: dict[str, str]) -> None:
        if tag == "si":
            self._pieces = []
        elif tag == "rPh":
            # A pronunciation hint in Japanese files, which is not part of the text.
            self._pieces, self._pieces_outside_hint = None, self._pieces
        self._in_text = tag == "t" and self._pieces is not None

    def text(self, text: str) -> None:
        if self._in_text and self._pieces is not None:
            self._pieces.append(text[:_TEXT_CHARACTERS])

    def end(self, tag: str) -> None:
        self._in_text = False
        if tag == "rPh":
            self._pieces = self._pieces_outside_hint
        elif tag == "si" and self._pieces is not None:
            self._bytes += "".join(self._pieces)[:_TEXT_CHARACTERS].encode()
            self._ends.append(len(self._bytes))
            self._pieces = None
            if len(self._bytes) > _TEXTS_BYTES or len(self._ends) > _TEXTS_COUNT:
                raise errors.BrokenWorkbook(problem="it has too many texts, so save the sheet as CSV UTF-8")

    def __getitem__(self, number: int) -> str:
        begin = self._ends[number - 1] if number else 0
        return self._bytes[begin : self._ends[number]].decode()

    def __len__(self) -> int:
        return len(self._ends)


def _check_container(data: Any, name: str) -> None:
    """Refuse files that are not ZIP archives, and directories that are too large, before they are loaded."""
    data.seek(0)
    head = data.read(len(_OLE))
    if head == _OLE:
        if _has(data, _ENCRYPTED):
            raise errors.FilePasswordProtected(name=name)
        raise errors.FileNotAccepted(name=name, problem="is an Excel workbook in the old format (.xls)")
    size = data.seek(0, 2)
    data.seek(max(0, size - 66_000))
    tail = data.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise errors.BrokenWorkbook(problem="it is not a complete ZIP archive")
    directory_bytes = struct.unpack_from("<I", tail, at + 12)[0]
    if directory_bytes > _DIRECTORY_BYTES:
        raise errors.BrokenWorkbook(problem="its ZIP archive has too many entries")
    data.seek(0)


def _has(data: Any, wanted: bytes) -> bool:
    before = b""
    while piece := data.read(1024 * 1024):
        if wanted in before + piece:
            return True
        before = piece[-len(wanted) :]
    return False


def _path(folder: str, target: str) -> str:
    if target.startswith("/"):
        return target[1:]
    parts = folder.split("/") if folder else []
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0


def _local_start(handler: Start) -> Start:
    return lambda tag, facts: handler(tag.rpartition(":")[2] if ":" in tag else tag, facts)


def _local_end(handler: End) -> End:
    return lambda tag: handler(tag.rpartition(":")[2] if ":" in tag else tag)


def _no_doctype(*facts: Any) -> None:
    raise errors.BrokenWorkbook(problem="its XML declares a document type, which workbooks never do")
