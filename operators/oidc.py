"""Sign-in by OpenID Connect: the organization's own server says who somebody is and which role they have.

Off unless OIDC_ISSUER is set. Authlib implements the protocol: discovery, state, nonce, PKCE, and checking
the signature of the ID token with the server's published keys.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.django_client import OAuth
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_safe
from joserfc.errors import JoseError
from requests import RequestException

from operators import accounts
from operators.errors import SignInRefused
from operators.roles import Role

log = structlog.get_logger(__name__)
BACKEND = "django.contrib.auth.backends.ModelBackend"
NEXT = "oidc_next"
# The errors that can occur between the two servers.
FAILURES = (AuthlibBaseError, JoseError, RequestException, ValueError, KeyError)
DEFAULT_SECONDS = 10


def is_on() -> bool:
    return bool(settings.OIDC_ISSUER)


@lru_cache(maxsize=4)
def _client(issuer: str, client_id: str, client_secret: str, scopes: str) -> Any:
    """Return the client of the server. Its keys and addresses are looked up at the first sign-in."""
    return OAuth().register(
        "oidc",
        client_id=client_id,
        client_secret=client_secret,
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": scopes,
            "code_challenge_method": "S256",
            "default_timeout": DEFAULT_SECONDS,
        },
    )


def _current() -> Any:
    if not is_on():
        raise Http404("Sign-in by OpenID Connect is not set up.")
    return _client(
        settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET, settings.OIDC_SCOPES
    )


@login_not_required
@require_safe
def begin(request: HttpRequest) -> HttpResponse:
    """Redirect to the organization's server, which redirects back to `finish`."""
    client = _current()
    request.session[NEXT] = request.GET.get("next", "")
    try:
        redirect: HttpResponse = client.authorize_redirect(
            request, request.build_absolute_uri(reverse("oidc_finish"))
        )
    except FAILURES as error:
        log.warning("oidc_failed", error=str(error))
        return _refused(request, "The sign-in server can't be reached. Try again in a moment.")
    return redirect


@login_not_required
@require_safe
def finish(request: HttpRequest) -> HttpResponse:
    """Sign in the person whom the organization's server names, with the role of the claim."""
    client = _current()
    try:
        claims = client.authorize_access_token(request)["userinfo"]
        subject = claims["sub"]
    except FAILURES as error:
        log.warning("oidc_failed", error=str(error))
        return _refused(request, "The sign-in was not completed. Start again.")
    try:
        role = role_of(claims)
        if role is None:
            raise SignInRefused(
                reason="Your account has no role here. Ask the person who manages your accounts."
            )
        operator = accounts.of_subject(subject, role=role, claims=claims, at=timezone.now())
    except SignInRefused as error:
        log.warning("oidc_refused", subject=subject, reason=str(error))
        return _refused(request, str(error))
    back = request.session.pop(NEXT, "")
    login(request, operator, backend=BACKEND)
    is_safe = url_has_allowed_host_and_scheme(
        back, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return HttpResponseRedirect(back if is_safe else settings.LOGIN_REDIRECT_URL)


def _refused(request: HttpRequest, reason: str) -> HttpResponse:
    return render(request, "operators/oidc_refused.html", {"reason": reason}, status=403)


def role_of(claims: Mapping[str, Any]) -> Role | None:
    """Return the highest role that the claim's values stand for, or None.

    The claim may be a text or a list of texts. A name with dots leads into objects, such as `realm_access.roles`.
    """
    value = claims.get(settings.OIDC_ROLE_CLAIM)
    if value is None:
        value = claims
        for part in settings.OIDC_ROLE_CLAIM.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    words = {value} if isinstance(value, str) else set(value) if isinstance(value, list) else set()
    roles = {role for word, role in settings.OIDC_ROLES.items() if word in words}
    return next((role for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER) if role.value in roles), None)
