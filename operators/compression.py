"""Compress a response by gzip, for clients that accept it."""

import gzip
import re

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

_GZIP = re.compile(r"\bgzip\b", re.IGNORECASE)
_REFUSES_GZIP = re.compile(r"\bgzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)", re.IGNORECASE)


def refuses_gzip(request: HttpRequest) -> bool:
    """Whether the client says that it takes no gzip: by a weight of zero, which Django doesn't read."""
    return bool(_REFUSES_GZIP.search(request.headers.get("Accept-Encoding", "")))


def compress(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Compress a response in which nothing is secret: the length of one that also repeats a request gives secrets away.

    Fast rather than small: what is polled each second is compressed each second.
    """
    patch_vary_headers(response, ["Accept-Encoding"])
    if _GZIP.search(request.headers.get("Accept-Encoding", "")) and not refuses_gzip(request):
        response.content = gzip.compress(response.content, compresslevel=1, mtime=0)
        response["Content-Encoding"] = "gzip"
        response["Content-Length"] = str(len(response.content))
    return response
