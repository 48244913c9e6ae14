"""An operator's own settings: name, time zone, password, second factor, and signing out everywhere."""

import base64
from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.core.exceptions import BadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.forms import CodeForm, PersonForm, ZoneForm
from dashboard.inputs.parameters import refuse_unknown
from operators import accounts, second_factor
from scheduling import store

POSTABLE = ["GET", "HEAD", "POST"]
PERSON = ("first_name", "last_name", "email")


@sensitive_post_parameters()
@require_http_methods(POSTABLE)
@viewer_required
def account(request: OperatorRequest) -> HttpResponseBase:
    """Show the page. A POST changes the name, the zone or the password, depending on the form."""
    refuse_unknown(request, ())
    posted = request.POST if request.method == "POST" else None
    changing_password = posted is not None and "new_password1" in posted
    changing_person = posted is not None and "email" in posted
    person = PersonForm(
        posted if changing_person else None,
        initial={name: getattr(request.user, name) for name in PERSON},
        label_suffix="",
    )
    zone = ZoneForm(
        None if changing_password or changing_person else posted,
        initial={"time_zone": request.user.time_zone},
        label_suffix="",
    )
    password = PasswordChangeForm(request.user, posted if changing_password else None, label_suffix="")
    for field in password.fields.values():
        field.widget.attrs.pop("autofocus", None)
    if posted is not None and (saved := _saved(request, person, zone, password)):
        messages.success(request, saved)
        return redirect("account")
    context = {"person": person, "zone": zone, "password": password, **_two_factor(request)}
    return render(request, "dashboard/account.html", context)


def _saved(request: OperatorRequest, person: PersonForm, zone: ZoneForm, password: PasswordChangeForm) -> str:
    """Save the form that was posted; return what to say about it, or nothing where it has faults."""
    if password.is_valid():
        accounts.change_password(
            request.user, password.cleaned_data["new_password1"], by=request.actor, at=store.now()
        )
        update_session_auth_hash(request, request.user)
        return "Your password has been changed. Your other sessions are signed out."
    if person.is_valid():
        accounts.set_person(request.user, **person.cleaned_data, by=request.actor, at=store.now())
        return "Your name and e-mail address have been saved."
    if zone.is_valid():
        accounts.set_time_zone(request.user, zone.cleaned_data["time_zone"], by=request.actor, at=store.now())
        return f"Times are now shown in {request.user.time_zone}."
    return ""


def _two_factor(request: OperatorRequest) -> dict[str, Any]:
    """Return whether the operator has a second factor and, during its setup, what an app needs to know."""
    waiting = second_factor.unconfirmed_device_of(request.user)
    shown: dict[str, Any] = {
        "has_two_factor": second_factor.device_of(request.user) is not None,
        "code": CodeForm(label_suffix=""),
        "has_password": request.user.has_usable_password(),
    }
    if waiting is not None:
        address = waiting.config_url
        picture = segno.make(address, error="m").svg_data_uri(scale=4, dark="#000", light="#fff")
        shown |= {
            "secret": base64.b32encode(waiting.bin_key).decode().rstrip("="),
            "picture": picture,
        }
    return shown


@sensitive_post_parameters()
@require_POST
@viewer_required
def two_factor(request: OperatorRequest) -> HttpResponseBase:
    """Create a secret, turn the second factor on by its first code, or turn it off by another one."""
    at, form = store.now(), CodeForm(request.POST)
    step = request.POST.get("step", "")
    if step == "begin":
        second_factor.begin(request.user)
        return redirect(f"{reverse('account')}#two-factor-name")
    code = form.cleaned_data["code"] if form.is_valid() else ""
    if step == "confirm":
        if second_factor.confirm(request.user, code, by=request.actor, at=at):
            messages.success(request, "Two-factor sign-in is on. From now on, sign in with a code as well.")
        else:
            messages.error(request, "The code is wrong. Wait for the next one, and check the device's clock.")
    elif step == "turn_off":
        if second_factor.verifies(request.user, code):
            second_factor.turn_off(request.user, by=request.actor, at=at)
            messages.success(request, "Two-factor sign-in is off.")
        else:
            messages.error(request, "The code is wrong or has already been used. Nothing has been changed.")
    else:
        raise BadRequest(f"step: {step[:40]!r} is not begin, confirm or turn_off.")
    return redirect("account")


@require_POST
@viewer_required
def sign_out_everywhere(request: OperatorRequest) -> HttpResponseBase:
    """End every session of this operator, including this one."""
    accounts.end_sessions(request.user, by=request.actor, at=store.now())
    logout(request)
    return redirect("sign_in")
