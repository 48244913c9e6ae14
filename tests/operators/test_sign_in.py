import pytest
from django.test import RequestFactory

from operators.middleware import client_address, network_of
from operators.models import Operator

pytestmark = pytest.mark.django_db
PASSWORD = "a long passphrase"


def sign_in(client, password: str, **headers):
    return client.post("/sign-in/", {"username": "operator", "password": password}, **headers)


def test_anonymous_visitor_signs_in_and_returns_to_the_page(client, make_operator):
    make_operator("operator")
    answer = client.get("/admin/operators/token/?scope__exact=read")
    answer = client.get(answer["Location"], follow=True)
    assert answer.redirect_chain == [] or answer.redirect_chain[-1][0].startswith("/sign-in/")
    assert answer.status_code == 200
    back = "/admin/operators/token/?scope__exact=read"
    answer = client.post("/sign-in/", {"username": "operator", "password": PASSWORD, "next": back})
    assert answer["Location"] == back


def test_redirect_after_sign_in_never_leaves_the_site(client, make_operator):
    make_operator("operator")
    form = {"username": "operator", "password": PASSWORD, "next": "https://example.org/"}
    assert client.post("/sign-in/", form)["Location"] == "/dashboard/"


def test_five_wrong_passwords_lock_the_name_even_for_the_right_one(client, make_operator):
    make_operator("operator")
    for _ in range(4):
        assert sign_in(client, "wrong").status_code == 200
    sign_in(client, "wrong")
    answer = sign_in(client, PASSWORD)
    assert answer.status_code == 429
    assert "Try again in 15 minutes" in answer.content.decode()


def test_forged_header_does_not_lift_a_lock_out(client, make_operator):
    make_operator("operator")
    for number in range(6):
        sign_in(client, "wrong", headers={"X-Forwarded-For": f"10.0.0.{number}"})
    assert sign_in(client, PASSWORD, headers={"X-Forwarded-For": "10.1.1.1"}).status_code == 429


def test_failures_of_others_lock_nobody_out(client, make_operator):
    make_operator("operator")
    for _ in range(6):
        sign_in(client, "wrong", REMOTE_ADDR="192.0.2.7")
    assert sign_in(client, PASSWORD, REMOTE_ADDR="192.0.2.8").status_code == 302


def test_client_address_is_read_from_trusted_proxies(settings):
    request = RequestFactory().get("/", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.1, 10.0.0.2"})
    assert client_address(request) == "127.0.0.1"
    settings.TRUSTED_PROXIES = 2
    assert client_address(request) == "192.0.2.1"
    settings.TRUSTED_PROXIES = 4
    assert client_address(request) == "127.0.0.1"


def test_addresses_of_one_ipv6_network_lock_a_name_together(client, make_operator):
    make_operator("operator")
    for number in range(5):
        sign_in(client, "wrong", REMOTE_ADDR=f"2001:db8:1:2::{number}")
    assert sign_in(client, PASSWORD, REMOTE_ADDR="2001:db8:1:2:3:4:5:6").status_code == 429
    assert sign_in(client, PASSWORD, REMOTE_ADDR="2001:db8:1:3::1").status_code == 302


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("nothing", "nothing"),
    ],
)
def test_limits_apply_to_an_ipv4_address_or_an_ipv6_network(address, network):
    assert network_of(address) == network


def test_fragment_request_redirects_the_whole_page_to_sign_in(client):
    answer = client.get(
        "/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/dashboard/?queue=a"}
    )
    assert answer.status_code == 204
    assert answer["HX-Redirect"] == "/sign-in/?next=%2Fdashboard%2F%3Fqueue%3Da"
    elsewhere = {"HX-Request": "true", "HX-Current-URL": "https://elsewhere.test/"}
    assert client.get("/", headers=elsewhere)["HX-Redirect"] == "/sign-in/?next=%2Fdashboard%2F"


def test_page_says_that_the_session_has_ended(client, make_operator):
    client.force_login(make_operator("operator"))
    Operator.objects.update(session_epoch=9)

    answer = client.get("/dashboard/", headers={"HX-Request": "true"})

    assert "You are signed out." in client.get(answer["HX-Redirect"]).content.decode()


def test_signing_out_is_a_post(client, make_operator):
    client.force_login(make_operator("operator"))
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").status_code == 302
    assert client.get("/admin/").status_code == 302


