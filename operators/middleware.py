"""Nobody gets in unseen: what is neither the API nor said to be open needs a signed-in operator."""

from collections.abc import Callable
from urllib.parse import urlencode, urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme

API = "ninja"
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
# A parameter of the sign-in page: there was a session, and it has ended.
ENDED = "ended"


class SignInRequired(LoginRequiredMiddleware):
    """Django's own, which leaves out views marked `login_not_required`; the API has doors of its own."""

    def process_view(
        self, request: HttpRequest, view_func: Callable, view_args: tuple, view_kwargs: dict
    ) -> HttpResponse | None:
        # The API answers 401 and takes tokens; a redirect to a page would be no answer to a program.
        if API in request.resolver_match.app_names:
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(self, request: HttpRequest, view_func: Callable) -> HttpResponse:
        if request.method not in SAFE:
            return _nothing_was_done(request)
        # There was a session, whose cookie goes with this answer: whoever comes back is told.
        told = f"&{ENDED}=1" if settings.SESSION_COOKIE_NAME in request.COOKIES else ""
        if request.headers.get("HX-Request") == "true":
            # A redirect would put the sign-in page into the fragment's place.
            return HttpResponse(status=204, headers={"HX-Redirect": _sign_in(request) + told})
        answer = super().handle_no_permission(request, view_func)
        answer["Location"] += told
        return answer


def _nothing_was_done(request: HttpRequest) -> HttpResponse:
    """A redirect would be followed to the sign-in, and after it nothing would say that the act is lost."""
    address = _sign_in(request)
    if request.headers.get("HX-Request") == "true":
        said = format_html('You are signed out; nothing was done. <a href="{}">Sign in</a>', address)
        return HttpResponse(said, status=401)
    return render(request, "operators/signed_out.html", {"sign_in": address}, status=401)


def _sign_in(request: HttpRequest) -> str:
    """The sign-in page, which leads back to where somebody was."""
    return f"{reverse('sign_in')}?{urlencode({'next': _page_of(request)})}"


def _page_of(request: HttpRequest) -> str:
    """The page that a form stood on. Never what the form was sent to: that may answer to a POST alone."""
    came_from = request.headers.get("HX-Current-URL") or request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(
        came_from, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return resolve_url(settings.LOGIN_REDIRECT_URL)
    parts = urlsplit(came_from)
    return urlunsplit(("", "", parts.path or "/", parts.query, ""))


def client_address(request: HttpRequest) -> str:
    """The address that a request came from, which failed sign-ins are counted by.

    X-Forwarded-For counts only as far as the deployment's own proxies wrote it: TRUSTED_PROXIES of them.
    """
    peer = request.META.get("REMOTE_ADDR", "")
    if not settings.TRUSTED_PROXIES:
        return peer
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    return hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES and hops[0] else peer
