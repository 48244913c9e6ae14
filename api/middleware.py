"""Errors that none of our views handles: a wrong host, a form beyond Django's own limits, a broken page."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from api.problems import internal_error, problem_response

# Pages respond in their own way, for people.
PAGE_ROOTS = "dashboard|admin|static|sign-in|sign-out"
_PAGES = re.compile(rf"/(?:(?:{PAGE_ROOTS})(?:/.*)?)?")


def is_page(path: str) -> bool:
    """Whether an address belongs to the pages, whose errors are pages too."""
    return _PAGES.fullmatch(path) is not None


_KINDS = {400: "bad-request", 403: "not-allowed", 404: "not-found", 413: "too-large"}
_DETAILS = {
    400: "This service can't read the request: its host or its form is wrong.",
    403: "This is not allowed.",
    404: "There is nothing at this address.",
    413: "The request is too large.",
}


class ProblemResponses:
    """Turn Django's HTML error pages under addresses of the API into problems."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code < 400 or not response.get("Content-Type", "").startswith("text/html"):
            return response
        if is_page(request.path_info):
            return response
        if response.status_code >= 500:
            return internal_error()
        kind = _KINDS.get(response.status_code, "bad-request")
        return problem_response(kind, _DETAILS.get(response.status_code, response.reason_phrase))
