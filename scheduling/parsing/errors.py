"""Why a body is refused as a whole. A class's docstring is the sentence that is shown.

A bad token is not an error here but a `Fault` in the `Reading`. An error here means that the body as such cannot
be read, whatever `on_error` says. The four families tell an interface which status fits; HTTP is not known here.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import IO, Any

from scheduling.parsing.results import Choice, Sheet


class ReadingError(Exception):
    """The list could not be read.

    fields_read: the short fields, and a short payload, that a form gave before the error, so that a page can
    fill them in again.
    """

    fields_read: Mapping[str, str] = MappingProxyType({})

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.__dict__.update(facts)
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """Return the docstring's first paragraph on one line, with the facts filled in."""
        paragraph = (type(self).__doc__ or "").strip().split("\n\n")[0]
        return " ".join(paragraph.split()).format(**self.facts)


# --- families -----------------------------------------------------------------------------------------------


class TooLarge(ReadingError):
    """The list is too large."""


class NotAccepted(ReadingError):
    """This type of body is not accepted."""


class Broken(ReadingError):
    """The body is broken: it does not follow its own format."""


class NotAList(ReadingError):
    """The body can be read, but it contains no list."""


# --- how the body travels -----------------------------------------------------------------------------------


class LengthUnknown(ReadingError):
    """The length of the body is not known. Send it with a Content-Length header, not chunked."""


class NoSpace(ReadingError):
    """The disk has no room for this list, so it was not stored. Try again later, or tell an administrator."""


class BodyTooLarge(TooLarge):
    """The body is larger than {limit:,} bytes. The limit applies before and after unpacking."""


class TooManyMembers(TooLarge):
    """The gzip data have more than {limit:,} members. Compress the list as a whole."""


class TooManyIds(TooLarge):
    """The list has more than {limit:,} entries."""


class CutOff(Broken):
    """The body was cut off: {received:,} of {expected:,} bytes arrived."""


class BrokenGzip(Broken):
    """The body is not valid gzip: {problem}."""


class CutGzip(Broken):
    """The gzip data end too early, so part of the list is missing."""


# --- what it is ---------------------------------------------------------------------------------------------


class TypeNotAccepted(NotAccepted):
    """The type {given} is not accepted. Send one of these: {accepted}."""


class CharsetNotAccepted(NotAccepted):
    """The charset {given} is not accepted. Send UTF-8, or UTF-16 with a byte-order mark."""


class EncodingNotAccepted(NotAccepted):
    """The Content-Encoding {given} is not accepted. Send gzip, or no encoding."""


class FileNotAccepted(NotAccepted):
    """The file {name} {problem}. Save it as CSV or as an Excel workbook (.xlsx), and send that."""


class BinaryNotAccepted(NotAccepted):
    """The body is {what}, not a list of text. {advice}"""


class FilePasswordProtected(NotAccepted):
    """The file {name} is protected by a password. Save it without one, and send that."""


# --- how it is written --------------------------------------------------------------------------------------


class BrokenText(Broken):
    """The text is not valid {encoding}: {problem}."""


class LineTooLong(Broken):
    """Line {line:,} has a {what} of more than {limit:,} bytes."""


class BrokenJson(Broken):
    """The JSON is broken at line {line:,}, column {column:,}: {problem}."""


class JsonTooDeep(Broken):
    """The JSON is nested deeper than {limit} levels at line {line:,}, column {column:,}: {token}"""


class DoubledField(Broken):
    """The field {name} is given twice."""


class FieldTooLong(Broken):
    """The field {name} has more than {limit:,} bytes."""


class TooManyFields(Broken):
    """The body has more than {limit:,} fields."""


class FieldsTooLong(Broken):
    """The fields of the body other than the list have more than {limit:,} bytes together."""


class BrokenForm(Broken):
    """The form is broken: {problem}."""


class TooManyColumns(Broken):
    """The first row has more than {limit:,} cells. Send a list that has no columns as text/plain."""


