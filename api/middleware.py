"""Errors that no view of ours answers: a wrong host, a form past Django's own limits, a broken page."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from .problems import internal_error, problem

# What belongs to pages answers in its own way: for people.
PAGE_ROOTS = "dashboard|admin|static|sign-in|sign-out"
_PAGES = re.compile(rf"/(?:(?:{PAGE_ROOTS})(?:/.*)?)?")
_KINDS = {400: "bad-request", 403: "not-allowed", 404: "not-found", 413: "too-large"}
_DETAILS = {
    400: "The request is not one that this service can read; its host or its form is wrong.",
    403: "It is not allowed.",
    404: "Nothing is here.",
    413: "The request is too large.",
}


class ErrorsAreProblems:
    """Turn HTML that Django answers for an error under an address of the API into a problem."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code < 400 or not response.get("Content-Type", "").startswith("text/html"):
            return response
        if _PAGES.fullmatch(request.path_info):
            return response
        if response.status_code >= 500:
            return internal_error()
        kind = _KINDS.get(response.status_code, "bad-request")
        return problem(kind, _DETAILS.get(response.status_code, response.reason_phrase))
