"""The sign-in page, with a limit for each address beside the one that django-axes keeps for each name."""

import math

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.views import LoginView
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from operators.middleware import client_address

# Names that somebody may try from one address before it is locked out, each as often as a name may be tried.
NAMES_OF_AN_ADDRESS = 10


class SignIn(LoginView):
    template_name = "operators/sign_in.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
        if failures_of(client_address(request)) >= NAMES_OF_AN_ADDRESS * settings.AXES_FAILURE_LIMIT:
            return locked_out(request)
        return super().post(request, *args, **kwargs)


def failures_of(address: str) -> int:
    """How many sign-ins from `address` failed lately, whatever the name."""
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    lately = AccessAttempt.objects.filter(ip_address=address, attempt_time__gte=since)
    return int(lately.aggregate(total=Sum("failures_since_start"))["total"] or 0)


def locked_out(request: HttpRequest) -> HttpResponse:
    response = render(request, settings.AXES_LOCKOUT_TEMPLATE, status=429)
    response["Retry-After"] = str(math.ceil(settings.AXES_COOLOFF_TIME.total_seconds()))
    return response
