"""Errors of the pages, in plain words."""

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A 400 that says what is wrong. What Django itself suspects it keeps to its log."""
    said = str(exception) if isinstance(exception, BadRequest) else ""
    return render(request, "400.html", {"exception": said}, status=400)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A 404 with the sentence of the view that raised it; the resolver's own is for those who write code."""
    said = exception.args[0] if exception.args and isinstance(exception.args[0], str) else ""
    # Django's own words for a missing row name a class.
    reason = "" if said.startswith("No ") and "matches the given query" in said else said
    return render(request, "404.html", {"reason": reason}, status=404)
