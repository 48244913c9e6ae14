"""Who may open what: every view of the dashboard says it by one of these, and nothing else decides it."""

from collections.abc import Callable
from functools import wraps
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from operators.actor import Actor, Interface
from operators.models import Operator
from operators.roles import Permission

View = Callable[..., HttpResponse]

# What stands on a button that somebody may not press, and in the answer to who presses it all the same.
REASONS = {
    Permission.VIEW: "Your account is switched off.",
    Permission.ACT: "Your role is viewer: acting takes the role operator. An admin can change it.",
    Permission.ADMINISTER: "This takes the role admin.",
}


class OperatorRequest(HttpRequest):
    """A request of somebody who is signed in and may do what the view does."""

    user: Operator
    actor: Actor


def zone_of(operator: Operator) -> ZoneInfo:
    """The operator's time zone; UTC where it is one that this machine doesn't know."""
    try:
        return ZoneInfo(operator.time_zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _needs(act: Permission) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: OperatorRequest, *args, **kwargs) -> HttpResponse:
            if not request.user.may(act):
                raise PermissionDenied(REASONS[act])
            request.actor = Actor.of_operator(request.user, interface=Interface.PAGE)
            with timezone.override(zone_of(request.user)):
                return view(request, *args, **kwargs)

        # A test walks all addresses and asks each view what it needs.
        guarded.needs = act
        return guarded

    return decorate


viewer_required = _needs(Permission.VIEW)
operator_required = _needs(Permission.ACT)
