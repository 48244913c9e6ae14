"""Every page needs a signed-in operator, unless its view is marked as open or belongs to the API."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme

from operators.actor import Actor
from operators.signals import action_taken

API = "ninja"
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
# Set in a request's META where the view is behind the sign-in.
PRIVATE = "quarterdeck.private"
# The same refusal again is recorded after this: a page that polls would fill the log.
REPEATED_SECONDS = 60
PROBED = ("/healthz/live", "/healthz/ready", "/metrics")
# A parameter of the sign-in page: the session has ended.
ENDED = "ended"


class SignInRequired(LoginRequiredMiddleware):
    """Django's own middleware, which skips views marked `login_not_required`; the API authenticates itself."""

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: tuple[Any, ...],
        view_kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        # The API takes tokens and answers 401: a program can't follow a redirect to a page.
        if request.resolver_match and API in request.resolver_match.app_names:
            return None
        if getattr(view_func, "login_required", True):
            request.META[PRIVATE] = True
        return super().process_view(request, view_func, view_args, view_kwargs)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Let no browser keep a page behind the sign-in: after signing out, its back button would show it."""
        if PRIVATE in request.META and not response.has_header("Cache-Control"):
            response["Cache-Control"] = "no-store"
        return response

    def handle_no_permission(  # type: ignore[override]  # not always a redirect
        self, request: HttpRequest, view_func: Callable[..., HttpResponseBase]
    ) -> HttpResponse:
        if request.method not in SAFE:
            return _not_done(request)
        # The browser had a session: the sign-in page says that it has ended.
        ended = f"&{ENDED}=1" if settings.SESSION_COOKIE_NAME in request.COOKIES else ""
        if request.headers.get("HX-Request") == "true":
            # A redirect would put the sign-in page into the fragment's place.
            return HttpResponse(status=204, headers={"HX-Redirect": _sign_in(request) + ended})
        redirect = super().handle_no_permission(request, view_func)
        redirect["Location"] += ended
        return redirect


def _not_done(request: HttpRequest) -> HttpResponse:
    """Say so, instead of redirecting: after signing in, nothing would show that the operation was lost."""
    address = _sign_in(request)
    if request.headers.get("HX-Request") == "true":
        message = format_html('You are signed out; nothing was done. <a href="{}">Sign in</a>', address)
        return HttpResponse(message, status=401)
    return render(request, "operators/signed_out.html", {"sign_in": address}, status=401)


def _sign_in(request: HttpRequest) -> str:
    """The sign-in page, which leads back to the page that the request came from."""
    return f"{reverse('sign_in')}?{urlencode({'next': _page_of(request)})}"


def _page_of(request: HttpRequest) -> str:
    """The page with the form, never the address that the form is sent to: that may only accept POST."""
    address = request.headers.get("HX-Current-URL") or request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(
        address, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return resolve_url(settings.LOGIN_REDIRECT_URL)
    parts = urlsplit(address)
    return urlunsplit(("", "", parts.path or "/", parts.query, ""))


def client_address(request: HttpRequest) -> str:
    """The address that a request came from; failed sign-ins are counted by it."""
    return network_of(address_in(request.META))


def address_in(meta: Mapping[str, Any]) -> str:
    """The client's address in a WSGI environment.

    Of X-Forwarded-For only what the deployment's own proxies wrote counts: the last TRUSTED_PROXIES entries.
    What is no address is ignored.
    """
    peer = str(meta.get("REMOTE_ADDR", ""))
    hops = str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")
    if not 0 < settings.TRUSTED_PROXIES <= len(hops):
        return peer
    try:
        return str(ip_address(hops[-settings.TRUSTED_PROXIES].strip()))
    except ValueError:
        return peer


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """What limits for an address apply to: one of IPv4, or the first of the IPv6 network (/64) that a client has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64))


class RecordsRefusals:
    """Adds an entry to the activity log when a known operator or token is refused something."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        # When an entry was made for an actor, method and path, in monotonic seconds.
        self.recorded: dict[tuple[str, int | None, str, str], float] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == 403:
            # If the log can't be written, nothing else is refused.
            with suppress(DatabaseError), transaction.atomic():
                self._record(request)
        return response

    def _record(self, request: HttpRequest) -> None:
        caller = getattr(request, "caller", None)
        if caller is not None:
            principal, by = caller.principal, caller.actor
        elif request.user.is_authenticated:
            principal, by = request.user, Actor.of_operator(request.user)
        else:
            return
        key = (by.kind, by.id, request.method or "", request.path)
        now = time.monotonic()
        if now - self.recorded.get(key, -REPEATED_SECONDS) < REPEATED_SECONDS:
            return
        if len(self.recorded) > 1000:
            self.recorded.clear()
        self.recorded[key] = now
        details = {"method": request.method, "path": request.path[:200]}
        action_taken.send(
            type(principal), by=by, act="refused", target=principal, at=timezone.now(), details=details
        )


class Probes:
    """Lets monitoring ask by IP address or without a Host header, which ALLOWED_HOSTS would refuse."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path.rstrip("/") in PROBED:
            # Nothing in these answers depends on the host.
            request.get_host = lambda: "localhost"  # type: ignore[method-assign]  # on this request only
        return self.get_response(request)
