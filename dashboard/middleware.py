"""Error pages for responses that none of our views makes."""

from collections.abc import Callable

from django.core.exceptions import ObjectDoesNotExist
from django.core.handlers.exception import response_for_exception
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from scheduling.core.errors import DELETED_MEANWHILE


class NotAllowedInWords:
    """Adds a page to an empty 405: somebody who opens a button's address would see an empty window."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # The API has its own response.
        if response.status_code != 405 or response.streaming or response.content:
            return response
        page = render(request, "405.html", status=405)
        page["Allow"] = response.get("Allow", "")
        return page


class DeletedMeanwhile:
    """Shows a 404 where somebody else deleted a row after the request had found it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, ObjectDoesNotExist):
            return None
        return response_for_exception(request, Http404(DELETED_MEANWHILE))
