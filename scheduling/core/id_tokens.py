"""Reads a token of a list as an ID, or says in a sentence why it is not one.

A token is an ID if it consists of the digits 0-9 alone, once spaces and invisible characters are trimmed from
its ends, and its number is 1 to 9223372036854775807. Nothing is guessed: `int()` accepts full-width digits,
`1_000`, `+5` and U+00A0, so it is called only after digits and length have been checked.

A reason is one or two sentences that can be shown beside the token, and that `refusal` can put after it.
"""

import re
import unicodedata
from typing import NamedTuple

LARGEST = 9223372036854775807
SHOWN_CHARACTERS = 40
TEXT_CHARACTERS = 100
# From this number on, JavaScript cannot tell two neighbouring whole numbers apart.
PAST_JAVASCRIPT = 2**53

# U+FEFF byte-order mark, U+00A0 and U+202F no-break spaces, U+200B to U+200F and U+2060 without any width.
_INVISIBLE = "\ufeff\u00a0\u202f\u200b\u200c\u200d\u200e\u200f\u2060"
_BLANKS = " \t\r\n\v\f\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u205f\u3000"
TRIMMED = _BLANKS + _INVISIBLE

# Each pattern takes time linear in the token: no two neighbouring repetitions match the same characters.
_SIGN = re.compile("[+\\-\u2212\u2013][0-9]")
_SCIENTIFIC = re.compile(r"[+\-]?[0-9]+(?:[.,][0-9]*)?[eE][+\-]?[0-9]+")
_HEX = re.compile(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+")
_THOUSANDS = re.compile("[0-9]{1,3}(?:([.,'\u2019 \u00a0\u202f\u2009])[0-9]{3})(?:\\1[0-9]{3})*")
# A comma before more than two digits more likely separates two IDs.
_DECIMAL = re.compile(r"[0-9]*\.[0-9]*|[0-9]*,[0-9]{0,2}")
_SEVERAL = re.compile(r"[0-9]+(?:[,;\s]+[0-9]+)+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}")
_NUMBER_LIKE = re.compile(
    "[+\\-\u2212]?[0-9][0-9.,'_\u2019 \u00a0\u202f]*(?:[eE][+\\-]?[0-9]+)?|0[xX][0-9a-fA-F]+"
)
_LOOKALIKE = re.compile(r"[0-9OolI]+")
_NOT_A_NUMBER = "It is not a number."
_WORDS = {
    "true": "It is a truth value, not an ID.",
    "false": "It is a truth value, not an ID.",
    "null": "It is an empty value (null), not an ID.",
    "none": "It is an empty value (None), not an ID.",
    "nan": _NOT_A_NUMBER,
}
TOO_LARGE = f"The largest ID is {LARGEST}."
TOO_SMALL = "IDs begin at 1."
EMPTY = "It is empty."


class ParsedToken(NamedTuple):
    """What a token was read as. Either `id` or `reason` is None."""

    id: int | None
    reason: str | None
    trimmed: bool
    leading_zeros: bool


def read(token: str) -> ParsedToken:
    """Read one token. The reason of a token with nothing in it is EMPTY."""
    core = token.strip(TRIMMED)
    trimmed = len(core) != len(token)
    if not (core.isascii() and core.isdigit()):
        return ParsedToken(None, _reason(core), trimmed, False)
    digits = core.lstrip("0")
    if len(digits) > 19:
        return ParsedToken(None, TOO_LARGE, trimmed, False)
    number = int(digits or "0")
    if number > LARGEST:
        return ParsedToken(None, TOO_LARGE, trimmed, False)
    if number == 0:
        return ParsedToken(None, TOO_SMALL, trimmed, False)
    return ParsedToken(number, None, trimmed, len(digits) != len(core))


def read_text(token: str) -> tuple[str | None, str | None, bool]:
    """Read one token as a text ID. Returns the ID or None, the reason or None, and whether it was trimmed.

    A text ID has 1 to 100 characters once its ends are trimmed, no control characters, and is compared after
    Unicode NFC normalization.
    """
    core = token.strip(TRIMMED)
    trimmed = len(core) != len(token)
    if not core:
        return None, EMPTY, trimmed
    core = composed(core)
    if len(core) > TEXT_CHARACTERS:
        return None, f"It has more than {TEXT_CHARACTERS} characters.", trimmed
    if core.isprintable():
        return core, None, trimmed
    for character in core:
        byte = _undecoded_byte(character)
        if byte is not None:
            return None, _not_utf8(byte), trimmed
        if unicodedata.category(character) in ("Cc", "Cs"):
            return None, f"It contains the control character {_visible(character)}.", trimmed
    return core, None, trimmed


def composed(text: str) -> str:
    """Return text in Unicode's NFC: some systems write an umlaut as two characters, which look like one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_id(token: str) -> bool:
    """Return whether a token is an ID, without looking for the reason if it is not."""
    core = token.strip(TRIMMED)
    return core.isascii() and core.isdigit() and read(core).id is not None


# Letters by their category that nothing can be seen of: Hangul fillers, and the empty Braille cell.
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


def is_visible(text: str) -> bool:
    """Return whether anything of a text can be seen: not only spaces, controls and zero-width characters."""
    return any(unicodedata.category(c)[0] not in "ZCM" and c not in _BLANK_LETTERS for c in text)


def looks_like_a_number(cell: str) -> bool:
    """Return whether a cell in the first row is more likely a damaged ID than the name of a column."""
    core = cell.strip(TRIMMED)
    if not core or len(core) > 400:
        return False
    return _NUMBER_LIKE.fullmatch(core) is not None or all(c.isdecimal() for c in core)


def visible(text: str, length: int = SHOWN_CHARACTERS) -> str:
    """Return `text` with invisible characters spelled out, cut to `length` characters.

    A zero-width space becomes `<U+200B>`, a byte that is not UTF-8 `<0x96>`.
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


def readable(text: str) -> str:
    """Return `text` as it is, except for bytes that are not UTF-8, which are spelled out as `<0xE9>`."""
    if text.isascii():
        return text
    return "".join(_visible(c) if _undecoded_byte(c) is not None else c for c in text)


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    code = ord(character)
    byte = _undecoded_byte(character)
    if byte is not None:
        return f"<0x{byte:02X}>"
    if unicodedata.category(character)[0] in "CZ" or unicodedata.combining(character):
        return f"<U+{code:04X}>"
    return character


def _undecoded_byte(character: str) -> int | None:
    """Return the byte that `surrogateescape` kept as this character because it is not UTF-8, or None."""
    code = ord(character)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else None


def refusal(token: str, reason: str) -> str:
    """Return the sentence that refuses a token: "0 is not allowed: IDs begin at 1."

    token: already visible, as in a Fault.
    """
    # "It is a date" continues a sentence in lower case, "IDs begin at 1" as it is.
    rest = reason[:1].lower() + reason[1:] if reason[1:2] in (" ", *"abcdefghijklmnopqrstuvwxyz") else reason
    return f"{token or 'An empty entry'} is not allowed: {rest}"


def _reason(core: str) -> str:
    """Say why `core`, which is trimmed and does not consist of digits alone, is not an ID."""
    if not core:
        return EMPTY
    return _reason_by_character(core) or _reason_by_form(core) or _reason_by_odd_character(core)


def _reason_by_character(core: str) -> str | None:
    """Return the reason if a character is invisible, undecodable or a digit of another script."""
    if core.isascii() and core.isprintable():
        return None
    for character in core[:1000]:
        byte = _undecoded_byte(character)
        if byte is not None:
            return _not_utf8(byte)
        if character == "\0":
            return "It contains a zero byte. A file in UTF-16 needs a byte-order mark."
        is_hidden = ord(character) > 126 and unicodedata.category(character) in ("Cf", "Cc")
        if is_hidden or character in _INVISIBLE:
            if _THOUSANDS.fullmatch(core):
                return _HAS_THOUSANDS
            return f"It contains the invisible character U+{ord(character):04X}. Remove that character."
    if not core.isascii() and all(c.isdecimal() for c in core):
        name = unicodedata.name(core[0], "a digit of another script").lower()
        return f"Its digits are not 0-9 but others that look similar (the first is {name})."
    return None


def _not_utf8(byte: int) -> str:
    """Return the reason for a byte that is not UTF-8, with what it would be in the usual code page."""
    character = bytes([byte]).decode("cp1252", "replace")
    if character == "\ufffd" or not character.isprintable():
        return f"The byte 0x{byte:02X} is not UTF-8. Save the file as CSV UTF-8."
    return (
        f"The byte 0x{byte:02X} is not UTF-8. The file is probably in the code page Windows-1252, "
        f"where this byte is {character}. Save the file as CSV UTF-8."
    )


_HAS_THOUSANDS = "It contains a thousands separator. Write the digits alone."
_QUOTES = frozenset("\"'")
_APOSTROPHES = frozenset("'\u2018\u2019`")
_BY_FORM = (
    (_SCIENTIFIC, "It is in scientific notation, so digits may be lost. Export the column as whole numbers."),
    (_HEX, "It is not a decimal number. Write an ID with the digits 0-9 alone."),
    (_DATE, "It is a date, not an ID."),
    (_THOUSANDS, _HAS_THOUSANDS),
    (_DECIMAL, "It is a decimal number. Write a whole number without a decimal point."),
    (_SEVERAL, "It contains several numbers. Write one ID in each entry."),
)


def _reason_by_form(core: str) -> str | None:
    """Return the reason if the whole token has a known form."""
    # Cut, so that no pattern runs over a megabyte.
    head = core[:400]
    word = _WORDS.get(head.lower())
    if word:
        return word
    if not any(c.isdigit() for c in head):
        return None
    if _SIGN.match(head) and head[1:].isascii() and head[1:].isdigit():
        return "It has a sign. Write the digits alone."
    for pattern, reason in _BY_FORM:
        if pattern.fullmatch(head):
            return reason
    if "_" in head and head.replace("_", "").isdigit():
        return "It contains an underscore. Write the digits alone."
    return None


def _reason_by_odd_character(core: str) -> str:
    """Name the first character that is not part of an ID."""
    head = core[:400]
    if len(head) > 1 and head[0] in _QUOTES and head[-1] == head[0]:
        return "It is in quotes. Leave them out, or send the list as CSV (text/csv)."
    if head[0] in _APOSTROPHES and head[1:].isdigit():
        return "It begins with an apostrophe, which marks text in a spreadsheet. Write the digits alone."
    if head[0] == "=":
        return "It is a formula. Write the digits alone."
    if head.startswith(("[", "{")) or head.endswith(("]", "}")):
        return "It has a bracket. Remove it, or send the list as JSON (application/json)."
    return _reason_by_first_odd(head)


def _reason_by_first_odd(head: str) -> str:
    odd = next((c for c in head if c not in "0123456789"), None)
    if odd is None or not any(c.isdigit() for c in head):
        return _NOT_A_NUMBER
    if _LOOKALIKE.fullmatch(head):
        return f"It has the letter {odd} among its digits."
    return f"It contains {'a space' if odd == ' ' else _visible(odd)}. Write an ID with the digits 0-9 alone."