def test_forged_host_changes_no_link(client):
    answer = client.get("/admin/", headers={"X-Forwarded-Host": "evil.example"})
    assert "evil.example" not in answer["Location"]
    assert client.get("/sign-in/", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("path", ["/sign-in/", "/admin/"])
def test_every_page_forbids_what_is_inline_and_being_framed(client, make_operator, path):
    if path != "/sign-in/":
        client.force_login(make_operator("admin"))
    answer = client.get(path)
    policy = answer["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_sign_in_answer_does_not_reveal_whether_a_name_exists(client, make_operator):
    make_operator("operator")
    existing_name = sign_in(client, "wrong").content
    Operator.objects.all().delete()
    unknown = sign_in(client, "wrong").content
    assert b"correct username and password" in existing_name
    assert b"correct username and password" in unknown


def test_action_after_the_session_ended_does_nothing_and_returns_to_its_page(client, make_operator):
    client.force_login(make_operator("operator"))
    client.session.flush()

    answer = client.post(
        "/dashboard/queues/default/pause/",
        headers={"Referer": "http://testserver/dashboard/queues/default/?rpm=5"},
    )

    assert answer.status_code == 401
    page = answer.content.decode()
    assert "You are signed out" in page
    assert "Nothing was done" in page
    assert 'href="/sign-in/?next=%2Fdashboard%2Fqueues%2Fdefault%2F%3Frpm%3D5"' in page


@pytest.mark.parametrize(
    "referer", ["", "https://evil.example/x/", "//evil.example/", "http://testserver.evil/"]
)
def test_referer_from_elsewhere_leads_to_the_board(client, referer):
    answer = client.post("/dashboard/account/sign-out/", headers={"Referer": referer})

    assert 'href="/sign-in/?next=%2Fdashboard%2F"' in answer.content.decode()


def test_action_by_script_without_a_session_gets_a_sentence(client):
    answer = client.post(
        "/dashboard/upload/",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/dashboard/upload/"},
    )

    assert answer.status_code == 401
    assert "HX-Redirect" not in answer
    assert answer.content.decode() == (
        'You are signed out; nothing was done. <a href="/sign-in/?next=%2Fdashboard%2Fupload%2F">Sign in</a>'
    )


def test_ended_session_is_mentioned_only_if_there_was_one(client, make_operator):
    text = b"You are signed out"
    first_visit = client.get(client.get("/dashboard/tasks/").url)
    client.force_login(make_operator("operator"))
    client.session.flush()
    came_back = client.get(client.get("/dashboard/tasks/").url)

    assert text not in first_visit.content
    assert text in came_back.content
    assert b'value="/dashboard/tasks/"' in came_back.content


@pytest.mark.parametrize("forwarded", ["foo", "a" * 3000, "9.9.9.9:1234", "1.2.3.4.5", "", "'--"])
def test_forwarded_value_that_is_no_address_is_ignored(settings, forwarded):
    settings.TRUSTED_PROXIES = 1
    request = RequestFactory().get("/", headers={"X-Forwarded-For": f"6.6.6.6, {forwarded}"})
    assert client_address(request) == "127.0.0.1"


def test_address_that_tries_many_names_is_locked_out(client, make_operator, settings):
    settings.AXES_FAILURE_LIMIT = 2
    make_operator("operator", password="a long passphrase")
    for number in range(20):
        answer = client.post("/sign-in/", {"username": f"nobody{number}", "password": "wrong"})
        assert answer.status_code == 200
    answer = client.post("/sign-in/", {"username": "operator", "password": "a long passphrase"})
    assert answer.status_code == 429
    assert answer["Retry-After"] == "900"
    elsewhere = {"username": "operator", "password": "a long passphrase"}
    assert client.post("/sign-in/", elsewhere, REMOTE_ADDR="192.0.2.9").status_code == 302


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", "/healthz/live/", "/metrics"])
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "[2001:db8::1]", "not a host", ""])
def test_health_probe_by_ip_address_is_answered(client, make_token, path, host):
    headers = {"Authorization": f"Bearer {make_token('read')}"}
    assert client.get(path, headers=headers, HTTP_HOST=host).status_code in (200, 503)
    assert client.get("/sign-in/", HTTP_HOST="10.1.2.3:8000").status_code == 400
