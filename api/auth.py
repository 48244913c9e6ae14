"""Who may come in: a program with its token, or a signed-in operator from a page of ours."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone

from operators import tokens
from operators.actor import Actor, Interface
from operators.models import Operator, Token
from operators.roles import Permission

from .problems import Problem, not_signed_in, problem


@dataclass(frozen=True)
class Caller:
    """Who sent the request. `key_scope`: idempotency keys of others are not theirs."""

    who: Token | Operator
    actor: Actor
    key_scope: str


class ApiRequest(HttpRequest):
    """A request after a door let it in."""

    caller: Caller


class Door:
    """Lets in whoever may do this kind of act; ninja calls it before anything else.

    None is answered 401. Raises Problem (403) for those who are known and may not.
    """

    def __init__(self, act: Permission) -> None:
        self.act = act

    def __call__(self, request: HttpRequest) -> Caller | None:
        caller = _by_token(request) if "Authorization" in request.headers else _by_session(request)
        if caller is None:
            return None
        if not caller.who.may(self.act):
            raise Problem("not-allowed", f"{_name(caller)} may not {self.act.label}.")
        request.caller = caller
        return caller


READERS = Door(Permission.VIEW)
WRITERS = Door(Permission.ACT)


def _name(caller: Caller) -> str:
    if isinstance(caller.who, Token):
        return f"The token {caller.actor.name}, of scope {caller.who.scope},"
    return f"The operator {caller.actor.name}, as {caller.who.role},"


def _by_token(request: HttpRequest) -> Caller | None:
    # A wrong token is never passed over for a session that the browser happens to have.
    scheme, _, secret = request.headers["Authorization"].strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = tokens.authenticate(secret.strip(), at=timezone.now())
    if token is None:
        return None
    return Caller(token, Actor.of_token(token), f"token:{token.pk}")


def _by_session(request: HttpRequest) -> Caller | None:
    operator = request.user
    if not operator.is_authenticated:
        return None
    if request.method not in ("GET", "HEAD"):
        check_csrf(request)
    return Caller(operator, Actor.of_operator(operator, interface=Interface.API), f"operator:{operator.pk}")


def check_csrf(request: HttpRequest) -> None:
    """Look for the session's CSRF token in the header X-CSRFToken alone. Raises Problem.

    Django's own check reads the body of a POST for a form field first: all of an upload, before anybody looks
    at it. For other methods it looks at the header only, so it gets a copy (which has no body) that says PUT.
    """
    asked = copy.copy(request)
    asked.method = "PUT"
    refused = CsrfViewMiddleware(lambda request: None).process_view(asked, None, (), {})
    if refused is not None:
        raise Problem(
            "csrf", "Send the CSRF token of the session in the header X-CSRFToken, from a page of this site."
        )


def behind(door: Door) -> Callable:
    """Put a door before a view that isn't ninja's."""

    def decorate(view: Callable) -> Callable:
        @wraps(view)
        def guarded(request: HttpRequest, **values: Any) -> HttpResponse:
            try:
                caller = door(request)
            except Problem as error:
                return error.answer()
            if caller is None:
                return not_signed_in("Send a token or sign in.")
            if request.method not in ("GET", "HEAD"):
                return problem("wrong-method", "This can only be read.", headers={"Allow": "GET, HEAD"})
            return view(request, **values)

        return guarded

    return decorate
