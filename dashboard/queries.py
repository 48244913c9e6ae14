"""The parameters of an address: known ones only, since a misspelt filter must never mean "no filter"."""

from collections.abc import Collection

from django.core.exceptions import BadRequest
from django.http import HttpRequest


def refuse_unknown(request: HttpRequest, known: Collection[str]) -> None:
    """Raise BadRequest (a 400 in words) for a parameter that the page doesn't know, or one given twice."""
    for name, values in request.GET.lists():
        if name not in known:
            there_are = f"there are: {', '.join(sorted(known))}" if known else "there is none"
            raise BadRequest(f"There is no parameter {name[:60]!r} here; {there_are}.")
        if len(values) > 1:
            raise BadRequest(f"The parameter {name!r} is given {len(values)} times.")
