"""Sign-in by OpenID Connect, through a real server on this machine."""

import re
import threading
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock
import pytest
import requests
from django.test import Client
from werkzeug.serving import make_server

from operators import oidc
from operators.models import Operator
from operators.roles import Role
from scheduling import models

pytestmark = pytest.mark.django_db


def claims(subject: str, *roles: str, **more: object) -> oidc_provider_mock.User:
    return oidc_provider_mock.User(sub=subject, claims={"roles": list(roles), **more})


USERS = [
    claims("ann-1", "leads", preferred_username="ann", given_name="Ann", email="ann@example.org"),
    claims("bo-2", "guests", preferred_username="bo"),
    claims("cy-3", preferred_username="cy"),
]


@pytest.fixture(scope="module")
def server():
    """The address of a real provider."""
    made = make_server("127.0.0.1", 0, oidc_provider_mock.app(user_claims=USERS), threaded=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join(5)


@pytest.fixture
def signed_up(server, settings):
    settings.OIDC_ISSUER = server
    settings.OIDC_NAME, settings.OIDC_CLIENT_SECRET = "Example Ltd", "a secret of the client"
    settings.OIDC_ROLES = {"leads": "admin", "guests": "viewer"}
    settings.OIDC_SCOPES = "openid profile email"


def to_the_server_and_back(client: Client, subject: str, *, after: str = "/dashboard/tasks/"):
    """What a browser does: follow to the server, sign in there, follow back."""
    existing = client.get("/sign-in/oidc/", {"next": after})["Location"]
    answer = requests.post(existing, data={"sub": subject}, allow_redirects=False, timeout=10)
    back = urlsplit(answer.headers["Location"])
    return client.get(f"{back.path}?{back.query}")


def test_sign_in_page_offers_the_server_only_where_there_is_one(client, settings, signed_up):
    assert "Sign in with Example Ltd" in client.get("/sign-in/").content.decode()
    settings.OIDC_ISSUER = ""
    assert "Sign in with" not in client.get("/sign-in/").content.decode()
    assert client.get("/sign-in/oidc/").status_code == 404
    assert client.get("/sign-in/oidc/finish/").status_code == 404


def test_first_sign_in_creates_an_operator_with_the_role_of_the_claim(client, signed_up):
    answer = to_the_server_and_back(client, "ann-1")

    operator = Operator.objects.get()
    assert answer["Location"] == "/dashboard/tasks/"
    assert (operator.username, operator.role, operator.email) == ("ann", "admin", "ann@example.org")
    assert not operator.has_usable_password()
    assert client.get("/dashboard/").status_code == 200
    assert models.Activity.objects.filter(verb="created", object_id=operator.pk).exists()


def test_later_sign_in_updates_the_role_from_the_claim(client, signed_up, settings):
    to_the_server_and_back(client, "ann-1")
    settings.OIDC_ROLES = {"leads": "operator"}

    to_the_server_and_back(Client(), "ann-1")

    assert Operator.objects.get().role == "operator"
    assert models.Activity.objects.get(verb="changed").after == {"role": "operator"}


def test_sign_in_without_a_role_is_refused(client, signed_up):
    answer = to_the_server_and_back(client, "cy-3")

    assert answer.status_code == 403
    assert "no role here" in answer.content.decode()
    assert not Operator.objects.exists()


def test_sign_in_never_takes_over_a_name_that_is_taken_until_an_admin_links_it(
    client, signed_up, make_operator
):
    existing = make_operator("admin", username="Bo")

    answer = to_the_server_and_back(client, "bo-2")
    assert answer.status_code == 403
    assert "the subject is bo-2" in answer.content.decode()

    Operator.objects.filter(pk=existing.pk).update(oidc_subject="bo-2")
    assert to_the_server_and_back(Client(), "bo-2").status_code == 302
    existing.refresh_from_db()
    assert existing.role == "viewer"


def test_sign_in_of_an_inactive_operator_is_refused(client, signed_up):
    to_the_server_and_back(client, "ann-1")
    Operator.objects.update(is_active=False)

    assert to_the_server_and_back(Client(), "ann-1").status_code == 403


@pytest.mark.parametrize("query", ["", "?code=x&state=y", "?error=access_denied&state=y"])
def test_oidc_callback_without_a_sign_in_is_refused(client, signed_up, query):
    assert client.get(f"/sign-in/oidc/finish/{query}").status_code == 403


def test_oidc_callback_with_another_browsers_state_is_refused(client, signed_up):
    existing = client.get("/sign-in/oidc/")["Location"]
    answer = requests.post(existing, data={"sub": "ann-1"}, allow_redirects=False, timeout=10)
    back = urlsplit(answer.headers["Location"])

    assert Client().get(f"{back.path}?{back.query}").status_code == 403
    assert not Operator.objects.exists()


def test_oidc_request_has_state_nonce_and_a_challenge(client, signed_up):
    query = parse_qs(urlsplit(client.get("/sign-in/oidc/")["Location"]).query)

    assert query.keys() >= {"state", "nonce", "code_challenge"}
    assert query["code_challenge_method"] == ["S256"]


def test_redirect_after_oidc_sign_in_never_leaves_the_site(client, signed_up):
    assert to_the_server_and_back(client, "ann-1", after="https://example.org/")["Location"] == "/dashboard/"


def test_unreachable_oidc_server_is_reported_with_a_sentence(client, settings):
    settings.OIDC_ISSUER = "http://127.0.0.1:9"

    answer = client.get("/sign-in/oidc/")

    assert answer.status_code == 403
    assert re.search("can&#x27;t be reached", answer.content.decode())


@pytest.mark.parametrize(
    ("claim", "groups", "role"),
    [
        ("roles", {"roles": ["guests", "leads"]}, Role.ADMIN),
        ("roles", {"roles": "guests"}, Role.VIEWER),
        ("realm_access.roles", {"realm_access": {"roles": ["leads"]}}, Role.ADMIN),
        ("https://example.org/roles", {"https://example.org/roles": ["guests"]}, Role.VIEWER),
        ("roles", {"roles": []}, None),
        ("roles", {"roles": {"leads": True}}, None),
        ("roles", {}, None),
    ],
)
def test_role_is_the_highest_of_the_claim(settings, claim, groups, role):
    settings.OIDC_ROLE_CLAIM, settings.OIDC_ROLES = claim, {"leads": "admin", "guests": "viewer"}

    assert oidc.role_of(groups) == role
