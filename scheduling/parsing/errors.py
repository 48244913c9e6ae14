"""Why a body was refused as a whole. A class's docstring is the sentence that is shown.

A bad token is no error here: it is a `Fault` in the `Reading`. What is here makes a body unreadable as such,
whatever `on_error` says. The five families tell a face which kind of answer fits; nothing here knows HTTP.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import IO, Any


class ReadingError(Exception):
    """The list could not be read.

    fields_read: what stood in a form's short fields before, and a short payload, so that a page can give it back.
    """

    fields_read: Mapping[str, str] = MappingProxyType({})

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.__dict__.update(facts)
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The docstring's first paragraph on one line, with the facts filled in."""
        paragraph = (type(self).__doc__ or "").strip().split("\n\n")[0]
        return " ".join(paragraph.split()).format(**self.facts)


# --- families -----------------------------------------------------------------------------------------------


class TooLarge(ReadingError):
    """The list is too large."""


class NotAccepted(ReadingError):
    """This type of body is not accepted."""


class Broken(ReadingError):
    """The body is broken as such: it does not follow its own format."""


class NotAList(ReadingError):
    """The body is sound, but no list can be read from it."""


# --- how the body travels -----------------------------------------------------------------------------------


class LengthUnknown(ReadingError):
    """The body's length is not known; send it with a Content-Length, not chunked."""


class NoSpace(ReadingError):
    """The disk is full: the list was not stored; try again later or tell an administrator."""


class BodyTooLarge(TooLarge):
    """The body is larger than {limit} bytes, compressed or not."""


class TooManyIds(TooLarge):
    """The list has more than {limit} entries."""


class CutOff(Broken):
    """The body was cut off: {received} of {expected} bytes arrived."""


class BrokenGzip(Broken):
    """The body is not valid gzip: {problem}."""


class CutGzip(Broken):
    """The gzip data end in the middle; part of the list is missing."""


# --- what it is ---------------------------------------------------------------------------------------------


class TypeNotAccepted(NotAccepted):
    """The type {given} is not accepted; send one of {accepted}."""


class CharsetNotAccepted(NotAccepted):
    """The charset {given} is not accepted; send UTF-8, or UTF-16 with a byte-order mark."""


class EncodingNotAccepted(NotAccepted):
    """The Content-Encoding {given} is not accepted; send gzip or none."""


class FileNotAccepted(NotAccepted):
    """The file {name} is {what}; save it as CSV or XLSX (Excel workbook) and send that."""


class FilePasswordProtected(NotAccepted):
    """The file {name} is protected by a password; save it without one and send that."""


# --- how it is written --------------------------------------------------------------------------------------


class BrokenText(Broken):
    """The text is not valid {encoding}: {problem}."""


class LineTooLong(Broken):
    """Line {line} has a {what} of more than {limit} bytes; an ID has at most 19 digits."""


class BrokenJson(Broken):
    """The JSON is broken at line {line}, column {column}: {problem}."""


class JsonTooDeep(Broken):
    """The JSON is nested deeper than {limit} levels at line {line}, column {column}: {token}"""


class DoubledField(Broken):
    """The field {name} is given twice."""


class FieldTooLong(Broken):
    """The field {name} has more than {limit} bytes."""


class TooManyFields(Broken):
    """The body has more than {limit} fields."""


class BrokenForm(Broken):
    """The form is broken: {problem}."""


class TooManyColumns(Broken):
    """The first row has more than {limit} cells; a list without columns is sent as text/plain."""


class QuoteNeverClosed(Broken):
    """The quote that opens in line {line} is never closed."""


class BrokenWorkbook(Broken):
    """The XLSX file cannot be read: {problem}."""


# --- what is in it ------------------------------------------------------------------------------------------


class BodyEmpty(NotAList):
    """The body is empty."""


class NotAnObject(NotAList):
    """The JSON is {what}, but an object with task_name and payload is expected."""


class PayloadMissing(NotAList):
    """No list was given: there is no payload."""


class PayloadNotAList(NotAList):
    """The payload is {what}; it must be a string, a number, or an array of numbers and numeric strings."""


class ListEmpty(NotAList):
    """The list has no ID.

    facts: `fault_count`, `faults` (a tuple of Fault), `warnings`: of a list of which every token was skipped;
    `sheet`: of a workbook, the Sheet that was read.
    """

    sheet: Any = None
    warnings: Mapping[str, int] = MappingProxyType({})

    def sentence(self) -> str:
        """Of a workbook with several sheets, which one is empty; of hidden rows, that they were left out."""
        if self.warnings.get("hidden_rows_left_out"):
            return "All IDs of the list are in rows that are hidden in the sheet, and these were left out."
        if self.sheet is None or not self.sheet.others:
            return super().sentence()
        others = ", ".join(self.sheet.others)
        return (
            f"The sheet {self.sheet.name} has no ID; only the first visible sheet is read, and there are "
            f"others: {others}."
        )


class ColumnUnclear(NotAList):
    """It is not clear which column holds the IDs ({problem}); say so by the parameter column: {listed}.

    facts: `choices`, a tuple of Choice (number, name, values), `parameter`.
    """


class ColumnUnknown(NotAList):
    """There is no column {given}; there are: {listed}.

    facts: `choices`, as in ColumnUnclear, `parameter`.
    """


def close_quietly(file: IO[bytes]) -> None:
    """Close a file whose content nobody needs: what a full disk kept from it is no second error."""
    with suppress(OSError):
        file.close()


@contextmanager
def disk() -> Iterator[None]:
    """Turn a full disk into NoSpace; any other error of the disk stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace from error
        raise
