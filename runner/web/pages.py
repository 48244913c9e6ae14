"""A request and a response as Django sees them; everything here but `environ` runs in a thread.

A body that is slow or long is received only if Django would accept it. So Django is asked first, with a body
whose first byte isn't there: what it answers without reading (no token, a wrong type, too long) is the answer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_started
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver, set_script_prefix

from api.middleware import is_page
from api.problems import not_signed_in, problem_response
from operators.middleware import PRIVATE
from scheduling.reports.outcomes import Awaited

log = structlog.get_logger("web")

Headers = list[tuple[bytes, bytes]]

# A response that is produced piece by piece is sent in pieces of about this size.
PIECE_BYTES = 64 * 1024
# What a form may have that nobody has looked at yet: a name, a password, a few fields.
FORM_BYTES = 16 * 1024
# Where a client sent such a header itself, the line that the proxy added comes after it.
LAST_LINE_COUNTS = frozenset({"HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST"})
# Views that read a body of any length by themselves; all others get forms of this size at most.
LIST_PAGES = frozenset({"upload", "task_replace"})

handler = WSGIHandler()
# Loaded now: the first request would otherwise wait for it, and all others with it.
assert get_resolver().url_patterns


class NotReceived(BaseException):
    """Django wants to read a body that has not been received. Not an Exception: nobody may handle it."""


class Missing:
    """Stands for a body that has not been received. request: whose body it is."""

    request: HttpRequest | None = None

    def read(self, *_: int) -> bytes:
        if self.request and is_page(self.request.path) and _length(self.request) > _limit(self.request):
            # It won't be received either. Django makes the page that says so.
            raise RequestDataTooBig
        raise NotReceived

    readline = read


@dataclass(frozen=True)
class Wanted:
    """Django would read the body. limit: how much of it. from_known: its sender's token or session is valid."""

    limit: int
    from_known: bool


@dataclass
class Response:
    """rest: further pieces of the body, each produced by a call in a thread; None if `body` is all of it.

    A streaming response has nothing but pieces until `begin` was called, in a thread too.
    """

    status: int
    headers: Headers
    body: bytes
    rest: Iterator[bytes] | None = None
    source: HttpResponseBase | None = None
    # Whether its sender had a valid token or session.
    to_known: bool = False
    # It says that there is nothing yet: once this has arrived, Django may be asked again.
    awaited: Awaited | None = None

    def begin(self) -> None:
        """Produce the first piece, which for most is all of it."""
        self.body = self.next_piece()
        second = self.next_piece() if self.body else b""
        if second:
            assert self.rest is not None
            self.rest = chain([second], self.rest)
        else:
            self.rest = None
            self.close()

    def next_piece(self) -> bytes:
        """The next piece, empty at the end. The generator keeps no cursor, so any thread will do."""
        assert self.rest is not None
        try:
            return _piece(self.rest)
        finally:
            close_old_connections()

    def close(self) -> None:
        if self.source is not None:
            self.source.close()


def environ(scope: dict[str, Any]) -> dict[str, Any]:
    """The WSGI environment of a request, without its body.

    Header names with an underscore are dropped: in the environment `X_Forwarded_For` would be X-Forwarded-For.
    """
    server, client = scope.get("server") or ("", 0), scope.get("client") or ("", 0)
    result: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        if name in result and name not in LAST_LINE_COUNTS:
            value = f"{result[name]}{'; ' if name == 'HTTP_COOKIE' else ','}{value}"
        result[name] = value
    return result


def respond(wsgi_environ: dict[str, Any], body: IO[bytes] | Missing) -> Response | Wanted:
    """Let Django answer a request. Wanted: it would have to read a body that is missing."""
    set_script_prefix("/")
    # A copy: Django writes into it, and may be asked twice.
    wsgi_environ = {**wsgi_environ, "wsgi.input": body}
    request_started.send(sender=WSGIHandler, environ=wsgi_environ)
    request = WSGIRequest(wsgi_environ)
    if isinstance(body, Missing):
        body.request = request
    try:
        response = handler.get_response(request)
    except NotReceived:
        return Wanted(_limit(request), _is_known(request))
    except Exception:
        log.exception("request_failed", path=request.path)
        response = HttpResponse("Something went wrong on our side.", status=500, content_type="text/plain")
    response._handler_class = WSGIHandler  # type: ignore[attr-defined]  # as Django's own WSGIHandler does
    begun = _begun(response)
    # Where the database fails, whose session it is can't be asked either.
    begun.to_known = response.status_code < 500 and _is_known(request)
    return begun


def unknown() -> Response:
    """What the API answers to a request without token and session."""
    response = not_signed_in()
    response["Cache-Control"] = "no-store"
    return _begun(response)


def refusal(path: str, kind: str, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """An error that is found before Django is asked, in the form that the address has for errors."""
    response = problem_response(kind, sentence, headers=headers)
    if is_page(path):
        page = HttpResponse(_PAGE.format(sentence).encode(), status=response.status_code)
        page["Content-Security-Policy"] = "default-src 'none'"
        for name, value in (headers or {}).items():
            page[name] = value
        response = page
    response["Cache-Control"] = "no-store"
    return _begun(response)


_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Quarterdeck</title><p role=alert>{}</p></html>"
)


def _is_known(request: HttpRequest) -> bool:
    """Whether the request came with a valid token or session. Asks the database nothing that it wasn't asked."""
    if hasattr(request, "caller"):
        return True
    return PRIVATE in request.META and hasattr(request, "user") and request.user.is_authenticated


def _length(request: HttpRequest) -> int:
    """How long the body is, as announced."""
    return int(request.META.get("CONTENT_LENGTH") or 0)


def _limit(request: HttpRequest) -> int:
    """How long a body may be that a view wants to read."""
    match = request.resolver_match
    if hasattr(request, "caller"):
        # The API has let the caller in, and compared the announced length with its own limits.
        return settings.INTAKE_MAX_BODY_BYTES
    if not (hasattr(request, "user") and request.user.is_authenticated):
        return FORM_BYTES
    if match and match.url_name in LIST_PAGES:
        return settings.INTAKE_MAX_BODY_BYTES
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0


def _begun(response: HttpResponseBase) -> Response:
    """The response as the event loop sends it."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    headers += [
        (b"set-cookie", cookie.output(header="").strip().encode("latin-1"))
        for cookie in response.cookies.values()
    ]
    if response.streaming:
        pieces: Iterable[bytes] = response.streaming_content  # type: ignore[attr-defined]  # only `streaming` is declared
        return Response(response.status_code, headers, b"", iter(pieces), response)
    body = response.content  # type: ignore[attr-defined]  # likewise
    response.close()
    return Response(response.status_code, headers, body, awaited=getattr(response, "awaited", None))


def _piece(pieces: Iterator[bytes]) -> bytes:
    """The next bytes: a few small pieces, or one large one. Empty at the end."""
    collected = bytearray()
    for piece in pieces:
        collected += piece
        if len(collected) >= PIECE_BYTES:
            break
    return bytes(collected)
