"""Error pages with a plain explanation."""

import sys

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required
from dashboard.formatting import size
from scheduling import store


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Show a 400 or 413 with its reason. The reasons of Django's own suspicions go to the log only."""
    if isinstance(exception, RequestDataTooBig | TooManyFieldsSent | TooManyFilesSent):
        return render(request, "413.html", {"limit": _limit_in_words(request, exception)}, status=413)
    message = str(exception) if isinstance(exception, BadRequest) else ""
    return render(request, "400.html", {"exception": message}, status=400)


def _limit_in_words(request: HttpRequest, exception: Exception) -> str:
    """Return the limit that the form exceeded, if it is a number."""
    if isinstance(exception, TooManyFieldsSent):
        return f"{settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields"
    # Anonymous visitors may send less, and the only page for them has two fields.
    is_known = hasattr(request, "user") and request.user.is_authenticated
    return size(settings.DATA_UPLOAD_MAX_MEMORY_SIZE) if is_known else ""


def failed(request: HttpRequest) -> HttpResponseBase:
    """A 500, or what is known about it: a full disk, or a database that can't be reached just now."""
    error = sys.exc_info()[1]
    status = 500
    if error is not None and store.disk_is_full(error):
        status = 507
    elif error is not None and store.is_unavailable(error):
        status = 503
    # Without the request: menu and name would ask the database.
    response = HttpResponse(render_to_string(f"{status}.html"), status=status)
    if status == 503:
        response["Retry-After"] = "5"
    return response


@require_safe
@viewer_required
def without_slash(request: OperatorRequest) -> HttpResponseBase:
    """Redirect to the address with its final slash, if that exists."""
    with_slash = f"{request.path_info}/"
    try:
        resolve(with_slash)
    except Resolver404:
        raise Http404 from None
    query = request.META.get("QUERY_STRING", "")
    return redirect(f"{with_slash}?{query}" if query else with_slash)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Show a 404 with the sentence of the view that raised it; the resolver's own message is for programmers."""
    message = exception.args[0] if exception.args and isinstance(exception.args[0], str) else ""
    # Django's own message for a missing row names a class.
    reason = "" if message.startswith("No ") and "matches the given query" in message else message
    return render(request, "404.html", {"reason": reason}, status=404)