class QuoteNeverClosed(Broken):
    """The quote that opens in line {line:,} is never closed."""


class QuotedCellTooLong(Broken):
    """The quoted cell that begins in line {line:,} has more than {limit:,} bytes. Its quote may never be closed."""


class BrokenWorkbook(Broken):
    """The Excel workbook cannot be read: {problem}."""


# --- what is in it ------------------------------------------------------------------------------------------


class BodyEmpty(NotAList):
    """The body is empty."""


class NotAnObject(NotAList):
    """The JSON is {what}. Send an object with the fields as its members."""


class PayloadMissing(NotAList):
    """No list was given. Send it as payload or as a file."""


class PayloadNotAList(NotAList):
    """The payload is {what}. Send a string, a number, or an array of IDs, or of objects with an ID."""


class ListEmpty(NotAList):
    """The list contains no IDs.

    facts: `fault_count`, `faults` (a tuple of Fault) and `warnings` of a list whose every token was skipped;
    `sheet`: the Sheet that was read, for a workbook.
    """

    sheet: Sheet | None = None
    warnings: Mapping[str, int] = MappingProxyType({})

    def sentence(self) -> str:
        """Name the sheet if the workbook has several, and say if hidden rows were left out."""
        if self.warnings.get("hidden_rows_left_out"):
            return "Every ID in the list is in a hidden row, and hidden rows were left out."
        if self.sheet is None or not self.sheet.others:
            return super().sentence()
        others = ", ".join(self.sheet.others)
        return (
            f"The sheet {self.sheet.name} contains no IDs. The other sheets are: {others}. "
            "Name the sheet to read in the parameter sheet."
        )


class SheetUnclear(NotAList):
    """It is not clear which sheet holds the list, since several could. Name it in the parameter sheet: {listed}.

    facts: `choices`, a tuple of Choice (number, name, first values), and `parameter`.
    """

    choices: tuple[Choice, ...] = ()


class SheetUnknown(NotAList):
    """There is no sheet {given}. The sheets are: {listed}.

    facts: `choices` and `parameter`, as in SheetUnclear.
    """

    choices: tuple[Choice, ...] = ()
    given: str


class NoSheets(NotAList):
    """The parameter sheet is given, but the list is not an Excel workbook. Leave it out."""


class DataUnclear(NotAList):
    """The parameter data can't be followed: {problem}."""


class DataUnknown(NotAList):
    """There is no column {given} for data. The columns are: {listed}.

    facts: `choices` and `parameter`, as in ColumnUnclear.
    """

    choices: tuple[Choice, ...] = ()
    given: str


class DataIsId(NotAList):
    """The column {given} is requested as data, but it has the IDs, which are always there: as {{{{id}}}}."""

    given: str


class HeaderOfText(NotAList):
    """The parameter header is true, but plain text has no header: each of its lines is an ID. Send it as text/csv."""


class DoubledColumn(NotAList):
    """The column {name} is requested as data, but it appears twice in the header. Rename one of them."""


class IdTypeUnknown(NotAList):
    """The ID type {given} is not known. It is integer or text."""


class ColumnUnclear(NotAList):
    """It is not clear which column holds the IDs: {problem}. Name it in the parameter column: {listed}.

    facts: `choices`, a tuple of Choice (number, name, values), and `parameter`.
    """

    choices: tuple[Choice, ...] = ()
    problem: str


class ColumnUnknown(NotAList):
    """There is no column {given}. The columns are: {listed}.

    facts: `choices` and `parameter`, as in ColumnUnclear.
    """

    choices: tuple[Choice, ...] = ()
    given: str


def close_quietly(file: IO[bytes]) -> None:
    """Close a file whose content is no longer needed, even if the disk is too full to flush it."""
    with suppress(OSError):
        file.close()


@contextmanager
def disk() -> Iterator[None]:
    """Turn the error of a full disk into NoSpace. Other errors of the disk pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace from error
        raise
