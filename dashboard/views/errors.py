"""Errors of the pages, in plain words."""

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """A 400 that says what is wrong. What Django itself suspects it keeps to its log."""
    said = str(exception) if isinstance(exception, BadRequest) else ""
    return render(request, "400.html", {"exception": said}, status=400)


@require_safe
@viewer_required
def without_slash(request: OperatorRequest) -> HttpResponseBase:
    """Lead to the address with its final slash, if there is one."""
    with_slash = f"{request.path_info}/"
    try:
        resolve(with_slash)
    except Resolver404:
        raise Http404 from None
    query = request.META.get("QUERY_STRING", "")
    return redirect(f"{with_slash}?{query}" if query else with_slash)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """A 404 with the sentence of the view that raised it; the resolver's own is for those who write code."""
    said = exception.args[0] if exception.args and isinstance(exception.args[0], str) else ""
    # Django's own words for a missing row name a class.
    reason = "" if said.startswith("No ") and "matches the given query" in said else said
    return render(request, "404.html", {"reason": reason}, status=404)
