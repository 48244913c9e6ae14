"""Errors of the pages, in plain words."""

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required
from dashboard.formatting import size


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """A 400 or 413 that says what is wrong. What Django itself suspects it keeps to its log."""
    if isinstance(exception, RequestDataTooBig | TooManyFieldsSent | TooManyFilesSent):
        return render(request, "413.html", {"limit": _limit_in_words(request, exception)}, status=413)
    said = str(exception) if isinstance(exception, BadRequest) else ""
    return render(request, "400.html", {"exception": said}, status=400)


def _limit_in_words(request: HttpRequest, exception: Exception) -> str:
    """What the form has too much of, where that has a number."""
    if isinstance(exception, TooManyFieldsSent):
        return f"{settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields"
    # Who hasn't signed in may send less, and the page for that is the one with two fields.
    is_known = hasattr(request, "user") and request.user.is_authenticated
    return size(settings.DATA_UPLOAD_MAX_MEMORY_SIZE) if is_known else ""


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
