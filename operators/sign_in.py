"""The sign-in page, with a limit for each address in addition to the one that django-axes has for each name."""

import math
from typing import Any

from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from operators import oidc, second_factor
from operators.middleware import client_address
from operators.models import Operator

# The number of names that may be tried from one address before it is locked out, each as often as a name may be
# tried.
NAMES_OF_AN_ADDRESS = 10


class SignInForm(AuthenticationForm):
    """Name and password, and a code of an authenticator app for operators who have set one up."""

    code = forms.CharField(
        label="Code from your authenticator app",
        required=False,
        max_length=10,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def confirm_login_allowed(self, user: Operator) -> None:
        """Check the second factor, if there is one, after name and password were right."""
        super().confirm_login_allowed(user)
        if second_factor.device_of(user) is None:
            return
        code = self.cleaned_data.get("code", "").replace(" ", "")
        if not code:
            raise ValidationError("Enter the code that your authenticator app shows.", code="code_missing")
        if not second_factor.verifies(user, code):
            raise ValidationError(
                "The code is wrong or has already been used. Wait for the next one.", code="code_wrong"
            )


class SignIn(LoginView):
    template_name = "operators/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the link to the organization's sign-in server, if there is one."""
        by_server = {"oidc_name": settings.OIDC_NAME} if oidc.is_on() else {}
        return super().get_context_data(**kwargs, **by_server)

    def post(self, request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
        if failures_of(client_address(request)) >= NAMES_OF_AN_ADDRESS * settings.AXES_FAILURE_LIMIT:
            return locked_out(request)
        return super().post(request, *args, **kwargs)


def failures_of(address: str) -> int:
    """Return how many sign-ins from `address` have recently failed, whatever the name."""
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    lately = AccessAttempt.objects.filter(ip_address=address, attempt_time__gte=since)
    return int(lately.aggregate(total=Sum("failures_since_start"))["total"] or 0)


def locked_out(request: HttpRequest) -> HttpResponse:
    response = render(request, settings.AXES_LOCKOUT_TEMPLATE, status=429)
    response["Retry-After"] = str(math.ceil(settings.AXES_COOLOFF_TIME.total_seconds()))
    return response
