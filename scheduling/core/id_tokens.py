"""A token becomes an ID, or a fault with a reason that helps.

A token is an ID when it is made of the digits 0-9 alone, once blanks and characters that nobody sees are
trimmed from its ends, and its number is 1 to 9223372036854775807. Nothing else is guessed at: `int()` takes
full-width digits, `1_000`, `+5` and U+00A0, and is never asked before digits and length are known.

Pure, standard library only. Source: API.md, "POST /celery_ids_tasks/"; field cases 3, 7 and 46.
"""

import re
import unicodedata
from typing import NamedTuple

LARGEST = 9223372036854775807
SHOWN_CHARACTERS = 40
# From here on a JavaScript number no longer tells neighbours apart.
PAST_JAVASCRIPT = 2**53

# U+FEFF byte-order mark, U+00A0 and U+202F no-break spaces, U+200B to U+200F and U+2060 without any width.
_INVISIBLE = "\ufeff\u00a0\u202f\u200b\u200c\u200d\u200e\u200f\u2060"
_BLANKS = " \t\r\n\v\f\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u205f\u3000"
TRIMMED = _BLANKS + _INVISIBLE

_SIGN = re.compile("[+\\-\u2212\u2013][0-9]")
_SCIENTIFIC = re.compile(r"[+\-]?[0-9]+(?:[.,][0-9]*)?[eE][+\-]?[0-9]+")
_HEX = re.compile(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+")
_THOUSANDS = re.compile("[0-9]{1,3}(?:([.,'\u2019 \u00a0\u202f\u2009])[0-9]{3})(?:\\1[0-9]{3})*")
# A comma before more than two digits rather stands between two IDs.
_DECIMAL = re.compile(r"[0-9]*\.[0-9]*|[0-9]*,[0-9]{0,2}")
_SEVERAL = re.compile(r"[0-9]+(?:\s*[,;\s]\s*[0-9]+)+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}")
_NUMBER_LIKE = re.compile(
    "[+\\-\u2212]?[0-9][0-9.,'_\u2019 \u00a0\u202f]*(?:[eE][+\\-]?[0-9]+)?|0[xX][0-9a-fA-F]+"
)
_LOOKALIKE = re.compile(r"[0-9OolI]*[0-9][0-9OolI]*")
_WORDS = {
    "true": "a truth value, not an ID",
    "false": "a truth value, not an ID",
    "null": "null is not an ID",
    "none": "nothing is not an ID",
    "nan": "not a number",
}
TOO_LARGE = f"larger than {LARGEST}, the largest ID"
TOO_SMALL = "IDs begin at 1"
NOTHING = "nothing"


class Read(NamedTuple):
    """What a token was read as: `id` or `reason`, the other is None."""

    id: int | None
    reason: str | None
    trimmed: bool
    leading_zeros: bool


def read(token: str) -> Read:
    """Read one token. A token with nothing in it has the reason NOTHING."""
    core = token.strip(TRIMMED)
    trimmed = len(core) != len(token)
    if not (core.isascii() and core.isdigit()):
        return Read(None, _reason(core), trimmed, False)
    digits = core.lstrip("0")
    if len(digits) > 19:
        return Read(None, TOO_LARGE, trimmed, False)
    number = int(digits or "0")
    if number > LARGEST:
        return Read(None, TOO_LARGE, trimmed, False)
    if number == 0:
        return Read(None, TOO_SMALL, trimmed, False)
    return Read(number, None, trimmed, len(digits) != len(core))


def looks_like_a_number(cell: str) -> bool:
    """Whether a cell in a first line is more likely a damaged ID than the name of a column."""
    core = cell.strip(TRIMMED)
    if not core or len(core) > 400:
        return False
    return _NUMBER_LIKE.fullmatch(core) is not None or all(c.isdecimal() for c in core)


def visible(text: str, length: int = SHOWN_CHARACTERS) -> str:
    """Show `text` so that nothing in it is invisible: `9100<U+200B>3`, bytes that are no UTF-8 as `<0x96>`.

    Of what is longer than `length` characters, the first `length`.
    """
    if text.isascii() and text.isprintable():
        return text[:length]
    shown = []
    room = length
    for character in text[:length]:
        piece = _visible(character)
        if len(piece) > room:
            break
        shown.append(piece)
        room -= len(piece)
    return "".join(shown)


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    code = ord(character)
    # `surrogateescape` leaves the bytes that are no UTF-8 here.
    if 0xDC80 <= code <= 0xDCFF:
        return f"<0x{code - 0xDC00:02X}>"
    if unicodedata.category(character)[0] in "CZ" or unicodedata.combining(character):
        return f"<U+{code:04X}>"
    return character


def _reason(core: str) -> str:
    """Say why `core`, trimmed and not made of digits alone, is no ID."""
    if not core:
        return NOTHING
    for find in (_of_characters, _of_form):
        reason = find(core)
        if reason:
            return reason
    return _of_first_character(core)


def _of_characters(core: str) -> str | None:
    """Reasons that lie in single characters that nobody sees, or that look like others."""
    if core.isascii() and core.isprintable():
        return None
    for character in core[:1000]:
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            byte = code - 0xDC00
            meant = bytes([byte]).decode("cp1252", "replace")
            return (
                f"the byte 0x{byte:02X} is not UTF-8; the file is likely in the code page "
                f"Windows-1252, where it is {meant}: save it as CSV UTF-8"
            )
        if character == "\0":
            return "a zero byte; a file in UTF-16 needs a byte-order mark"
        if character in _INVISIBLE or (code > 126 and unicodedata.category(character) in ("Cf", "Cc")):
            if _THOUSANDS.fullmatch(core):
                return "a thousands separator inside; write the digits alone"
            return f"an invisible character inside, U+{code:04X}"
    if not core.isascii() and all(c.isdecimal() for c in core):
        return f"digits other than 0-9 ({unicodedata.name(core[0], 'of another script').lower()})"
    return None


def _of_form(core: str) -> str | None:
    """Reasons that lie in the form of the whole token."""
    # Bounded, so that no pattern walks a megabyte.
    head = core[:400]
    word = _WORDS.get(head.lower())
    if word:
        return word
    if _SIGN.match(head) and not _DATE.fullmatch(head[1:]):
        rest = head[1:]
        if rest.isascii() and rest.isdigit():
            return "a sign before it; an ID is made of digits alone"
    if _SCIENTIFIC.fullmatch(head):
        return "scientific notation, digits may be lost already: export the column as whole numbers"
    if _HEX.fullmatch(head):
        return "not decimal; an ID is made of the digits 0-9"
    if _DATE.fullmatch(head):
        return "a date, not an ID"
    if _THOUSANDS.fullmatch(head):
        return "a thousands separator inside; write the digits alone"
    if _DECIMAL.fullmatch(head) and any(c.isdigit() for c in head):
        return "a decimal number; an ID is a whole number without a point"
    if _SEVERAL.fullmatch(head):
        return "several numbers in one place"
    if "_" in head and head.replace("_", "").isdigit():
        return "an underscore inside; write the digits alone"
    return None


def _of_first_character(core: str) -> str:
    """The rest: name what is there that no ID has."""
    head = core[:400]
    if len(head) > 1 and head[0] in "\"'" and head[-1] == head[0]:
        return "quotes around it; leave them out, or send the list as CSV (text/csv)"
    if head[0] in "'\u2018\u2019`" and head[1:].isdigit():
        return "an apostrophe before it, as sheets mark text; write the digits alone"
    if head[0] == "=":
        return "a formula; write the digits alone"
    if head[0] in "[{" or head[-1] in "]}":
        return "a bracket; send a JSON list as application/json"
    if _LOOKALIKE.fullmatch(head):
        letter = next(c for c in head if c in "OolI")
        return f"the letter {letter} among the digits"
    if not any(c.isdigit() for c in head):
        return "not a number"
    odd = next((c for c in head if c not in "0123456789"), None)
    if odd is None:
        return "not a number"
    return f"{_visible(odd) if odd != ' ' else 'a blank'} inside; an ID is made of the digits 0-9 alone"
