"""Generators over the bytes of a body, constant in memory: they count, unpack, convert to UTF-8 and cut into blocks."""

import codecs
import zlib
from collections.abc import Iterable, Iterator

from scheduling.parsing import errors
from scheduling.parsing.results import Limits

_GZIP = 16 + zlib.MAX_WBITS
_UTF16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_UTF32 = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")


class ArrivingBody:
    """The body as it arrives. Raises BodyTooLarge at the first byte too many, and CutOff if it ends early."""

    def __init__(self, chunks: Iterable[bytes], *, content_length: int | None, limits: Limits) -> None:
        if content_length is None:
            raise errors.LengthUnknown
        if content_length > limits.max_body_bytes:
            raise errors.BodyTooLarge(limit=limits.max_body_bytes)
        self._chunks = chunks
        self._expected = content_length
        self._limits = limits
        self.bytes_read = 0

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._chunks)
        while True:
            try:
                chunk = next(chunks, None)
            except (OSError, EOFError) as error:
                # A server reports a sender that has disconnected as an error of its input.
                raise errors.CutOff(received=self.bytes_read, expected=self._expected) from error
            if chunk is None:
                break
            self.bytes_read += len(chunk)
            if self.bytes_read > self._limits.max_body_bytes:
                raise errors.BodyTooLarge(limit=self._limits.max_body_bytes)
            yield chunk
        if self.bytes_read != self._expected:
            raise errors.CutOff(received=self.bytes_read, expected=self._expected)


# A member is unpacked from slices of this size: what follows it in the slice is copied once per member.
_GZIP_SLICE_BYTES = 16 * 1024


def gunzip(chunks: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    """Unpack all members of gzip data. Bounds the output of a step, the whole output and the members."""
    inflate = None
    members = total = 0
    for piece in _slices(chunks, _GZIP_SLICE_BYTES):
        data = piece
        while data:
            if inflate is None:
                # Zeros after a member are padding, as tapes and some tools write it.
                data = data.lstrip(b"\0") if members else data
                if not data:
                    break
                if members == limits.max_gzip_members:
                    raise errors.TooManyMembers(limit=limits.max_gzip_members)
                inflate = zlib.decompressobj(_GZIP)
                members += 1
            try:
                out = inflate.decompress(data, limits.block_bytes * 4)
            except zlib.error as error:
                raise errors.BrokenGzip(problem=str(error).partition(": ")[2] or str(error)) from error
            total += len(out)
            if total > limits.max_body_bytes:
                raise errors.BodyTooLarge(limit=limits.max_body_bytes)
            if out:
                yield out
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if inflate.eof:
                inflate = None
    if inflate is not None:
        raise errors.CutGzip


def _slices(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield bytes(chunk[start : start + size])


def sized(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of about `size`, however small or large the chunks are."""
    small: list[bytes] = []
    length = 0
    for chunk in chunks:
        if len(chunk) > 2 * size:
            if small:
                yield b"".join(small)
                small, length = [], 0
            yield from _slices([chunk], size)
            continue
        small.append(chunk)
        length += len(chunk)
        if length >= size:
            yield b"".join(small)
            small, length = [], 0
    if length:
        yield b"".join(small)


def as_utf8(chunks: Iterable[bytes], limits: Limits, *, must_be_utf16: bool = False) -> Iterator[bytes]:
    """Yield UTF-8 without a byte-order mark, in pieces of a block. UTF-16 is recognized by its mark.

    Bytes that are not UTF-8 pass, because it depends on their place whether they matter.
    Raises BodyEmpty, BrokenText, and CharsetNotAccepted if UTF-16 was announced but its mark is missing.
    """
    pieces = sized(chunks, limits.block_bytes)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 4:
            break
    if not head:
        raise errors.BodyEmpty
    if head.startswith(_UTF32):
        raise errors.CharsetNotAccepted(given="UTF-32")
    encoding = _UTF16.get(head[:2])
    if encoding:
        yield from _from_utf16(head, pieces, encoding)
        return
    if must_be_utf16:
        raise errors.CharsetNotAccepted(given="UTF-16 without a byte-order mark")
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from pieces


def _from_utf16(head: bytes, pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        yield decoder.decode(head).encode()
        for piece in pieces:
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        raise errors.BrokenText(encoding="UTF-16", problem=error.reason) from error


class Blocks:
    """Cuts a stream after line ends (or other separators), so that no token is split between two blocks.

    `line` is the number of the line in which the next block begins, counted from 1 and updated by the reader. A
    block never ends between CR and LF. Raises LineTooLong after `limits.max_line_bytes` without a separator.
    """

    def __init__(self, chunks: Iterable[bytes], *, separators: bytes, unit: str, limits: Limits) -> None:
        self._chunks = chunks
        self._separators = [separators[n : n + 1] for n in range(len(separators))]
        self._unit = unit
        self._limit = limits.max_line_bytes
        self.line = 1

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        for chunk in self._chunks:
            data = rest + chunk
            end = len(data) - data.endswith(b"\r")
            cut = max(data.rfind(separator, 0, end) for separator in self._separators) + 1
            rest = data[cut:]
            if cut:
                yield data[:cut]
            if len(rest) > self._limit:
                raise errors.LineTooLong(line=self.line, what=self._unit, limit=self._limit)
        if rest:
            yield rest


def line_ends(block: bytes) -> int:
    """Return how many lines end in `block`. LF, CRLF and CR each end one line."""
    if b"\r" not in block:
        return block.count(b"\n")
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
