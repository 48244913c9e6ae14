import re

import pytest

from operators import tokens
from operators.models import Operator, Token
from operators.roles import Role

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client, make_operator):
    def sign_in(role: str):
        client.force_login(make_operator(role))
        return client

    return sign_in


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_operators_and_tokens_are_changed_by_admins_only(signed_in, role):
    client = signed_in(role)
    for model in ("operator", "token"):
        assert client.get(f"/admin/operators/{model}/").status_code == 200
        assert client.get(f"/admin/operators/{model}/add/").status_code == 403
        assert (
            client.post(f"/admin/operators/{model}/add/", {"name": "x", "scope": "write"}).status_code == 403
        )
    me = Operator.objects.get()
    client.post(f"/admin/operators/operator/{me.pk}/change/", {"username": "me", "role": "admin"})
    client.post(f"/admin/operators/operator/{me.pk}/password/", {"password1": "x", "password2": "x"})
    assert Operator.objects.get().role == role
    # What would be refused isn't offered either.
    assert "../password/" not in client.get(f"/admin/operators/operator/{me.pk}/change/").content.decode()
    assert not Token.objects.exists()


def test_token_made_in_the_admin_is_shown_once_and_works(signed_in):
    client = signed_in("admin")
    answer = client.post("/admin/operators/token/add/", {"name": "billing", "scope": "read"})
    secret = re.search(r'<code id="token">([^<]+)<', answer.content.decode())[1]
    assert "no-store" in answer["Cache-Control"]
    token = Token.objects.get()
    assert tokens.authenticate(secret, at=token.created_at) == token
    assert token.operator.username == "admin"
    page = client.get(f"/admin/operators/token/{token.pk}/change/").content.decode()
    assert secret not in page
    assert token.hash not in page


def test_token_made_in_the_admin_may_have_a_queue_and_expire(signed_in):
    client = signed_in("admin")
    form = {
        "name": "crm",
        "scope": "submit",
        "queue_name": "crm",
        "expires_at_0": "2999-01-02",
        "expires_at_1": "03:04",
    }
    assert client.post("/admin/operators/token/add/", form).status_code == 200
    token = Token.objects.get()
    assert (token.queue_name, f"{token.expires_at:%Y-%m-%d %H:%M}") == ("crm", "2999-01-02 03:04")

    wrong = client.post(
        "/admin/operators/token/add/", form | {"scope": "write", "expires_at_0": "1999-01-02"}
    )
    page = wrong.content.decode()
    assert "Only a token with the scope submit can have a queue." in page
    assert "This time has passed." in page
    assert Token.objects.count() == 1


def test_admin_revokes_a_token(signed_in, make_token):
    secret = make_token("write")
    token = Token.objects.get()
    signed_in("admin").post(
        "/admin/operators/token/", {"action": "revoke", "_selected_action": [token.pk]}, follow=True
    )
    assert tokens.authenticate(secret, at=token.created_at) is None


def test_admin_makes_and_changes_an_operator(signed_in):
    client = signed_in("admin")
    form = {
        "username": "new",
        "role": "viewer",
        "password1": "a long passphrase",
        "password2": "a long passphrase",
    }
    client.post("/admin/operators/operator/add/", {**form, "usable_password": "true"})
    new = Operator.objects.get(username="new")
    assert new.role == Role.VIEWER
    form = {"username": "new", "role": "operator", "is_active": "on", "time_zone": "Europe/Berlin"}
    client.post(f"/admin/operators/operator/{new.pk}/change/", form)
    new.refresh_from_db()
    assert (new.role, new.time_zone) == (Role.OPERATOR, "Europe/Berlin")


def test_admin_cannot_demote_themselves_so_one_always_remains(signed_in):
    client = signed_in("admin")
    me = Operator.objects.get()
    form = {"username": "admin", "role": "viewer", "time_zone": "UTC"}
    client.post(f"/admin/operators/operator/{me.pk}/change/", form)
    assert client.post(f"/admin/operators/operator/{me.pk}/delete/", {"post": "yes"}).status_code == 403
    me.refresh_from_db()
    assert me.role == Role.ADMIN
    assert me.is_active


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", ""])
def test_unknown_time_zone_is_refused(signed_in, zone):
    client = signed_in("admin")
    me = Operator.objects.get()
    answer = client.post(
        f"/admin/operators/operator/{me.pk}/change/", {"username": "admin", "time_zone": zone}
    )
    assert answer.status_code == 200
    me.refresh_from_db()
    assert me.time_zone == "UTC"
