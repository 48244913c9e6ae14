"""Reads content types as clients write them, and recognizes files by their content before their name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import NAMES, is_header, plain_name

_PARAMETER = re.compile(r';\s*([^\s;="]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_UTF8 = {"utf8", "utf8mb4", "cp65001", "unicode11utf8", "usascii", "ascii"}
_UTF16 = {"utf16", "utf16le", "utf16be", "unicode"}
_HEAD_BYTES = 4096
_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_GZIP = b"\x1f\x8b"
XLSB = "a binary Excel workbook (.xlsb)"
ODS = "an OpenDocument spreadsheet (.ods)"
NUMBERS = "a Numbers spreadsheet"
_HTML = re.compile(rb"\s*<(?:!doctype|html|head|body|table|meta|\?xml|!--)", re.IGNORECASE)
_BY_ENDING = {
    "csv": "csv",
    "tsv": "csv",
    "tab": "csv",
    "txt": "text",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "xlsx": "xlsx",
    "xlsm": "xlsx",
}
_WRONG_ENDINGS = {
    "json": "a JSON document",
    "pdf": "a PDF",
    "xlsb": XLSB,
    "ods": ODS,
    "numbers": NUMBERS,
    "zip": "a ZIP archive",
    "xls": "not an Excel workbook, although its name says so",
    "xlsx": "not an Excel workbook, although its name says so",
    "xlsm": "not an Excel workbook, although its name says so",
}
# The first bytes of files that contain no text.
_SIGNATURES = (
    (_GZIP, "a gzip file"),
    (_ZIP, "a ZIP archive or an Office document"),
    (_OLE, "an Office document in the old format"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "an image, a sound or a video (RIFF)"),
    (b"BM\x00\x00", "a bitmap image"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"SQLite format 3", "a SQLite database"),
    (b"PAR1", "a Parquet file"),
)


@dataclass(frozen=True)
class MediaType:
    """A Content-Type header: `type` and the names of `parameters` in lower case."""

    type: str
    parameters: dict[str, str]
    shown: str

    @property
    def charset(self) -> str:
        """The charset in its plainest spelling: `utf8` for "UTF-8"."""
        return re.sub(r"[^a-z0-9]", "", self.parameters.get("charset", "").lower())

    def check_charset(self) -> None:
        """Raise CharsetNotAccepted unless it is UTF-8 in any spelling, ASCII or UTF-16."""
        if self.charset and self.charset not in _UTF8 | _UTF16:
            raise errors.CharsetNotAccepted(given=id_tokens.visible(self.parameters["charset"]))

    @property
    def is_utf16(self) -> bool:
        """Whether UTF-16 was announced, which then needs a byte-order mark."""
        return self.charset in _UTF16


def media_type(header: str | None) -> MediaType:
    """Read a Content-Type header. The type of None, or of nonsense, is ""."""
    kind, _, _ = (header or "").partition(";")
    parameters: dict[str, str] = {}
    for name, value in _PARAMETER.findall(header or ""):
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value.strip()
        parameters.setdefault(name.lower(), plain)
    return MediaType(kind.strip().lower(), parameters, id_tokens.visible(kind.strip(), 80) or "(none)")


def ending(name: str | None) -> str:
    """Return the ending of a file's name in lower case, without its dot."""
    return (name or "").rpartition(".")[2].strip().lower() if "." in (name or "") else ""


def file_format(head: bytes, name: str | None, media: MediaType) -> str:
    """Return `gzip`, `xlsx`, `csv`, `ndjson` or `text`, judged by content first, then name, type and first line.

    head: the first few kilobytes, or all. Raises FileNotAccepted for any other format.
    """
    shown = id_tokens.visible(name or "", 80) or "without a name"
    by_ending = _BY_ENDING.get(ending(name))
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith((_ZIP, _OLE)):
        return "xlsx"
    kind = binary_kind(head) or _WRONG_ENDINGS.get(ending(name))
    if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        kind = "a web page (HTML or XML)"
    if kind:
        raise errors.FileNotAccepted(name=shown, problem=f"is {kind}")
    return by_ending or _BY_TYPE.get(media.type) or _by_looks(head)


def binary_kind(head: bytes) -> str | None:
    """Return what a file is whose first bytes are those of a format that is not text, or None."""
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def refuse_binary(head: bytes) -> None:
    """Raise BinaryNotAccepted if a body that was announced as text is not text."""
    kind = binary_kind(head)
    if kind is None:
        return
    if head.startswith(_GZIP):
        advice = "Send it with the header Content-Encoding: gzip."
    elif head.startswith((_ZIP, _OLE)):
        advice = "Send a workbook as a file in multipart/form-data."
    else:
        advice = "Save the list as CSV (UTF-8), and send that."
    raise errors.BinaryNotAccepted(what=kind, advice=advice)


def is_table(head: bytes, *, column: str | None = None) -> bool:
    """Return whether text is a table: pasted from a sheet, for example, or Excel's "Unicode text" (a .txt).

    Read as plain text, the numbers in its other columns would become IDs. It is a table if its first line has no
    number and either a cell named id or user_id, several cells between tabs, or as many commas or semicolons as the
    second line; or if a column was asked for.
    """
    lines = (
        _text(head[:_HEAD_BYTES])
        .lstrip("\ufeff\r\n\t ")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
        .split("\n")
    )
    if len(lines) == 1:
        return False
    cells = [cell.strip(id_tokens.TRIMMED + '"') for cell in re.split("[\t;,]", lines[0])]
    if column is not None and len(cells) > 1:
        return True
    named = any(plain_name(cell) in NAMES for cell in cells)
    return is_header(cells) and (named or _is_cut_alike(lines[0], lines[1], cells))


def _is_cut_alike(first: str, second: str, cells: Sequence[str]) -> bool:
    """Return whether the first line has several cells, and the second one as many or tabs decide."""
    if sum(map(bool, first.split("\t"))) > 1:
        return True
    return all(cells) and any(first.count(mark) == second.count(mark) > 0 for mark in ",;")


def _text(head: bytes) -> str:
    return head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")


_BY_TYPE = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "text/plain": "text",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
}


def _by_looks(head: bytes) -> str:
    """Judge a file by its first line if neither its name nor its type says what it is."""
    line = _text(head[:_HEAD_BYTES]).lstrip("\ufeff\r\n ").partition("\n")[0]
    if line.startswith("{"):
        return "ndjson"
    return "csv" if any(c.isalpha() for c in line) or '"' in line else "text"
