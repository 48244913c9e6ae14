"""What an operator sets for themselves: the time zone, the password, and an end to all sessions."""

from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.forms import ZoneForm
from dashboard.inputs.parameters import refuse_unknown
from operators import accounts
from scheduling import store

POSTABLE = ["GET", "HEAD", "POST"]


@sensitive_post_parameters()
@require_http_methods(POSTABLE)
@viewer_required
def account(request: OperatorRequest) -> HttpResponseBase:
    """The page; a POST changes the zone or the password, whichever form it is."""
    refuse_unknown(request, ())
    given = request.POST if request.method == "POST" else None
    changing_password = given is not None and "new_password1" in given
    zone = ZoneForm(
        None if changing_password else given,
        initial={"time_zone": request.user.time_zone},
        label_suffix="",
    )
    password = PasswordChangeForm(request.user, given if changing_password else None, label_suffix="")
    for field in password.fields.values():
        field.widget.attrs.pop("autofocus", None)
    if changing_password and password.is_valid():
        accounts.change_password(
            request.user, password.cleaned_data["new_password1"], by=request.actor, at=store.now()
        )
        update_session_auth_hash(request, request.user)
        messages.success(request, "Your password has been changed. Your other sessions are signed out.")
        return redirect("account")
    if given is not None and zone.is_valid():
        accounts.set_time_zone(request.user, zone.cleaned_data["time_zone"], by=request.actor, at=store.now())
        messages.success(request, f"Times are now shown in {request.user.time_zone}.")
        return redirect("account")
    return render(request, "dashboard/account.html", {"zone": zone, "password": password})


@require_POST
@viewer_required
def sign_out_everywhere(request: OperatorRequest) -> HttpResponseBase:
    """End every session of this operator, this one too."""
    accounts.end_sessions(request.user, by=request.actor, at=store.now())
    logout(request)
    return redirect("sign_in")
