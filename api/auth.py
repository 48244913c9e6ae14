"""Authentication and authorization: a program with a token, or an operator with a session."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone

from api.problems import Problem, not_signed_in, problem_response
from operators import tokens
from operators.actor import Actor, Interface
from operators.models import Operator, Token
from operators.roles import Permission, needed_for_data

View = Callable[..., HttpResponse]


@dataclass(frozen=True)
class Caller:
    """The sender of a request. key_scope: separates the idempotency keys of different callers."""

    principal: Token | Operator
    actor: Actor
    key_scope: str


class ApiRequest(HttpRequest):
    """A request whose caller is known and authorized."""

    caller: Caller
    # Unknown fields of the body that the caller asked to ignore.
    ignored_fields: list[str]


class Access:
    """Authorizes callers for one kind of act. Ninja calls it before anything else.

    Returns None (401) for an unknown caller, raises Problem (403) for one that lacks the right.
    """

    def __init__(self, act: Permission) -> None:
        self.act = act

    def __call__(self, request: HttpRequest) -> Caller | None:
        caller = _from_token(request) if "Authorization" in request.headers else _from_session(request)
        if caller is None:
            return None
        # Also of one that is refused: the activity log names it.
        cast(ApiRequest, request).caller = caller
        if not self.allows(caller.principal):
            raise Problem("not-allowed", f"{_describe(caller)} may not {self.act.label}.")
        return caller

    def allows(self, principal: Token | Operator) -> bool:
        return principal.may(self.act)


class SubmitAccess(Access):
    """Also authorizes tokens that may do nothing but submit lists."""

    def allows(self, principal: Token | Operator) -> bool:
        return principal.may_submit if isinstance(principal, Token) else super().allows(principal)


class ManageAccess(Access):
    """Authorizes admins, and tokens with the scope write that are an admin's or nobody's."""

    def allows(self, principal: Token | Operator) -> bool:
        if isinstance(principal, Token):
            owner = principal.operator
            return principal.may(Permission.ACT) and (owner is None or owner.may(self.act))
        return super().allows(principal)


CAN_READ = Access(Permission.VIEW)
CAN_WRITE = Access(Permission.ACT)
CAN_MANAGE = ManageAccess(Permission.ADMINISTER)
CAN_SUBMIT = SubmitAccess(Permission.ACT)


def check_sees_data(caller: Caller) -> None:
    """Raise Problem (403) unless the caller may see the data that travel with IDs."""
    if not sees_data(caller):
        raise Problem(
            "not-allowed",
            f"{_describe(caller)} may not see the data of IDs (the setting DATA_VISIBLE_TO).",
        )


def sees_data(caller: Caller) -> bool:
    return caller.principal.may(needed_for_data())


def check_queue(caller: Caller, queue_name: str) -> None:
    """Raise Problem (403) if the token may submit to another queue only."""
    only = caller.principal.queue_name if isinstance(caller.principal, Token) else ""
    if only and queue_name != only:
        raise Problem("not-allowed", f"{_describe(caller)} may submit to the queue {only} only.")


def _describe(caller: Caller) -> str:
    if isinstance(caller.principal, Token):
        return f"The token {caller.actor.name} with the scope {caller.principal.scope}"
    return f"The operator {caller.actor.name} with the role {caller.principal.role}"


def _from_token(request: HttpRequest) -> Caller | None:
    # A wrong token is never ignored in favour of a session that the browser happens to have.
    scheme, _, secret = request.headers["Authorization"].strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = tokens.authenticate(secret.strip(), at=timezone.now())
    if token is None:
        return None
    return Caller(token, Actor.of_token(token), f"token:{token.pk}")


def _from_session(request: HttpRequest) -> Caller | None:
    operator = request.user
    if not operator.is_authenticated:
        return None
    if request.method not in ("GET", "HEAD"):
        check_csrf(request)
    return Caller(operator, Actor.of_operator(operator, interface=Interface.API), f"operator:{operator.pk}")


def check_csrf(request: HttpRequest) -> None:
    """Check the session's CSRF token in the header X-CSRFToken. Raises Problem (403).

    For a POST, Django's check first searches the body for a form field, which would read a whole upload before
    the caller is authorized. For other methods it only looks at the header, so it gets a copy that says PUT.
    """
    bodiless = copy.copy(request)
    bodiless.method = "PUT"
    middleware = CsrfViewMiddleware(lambda request: HttpResponse())
    if middleware.process_view(bodiless, lambda request: HttpResponse(), (), {}) is not None:
        raise Problem(
            "csrf", "Send the session's CSRF token in the header X-CSRFToken, from a page of this site."
        )


def requires(access: Access) -> Callable[[View], View]:
    """Require `access` for a read-only view that isn't one of Ninja's."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, **values: Any) -> HttpResponse:
            if request.method == "OPTIONS":
                return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
            try:
                caller = access(request)
            except Problem as error:
                return error.response()
            if caller is None:
                return not_signed_in()
            if request.method not in ("GET", "HEAD"):
                return problem_response(
                    "wrong-method", "This can only be read.", headers={"Allow": "GET, HEAD"}
                )
            return view(request, **values)

        return guarded

    return decorate
