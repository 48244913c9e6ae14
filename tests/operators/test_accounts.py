from datetime import UTC, datetime
from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import RequestFactory

from operators import accounts
from operators.actor import Actor
from operators.models import Operator
from operators.roles import Role

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def first() -> list[str]:
    out = StringIO()
    call_command("first_operator", stdout=out)
    return out.getvalue().splitlines()


def test_first_operator_has_a_random_password_that_is_shown_once():
    named, secret = first()
    assert named.endswith("admin")
    password = secret.rpartition(" ")[2]
    request = RequestFactory().post("/sign-in/")
    assert authenticate(request, username="admin", password=password).role == Role.ADMIN
    assert first() == []
    Operator.objects.all().delete()
    assert first()[1] != secret


def test_first_operator_is_not_created_twice(make_operator):
    make_operator("viewer")
    assert first() == []
    assert Operator.objects.count() == 1


def test_unknown_role_is_refused_by_the_database():
    with pytest.raises(IntegrityError), transaction.atomic():
        Operator.objects.create(username="x", role="king")


def test_createsuperuser_creates_an_admin():
    call_command("createsuperuser", username="root", email="", interactive=False)
    assert Operator.objects.get().role == Role.ADMIN


def test_signing_out_everywhere_ends_every_session(client, make_operator):
    operator = make_operator("operator")
    client.force_login(operator)
    assert client.get("/admin/").status_code == 200
    accounts.end_sessions(operator, by=Actor.command_line(), at=NOON)
    assert client.get("/admin/").status_code == 302


def test_new_password_ends_every_session_too(client, make_operator):
    operator = make_operator("operator")
    client.force_login(operator)
    operator.set_password("another long passphrase")
    operator.save()
    assert client.get("/admin/").status_code == 302
