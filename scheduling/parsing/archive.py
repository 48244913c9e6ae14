"""Opens a ZIP archive of XML parts, and reads its parts as streams. Work and memory are bounded."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from scheduling.parsing import errors
from scheduling.parsing.media import NUMBERS, ODS, XLSB, ending
from scheduling.parsing.results import Limits

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
# A workbook has some dozens of parts. An entry of the directory has at least 46 bytes, and takes a kilobyte in memory.
_MAX_ENTRIES = 10_000
_MAX_DIRECTORY_BYTES = 2 * 1024 * 1024
_READ_BYTES = 64 * 1024
_END_BYTES = 22
_LOCATOR_BYTES = 20
_END64_BYTES = 56
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
# A part by which other formats are recognized: its name, and what its content begins with.
_OTHER_FORMATS = (
    (re.compile(r"xl/workbook\.bin"), b"", XLSB),
    (re.compile(r"mimetype"), b"application/vnd.oasis.opendocument.spreadsheet", ODS),
    (re.compile(r"mimetype"), b"application/vnd.oasis.opendocument", "an OpenDocument file"),
    (re.compile(r"index/document\.iwa|index\.zip"), b"", NUMBERS),
    (re.compile(r"word/document\.xml"), b"", "a Word document"),
    (re.compile(r"ppt/presentation\.xml"), b"", "a PowerPoint presentation"),
    (re.compile(r"meta-inf/manifest\.mf"), b"", "a Java archive"),
)


class Archive:
    """A ZIP archive of XML parts. Part names are compared without regard to case, as Office does.

    Raises BrokenWorkbook, FileNotAccepted, FilePasswordProtected, BodyTooLarge.
    """

    def __init__(self, data: Any, *, name: str, limits: Limits) -> None:
        self._limits = limits
        self._name = name
        self._bytes_out = 0
        _check_container(data, name)
        try:
            self._zip = zipfile.ZipFile(data)
        except _ZIP_ERRORS as error:
            raise _incomplete(name) from error
        self._entries = {_plain_path(entry.filename): entry for entry in self._zip.infolist()}

    def find(self, path: str) -> str | None:
        """Return the name of a part in the archive, or None if there is no such part."""
        plain = _plain_path(path)
        return next((name for name in (plain, _plain_path(unquote(plain))) if name in self._entries), None)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a part as it unpacks. The total of all parts is bounded."""
        entry = self._entries[path]
        # The other methods of zipfile unpack any number of bytes at once.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise errors.BrokenWorkbook(problem=f"its part {path} is compressed by an unknown method")
        try:
            with self._zip.open(entry) as member:
                while piece := member.read(_READ_BYTES):
                    self._bytes_out += len(piece)
                    if self._bytes_out > self._limits.max_body_bytes:
                        raise errors.BodyTooLarge(limit=self._limits.max_body_bytes)
                    yield piece
        except _ZIP_ERRORS as error:
            raise errors.BrokenWorkbook(problem=f"its part {path} is damaged") from error

    def refuse_other_format(self) -> None:
        """Raise FileNotAccepted for an archive that is not an Excel workbook, saying what it is."""
        description = "a ZIP archive without an Excel workbook in it"
        for pattern, start, kind in _OTHER_FORMATS:
            parts = [path for path in self._entries if pattern.fullmatch(path)]
            if parts and (not start or next(self.pieces(parts[0]), b"").startswith(start)):
                description = kind
                break
        raise errors.FileNotAccepted(name=self._name, problem=f"is {description}")


def _plain_path(path: str) -> str:
    return path.replace("\\", "/").lstrip("/").lower()


def _incomplete(name: str) -> errors.ReadingError:
    """What is wrong with an archive that ends early: a workbook, unless the name of the file says something else."""
    if ending(name) in ("", "xlsx", "xlsm"):
        return errors.BrokenWorkbook(problem="it is not a complete ZIP archive")
    return errors.FileNotAccepted(name=name, problem="is not a complete ZIP archive")


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
    if at < 0 or len(tail) < at + _END_BYTES:
        raise _incomplete(name)
    entries, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    if tail[max(0, at - _LOCATOR_BYTES) :].startswith(b"PK\x06\x07"):
        # zipfile believes this record alone, so the usual one must agree with it or refer to it.
        at64 = at - _LOCATOR_BYTES - _END64_BYTES
        if at64 < 0 or not tail.startswith(b"PK\x06\x06", at64):
            raise errors.BrokenWorkbook(problem="its ZIP64 directory is damaged")
        entries64, directory_bytes64 = struct.unpack_from("<QQ", tail, at64 + 32)
        if entries not in (0xFFFF, entries64) or directory_bytes not in (0xFFFFFFFF, directory_bytes64):
            raise errors.BrokenWorkbook(problem="its two directories (ZIP and ZIP64) differ")
        entries, directory_bytes = entries64, directory_bytes64
    if directory_bytes > _MAX_DIRECTORY_BYTES or entries > _MAX_ENTRIES:
        raise errors.BrokenWorkbook(problem=f"its ZIP archive has more than {_MAX_ENTRIES:,} parts")
    data.seek(0)


def _has(data: Any, pattern: bytes) -> bool:
    before = b""
    while piece := data.read(1024 * 1024):
        if pattern in before + piece:
            return True
        before = piece[-len(pattern) :]
    return False
