import re

import pytest
from django.conf import settings
from django.test import Client

from operators.models import Operator
from scheduling import models

pytestmark = pytest.mark.django_db


def test_time_zone_is_saved_and_logged(sign_in):
    client = sign_in("viewer")

    client.post("/dashboard/account/", {"time_zone": "Europe/Berlin"})

    assert Operator.objects.get().time_zone == "Europe/Berlin"
    assert models.Activity.objects.get(verb="set_time_zone").after == {"time_zone": "Europe/Berlin"}


def test_unknown_time_zone_is_refused(sign_in):
    answer = sign_in("viewer").post("/dashboard/account/", {"time_zone": "Mars/Olympus"})

    assert answer.status_code == 200
    assert Operator.objects.get().time_zone == "UTC"


def test_password_change_ends_other_sessions_only(sign_in):
    client, other = sign_in("viewer"), Client()
    other.force_login(Operator.objects.get())
    new = "another long passphrase"

    client.post(
        "/dashboard/account/",
        {"old_password": "a long passphrase", "new_password1": new, "new_password2": new},
    )

    assert client.get("/dashboard/account/").status_code == 200
    assert other.get("/dashboard/account/").status_code == 302
    assert models.Activity.objects.filter(verb="changed_password").exists()


def test_sign_out_everywhere_ends_every_session(sign_in):
    client, other = sign_in("viewer"), Client()
    other.force_login(Operator.objects.get())

    client.post("/dashboard/account/sign-out/")

    assert client.get("/dashboard/").status_code == 302
    assert other.get("/dashboard/").status_code == 302


def test_legacy_time_zone_name_stays_selected(sign_in):
    page = sign_in("viewer", time_zone="US/Eastern").get("/dashboard/account/").content.decode()
    assert '<option value="US/Eastern" selected>' in page


def test_cookies_are_named_for_their_instance(sign_in):
    """They ignore the port: with one name, two instances on a host would sign each other out."""
    page = sign_in().get("/dashboard/account/").content.decode()

    assert re.fullmatch(r"quarterdeck_session_[0-9a-f]{8}", settings.SESSION_COOKIE_NAME)
    assert f'<meta name="csrf-cookie" content="{settings.CSRF_COOKIE_NAME}">' in page
