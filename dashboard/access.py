"""Permissions of the dashboard.

Each view has one of these decorators, and nothing else decides who may open it.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django_htmx.middleware import HtmxDetails

from operators.actor import Actor, Interface
from operators.models import Operator
from operators.roles import Permission

# The attribute of a view that names the permission it needs. A test visits every address and reads it.
NEEDS = "needs"
View = Callable[..., HttpResponseBase]

# Shown on a button that an operator may not press, and in the response if they send its request anyway.
REASONS = {
    Permission.VIEW: "Your account is disabled.",
    Permission.ACT: "You can view but not change things. Ask an admin for the operator role.",
    Permission.ADMINISTER: "Only admins can do this.",
}


class OperatorRequest(HttpRequest):
    """A request of a signed-in operator who has the permission that the view needs."""

    user: Operator
    actor: Actor
    htmx: HtmxDetails


def zone_of(operator: Operator) -> ZoneInfo:
    """Return the operator's time zone, or UTC if this machine doesn't know it."""
    try:
        return ZoneInfo(operator.time_zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _needs(act: Permission) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: OperatorRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.may(act):
                raise PermissionDenied(REASONS[act])
            request.actor = Actor.of_operator(request.user, interface=Interface.PAGE)
            with timezone.override(zone_of(request.user)):
                return view(request, *args, **kwargs)

        setattr(guarded, NEEDS, act)
        return guarded

    return decorate


viewer_required = _needs(Permission.VIEW)
operator_required = _needs(Permission.ACT)
admin_required = _needs(Permission.ADMINISTER)
