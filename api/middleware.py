"""What surrounds every request: its ID, CORS, compression, and errors that none of our views handles."""

import re
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils.cache import patch_vary_headers

from api.problems import DISK_FULL, UNREACHABLE, internal_error, problem_response
from operators.compression import refuses_gzip

# Pages respond in their own way, for people.
PAGE_ROOTS = "dashboard|admin|static|sign-in|sign-out"
_PAGES = re.compile(rf"/(?:(?:{PAGE_ROOTS})(?:/.*)?)?")


def is_page(path: str) -> bool:
    """Whether an address belongs to the pages, whose errors are pages too."""
    return _PAGES.fullmatch(path) is not None


_KINDS = {
    400: "bad-request",
    403: "not-allowed",
    404: "not-found",
    413: "too-large",
    503: "not-ready",
    507: "disk-full",
}
_DETAILS = {
    400: "This service can't read the request: its host or its form is wrong.",
    403: "This is not allowed.",
    404: "There is nothing at this address.",
    413: "The request is too large.",
    503: UNREACHABLE,
    507: DISK_FULL,
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
        if response.status_code == 500:
            return internal_error(request)
        kind = _KINDS.get(response.status_code, "bad-request")
        return problem_response(kind, _DETAILS.get(response.status_code, response.reason_phrase))


_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# What a page of another origin may send, and read of a response.
_CORS_REQUEST_HEADERS = (
    "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
    "X-Request-ID"
)
_CORS_RESPONSE_HEADERS = (
    "ETag, Idempotent-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, Warning, "
    "X-Request-ID"
)
_PREFLIGHT_SECONDS = 600


class RequestId:
    """Give each request an ID, which the log has too: the client's own X-Request-ID, or a new one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = str(uuid.uuid4())
            request.META["HTTP_X_REQUEST_ID"] = request_id
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response


class Compression:
    """Compress responses of the API for clients that accept gzip. Pages contain secrets of forms, so they stay."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.gzip = GZipMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if is_page(request.path_info) or refuses_gzip(request):
            return response
        return self.gzip.process_response(request, response)


class Cors:
    """Let pages of the origins in CORS_ALLOWED_ORIGINS use the API, with tokens and never with sessions."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not settings.CORS_ALLOWED_ORIGINS or is_page(request.path_info):
            return response
        patch_vary_headers(response, ["Origin"])
        origin = request.headers.get("Origin")
        if origin not in settings.CORS_ALLOWED_ORIGINS:
            return response
        response["Access-Control-Allow-Origin"] = origin
        response["Access-Control-Expose-Headers"] = _CORS_RESPONSE_HEADERS
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response["Access-Control-Allow-Methods"] = response.get("Allow", "")
            response["Access-Control-Allow-Headers"] = _CORS_REQUEST_HEADERS
            response["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        return response
