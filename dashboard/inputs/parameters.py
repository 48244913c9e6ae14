"""The parameters of an address.

Unknown ones are refused, since a misspelt filter must never mean "no filter".
"""

from collections.abc import Collection
from datetime import date, datetime

from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.urls import reverse

from dashboard import addresses
from scheduling import models

MAX_KEY = 2**63 - 1
# The days that may be asked for: the database can store them in every zone, and they have windows.
EARLIEST, LATEST = date(2000, 1, 1), date(2088, 12, 31)


# The only one that may be given several times: see dashboard.inputs.columns.
COLUMNS = "columns"


def refuse_unknown(request: HttpRequest, allowed: Collection[str]) -> None:
    """Raise BadRequest (a 400 in words) for a parameter that the page doesn't know, or one given twice."""
    for name, values in request.GET.lists():
        if name not in allowed:
            there_are = f"there are: {', '.join(sorted(allowed))}" if allowed else "there is none"
            raise BadRequest(f"There is no parameter {name[:60]!r} here; {there_are}.")
        if len(values) > 1 and name != COLUMNS:
            raise BadRequest(f"The parameter {name!r} is given {len(values)} times.")


def whole_number(request: HttpRequest, name: str, *, low: int = 0) -> int | None:
    """Read a parameter that is a whole number; None if it isn't given. Raises BadRequest."""
    text = request.GET.get(name, "")
    if not text:
        return None
    if not (is_number(text) and int(text) >= low):
        raise BadRequest(f"{name}: {text[:40]!r} is not a number from {low} to {MAX_KEY}.")
    return int(text)


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_KEY


def read_moment(text: str) -> datetime:
    """Read a time from an address. Raises BadRequest."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    # Beyond these years, not every zone and database can represent it.
    if at is None or at.tzinfo is None or not EARLIEST.year <= at.year <= LATEST.year:
        raise BadRequest(f"at: {text[:40]!r} is not a time with a time zone.")
    return at


def board_address(request: HttpRequest) -> str | None:
    """Return the address of the board on which the button stood that was pressed; None if it stood elsewhere."""
    name = request.POST.get("board", "")
    if name == "*" or models.Queue.objects.filter(name=name).exists():
        return addresses.with_query(reverse("board"), queue=name)
    return None
