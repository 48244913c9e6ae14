"""Plain text: IDs between commas, semicolons, blanks, tabs and line ends. What is empty is skipped."""

import re
from array import array
from collections.abc import Iterable

import orjson

from scheduling.parsing.results import Limits
from scheduling.parsing.sink import Sink
from scheduling.parsing.streams import Blocks, line_ends

SEPARATORS = b",; \t\r\n"
_TO_COMMAS = bytes.maketrans(SEPARATORS, b"," * len(SEPARATORS))
_COMMAS = re.compile(rb",{2,}")
_LINES = re.compile(r"\r\n|\r|\n")
_TOKENS = re.compile(r"[^,; \t\r\n]+")
_ID_BYTES = b"0123456789,"
# As many digits fit into 8 bytes whatever they are.
_SAFE_DIGITS = 18


def plain_ids(joined: bytes) -> tuple[array, int] | None:
    """Read numbers joined by single commas, without any at the ends: the IDs, and how many had leading zeros.

    None if there is anything else in it, or a number out of range: then it has to be read token by token. The
    two ways give the same, this one 30 times as fast: JSON's grammar and `array('q')` do the checks.
    """
    if joined.translate(None, _ID_BYTES):
        return None
    try:
        ids = array("q", orjson.loads(b"[" + joined + b"]"))
    except orjson.JSONDecodeError:
        return _padded_ids(joined)
    except (OverflowError, TypeError):
        return None
    # JSON has no leading zeros, so that a zero at a token's start is the whole token.
    if joined.startswith(b"0") or b",0" in joined:
        return None
    return ids, 0


def _padded_ids(joined: bytes) -> tuple[array, int] | None:
    """The same for lists with leading zeros, which are no JSON."""
    tokens = joined.split(b",")
    lengths = set(map(len, tokens))
    if min(lengths) == 0 or max(lengths) > _SAFE_DIGITS:
        return None
    ids = array("q", map(int, tokens))
    return None if 0 in ids else (ids, sum(token.startswith(b"0") for token in tokens))


def read_text(chunks: Iterable[bytes], sink: Sink, limits: Limits) -> None:
    """Read UTF-8 text into `sink`. Faults have line and column (the character's), both from 1."""
    blocks = Blocks(chunks, separators=SEPARATORS, what="token", limits=limits)
    # Characters of the current line that were in earlier blocks: a list may be one line of any length.
    before = 0
    for block in blocks:
        joined = block.translate(_TO_COMMAS).strip(b",")
        if b",," in joined:
            joined = _COMMAS.sub(b",", joined)
        plain = plain_ids(joined) if joined else (array("q"), 0)
        if plain is None:
            before = _read_carefully(block, sink, blocks.line, before)
        else:
            sink.take(plain[0])
            sink.warn("leading_zeros", plain[1])
            last = max(block.rfind(b"\n"), block.rfind(b"\r"))
            before = len(block) - last - 1 if last >= 0 else before + len(block)
        blocks.line += line_ends(block)


def _read_carefully(block: bytes, sink: Sink, first_line: int, before: int) -> int:
    """Read `block` token by token; return how many characters its last line has so far."""
    found = array("q")
    column = before
    lines = _LINES.split(block.decode("utf-8", "surrogateescape"))
    for number, line in enumerate(lines):
        column = before if number == 0 else 0
        for match in _TOKENS.finditer(line):
            sink.token(match[0], found, line=first_line + number, column=column + match.start() + 1)
    sink.take(found)
    return column + len(lines[-1])
