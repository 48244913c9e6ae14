"""Reads the parts of an XLSX file that describe its sheets: their names, shared texts and date formats.

It uses expat directly, because the available parsers allocate a sheet as a rectangle (A1 and XFD1048576 make 17
billion cells), and none of them reports hidden rows, formulas or the spelling of a number. Elements are
recognized by name without their namespace, in which strict and transitional files differ.
"""

import re
from array import array
from dataclasses import dataclass
from typing import Any, NamedTuple

from scheduling.parsing import errors
from scheduling.parsing.archive import Archive
from scheduling.parsing.results import Limits
from scheduling.parsing.xml_part import End, Start, Text, XmlPart

_MAX_SHEETS = 1_000
_MAX_RELATIONS = 10_000
_MAX_TARGET_CHARACTERS = 500
_MAX_FORMATS = 10_000
_MAX_STYLES = 100_000
_MAX_TEXTS = 4_000_000
_MAX_TEXTS_BYTES = 64 * 1024 * 1024
_TEXT_CHARACTERS = 200
# Excel allows this many characters in a cell, so no text has more pieces.
_MAX_PIECES = 32_767
# Elements of a part: of the texts, and of those that list sheets, relations and styles.
_MAX_TEXT_ELEMENTS = 20_000_000
_MAX_ELEMENTS = 1_000_000
_DATE_FORMATS = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
# Each alternative is linear: none searches beyond the next character that could begin it again.
_NOT_DATE_LETTERS = re.compile(
    r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\[\]]*\]|general', re.IGNORECASE | re.DOTALL
)
_DATE_LETTERS = re.compile(r"[dmyhs]", re.IGNORECASE)
# [h]:mm:ss goes on counting after 24 hours.
_DURATION = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_DURATION_FORMAT = 46
_ESCAPED_CHARACTER = re.compile(r"_x([0-9A-Fa-f]{4})_")


class DateStyles(NamedTuple):
    """Numbers of cell styles, as cells name them. all: of dates, times and durations."""

    all: frozenset[str]
    durations: frozenset[str]


@dataclass(frozen=True)
class SheetPart:
    """A worksheet of the workbook. path: its part of the archive."""

    name: str
    path: str
    is_visible: bool


