"""The parameters of an address: known ones only, since a misspelt filter must never mean "no filter"."""

from collections.abc import Collection
from datetime import date, datetime

from django.core.exceptions import BadRequest
from django.http import HttpRequest

MAX_KEY = 2**63 - 1
# Days that may be asked for: in every zone the database can store them, and windows know their quarters.
EARLIEST, LATEST = date(2000, 1, 1), date(2088, 12, 31)


# The only one that may be given several times: see dashboard.inputs.columns.
COLUMNS = "columns"


def refuse_unknown(request: HttpRequest, known: Collection[str]) -> None:
    """Raise BadRequest (a 400 in words) for a parameter that the page doesn't know, or one given twice."""
    for name, values in request.GET.lists():
        if name not in known:
            there_are = f"there are: {', '.join(sorted(known))}" if known else "there is none"
            raise BadRequest(f"There is no parameter {name[:60]!r} here; {there_are}.")
        if len(values) > 1 and name != COLUMNS:
            raise BadRequest(f"The parameter {name!r} is given {len(values)} times.")


def whole_number(request: HttpRequest, name: str, *, low: int = 0) -> int | None:
    """A parameter that is a whole number; None where it isn't given. Raises BadRequest."""
    text = request.GET.get(name, "")
    if not text:
        return None
    if not (is_number(text) and int(text) >= low):
        raise BadRequest(f"{name}: {text[:40]!r} is no number from {low} to {MAX_KEY}.")
    return int(text)


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_KEY


def read_moment(text: str) -> datetime:
    """A time as an address has it. Raises BadRequest."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    # Past these years neither every zone nor every database has it.
    if at is None or at.tzinfo is None or not EARLIEST.year <= at.year <= LATEST.year:
        raise BadRequest(f"at: {text[:40]!r} is no time with a zone.")
    return at