class Workbook:
    """An XLSX file. Raises BrokenWorkbook, FileNotAccepted, FilePasswordProtected, BodyTooLarge."""

    def __init__(self, data: Any, *, name: str, limits: Limits) -> None:
        self._archive = Archive(data, name=name, limits=limits)
        self.pieces = self._archive.pieces
        self._book = self._book_path()
        self._targets = self._relations(self._book)
        self.sheets = self._sheets()

    def _book_path(self) -> str:
        for kind, path in self._relations("").values():
            if kind == "officeDocument" and path.endswith(".xml") and self._root(path) == "workbook":
                return path
        self._archive.refuse_other_format()
        raise AssertionError

    def _root(self, path: str) -> str:
        tags: list[str] = []
        part = XmlPart(path, start=lambda tag, facts: tags.append(tag), max_elements=_MAX_ELEMENTS)
        part.feed(next(self.pieces(path), b""))
        return tags[0] if tags else ""

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the parts of the archive that `part` refers to: id to (kind, path)."""
        folder, _, file = part.rpartition("/")
        relations: dict[str, tuple[str, str]] = {}

        def start(tag: str, facts: dict[str, str]) -> None:
            if tag != "Relationship" or facts.get("TargetMode") == "External":
                return
            path = self._archive.find(_path(folder, facts.get("Target", "")[:_MAX_TARGET_CHARACTERS]))
            if path is None:
                return
            if len(relations) == _MAX_RELATIONS:
                raise errors.BrokenWorkbook(problem=f"it has more than {_MAX_RELATIONS:,} relationships")
            relations[facts.get("Id", "")[:_MAX_TARGET_CHARACTERS]] = (
                facts.get("Type", "").rpartition("/")[2],
                path,
            )

        rels = self._archive.find(f"{folder}/_rels/{file}.rels")
        if rels is not None:
            self._parse(rels, start=start)
        return relations

    def _sheets(self) -> list[SheetPart]:
        sheets: list[SheetPart] = []

        def start(tag: str, facts: dict[str, str]) -> None:
            if tag != "sheet":
                return
            relation = next((value for key, value in facts.items() if key.rpartition(":")[2] == "id"), "")
            kind, path = self._targets.get(relation, ("", ""))
            if kind == "worksheet":
                is_visible = facts.get("state", "visible") == "visible"
                sheets.append(SheetPart(facts.get("name", "")[:_TEXT_CHARACTERS], path, is_visible))
            if len(sheets) > _MAX_SHEETS:
                raise errors.BrokenWorkbook(problem=f"it has more than {_MAX_SHEETS:,} sheets")

        self._parse(self._book, start=start)
        return sheets

    def _part_of_kind(self, kind: str) -> str | None:
        return next((path for part_kind, path in self._targets.values() if part_kind == kind), None)

    def texts(self, characters: int) -> "Texts":
        """Return the texts that cells refer to by number, and this many characters of each."""
        texts = Texts(characters)
        path = self._part_of_kind("sharedStrings")
        if path:
            self._parse(
                path, start=texts.start, end=texts.end, text=texts.text, max_elements=_MAX_TEXT_ELEMENTS
            )
        return texts

    def counts_from_1904(self) -> bool:
        """Return whether day 0 of its dates is 1904-01-01, as in files from an old Excel for the Mac."""
        flags: list[str] = []

        def start(tag: str, facts: dict[str, str]) -> None:
            if tag == "workbookPr":
                flags.append(facts.get("date1904", ""))

        self._parse(self._book, start=start)
        return flags[:1] in (["1"], ["true"])

    def date_styles(self) -> DateStyles:
        """Return the cell styles that display a number as a date, a time or a duration."""
        formats: dict[int, tuple[bool, bool]] = {}
        styles: list[int] = []
        inside = False

        def start(tag: str, facts: dict[str, str]) -> None:
            nonlocal inside
            if tag == "numFmt" and len(formats) < _MAX_FORMATS:
                code = _NOT_DATE_LETTERS.sub("", facts.get("formatCode", "")[:1000])
                is_duration = _DURATION.search(code) is not None
                formats[_number(facts.get("numFmtId"))] = _DATE_LETTERS.search(code) is not None, is_duration
            elif tag == "cellXfs":
                inside = True
            elif tag == "xf" and inside and len(styles) < _MAX_STYLES:
                styles.append(_number(facts.get("numFmtId")))

        def end(tag: str) -> None:
            nonlocal inside
            inside = inside and tag != "cellXfs"

        path = self._part_of_kind("styles")
        if path:
            self._parse(path, start=start, end=end)
        kinds = [formats.get(fmt, (fmt in _DATE_FORMATS, fmt == _DURATION_FORMAT)) for fmt in styles]
        dates = frozenset(str(n) for n, (is_date, _) in enumerate(kinds) if is_date)
        durations = frozenset(str(n) for n, (_, is_duration) in enumerate(kinds) if is_duration)
        return DateStyles(dates, durations)

    def _parse(
        self,
        path: str,
        *,
        start: Start,
        end: End | None = None,
        text: Text | None = None,
        max_elements: int = _MAX_ELEMENTS,
    ) -> None:
        part = XmlPart(path, start=start, end=end, text=text, max_elements=max_elements)
        for piece in self.pieces(path):
            part.feed(piece)
        part.finish()


class Texts:
    """Shared texts in compact form: their first characters in one buffer, and where each text ends."""

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._bytes = bytearray()
        self._ends = array("I")
        self._text = ""
        self._pieces = 0
        self._in_hint = False
        self._in_text = False

    def start(self, tag: str, facts: dict[str, str]) -> None:
        """Begin a text, a piece of it, or a pronunciation hint, which is not part of the text."""
        if tag == "si":
            self._text = ""
            self._pieces = 0
        elif tag == "rPh":
            self._in_hint = True
        self._in_text = tag == "t" and not self._in_hint
        if self._in_text:
            self._pieces += 1
            if self._pieces > _MAX_PIECES:
                raise errors.BrokenWorkbook(problem="a text in it has too many pieces; save the sheet as CSV")

    def text(self, text: str) -> None:
        """Add to the text. Only its first characters are kept."""
        room = self._characters - len(self._text)
        if self._in_text and room > 0:
            self._text += text[:room]

    def end(self, tag: str) -> None:
        """End a text, a piece of it or a pronunciation hint."""
        self._in_text = False
        if tag == "rPh":
            self._in_hint = False
        elif tag == "si":
            self._bytes += self._text.encode()
            self._ends.append(len(self._bytes))
            if len(self._bytes) > _MAX_TEXTS_BYTES or len(self._ends) > _MAX_TEXTS:
                raise errors.BrokenWorkbook(problem="it has too many texts; save the sheet as CSV")

    def __getitem__(self, number: int) -> str:
        begin = self._ends[number - 1] if number else 0
        return unescaped(self._bytes[begin : self._ends[number]].decode())

    def __len__(self) -> int:
        return len(self._ends)


def unescaped(text: str) -> str:
    """Return a cell's text with `_x000D_` and the like replaced by the characters that they stand for."""
    if "_x" not in text:
        return text
    plain = _ESCAPED_CHARACTER.sub(lambda escape: chr(int(escape[1], 16)), text)
    # A character beyond U+FFFF is escaped in two halves.
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _path(folder: str, target: str) -> str:
    if target.startswith("/"):
        return target[1:]
    parts = folder.split("/") if folder else []
    for part in target.replace("\\", "/").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0
