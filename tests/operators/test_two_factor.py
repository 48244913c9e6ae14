"""A second factor: set up on the account page, asked for at the sign-in, turned off by its code or by an admin."""

import pytest
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from operators import encryption, second_factor
from operators.models import AuthenticatorApp, Operator
from scheduling import models
from tests.code_of_app import code_of

pytestmark = pytest.mark.django_db
PASSWORD = "a long passphrase"


@pytest.fixture
def set_up(make_operator, client):
    """An operator who has just turned it on; returns client, operator and device."""
    operator = make_operator("operator", username="ann", password=PASSWORD)
    client.force_login(operator)
    client.post("/dashboard/account/two-factor/", {"step": "begin"})
    device = AuthenticatorApp.objects.get()
    client.post("/dashboard/account/two-factor/", {"step": "confirm", "code": code_of(device)})
    device.refresh_from_db()
    return client, operator, device


def sign_in(code: str = "", password: str = PASSWORD):
    return Client().post("/sign-in/", {"username": "ann", "password": password, "code": code})


def test_two_factor_is_on_after_a_first_correct_code(set_up):
    client, _, device = set_up

    assert device.confirmed
    assert models.Activity.objects.filter(verb="turned_on_two_factor").exists()
    assert "Turn it off" in client.get("/dashboard/account/").content.decode()


def test_two_factor_shows_its_key_and_a_picture_until_it_is_confirmed(make_operator, client):
    client.force_login(make_operator("viewer"))
    client.post("/dashboard/account/two-factor/", {"step": "begin"})

    page = client.get("/dashboard/account/").content.decode()

    assert "data:image/svg+xml" in page
    client.post("/dashboard/account/two-factor/", {"step": "confirm", "code": "000000"})
    assert not AuthenticatorApp.objects.filter(confirmed=True).exists()


def test_sign_in_asks_for_the_code_and_takes_each_once(set_up):
    _, _, device = set_up

    assert "Enter the code" in sign_in().content.decode()
    good = code_of(device, steps=1)
    assert sign_in(good).status_code == 302
    assert "already been used" in sign_in(good).content.decode()


def test_sign_in_does_not_mention_the_code_before_the_password_is_right(set_up):
    assert "Enter the code" not in sign_in(password="wrong").content.decode()


def test_wrong_codes_delay_the_next_attempts(set_up):
    _, _, device = set_up
    sign_in("000000")

    # Right, but within the second that the wrong one costs.
    assert sign_in(code_of(device, steps=1)).status_code == 200


def test_sign_in_without_a_second_factor_is_as_before(make_operator):
    make_operator("viewer", username="ann", password=PASSWORD)

    assert sign_in().status_code == 302


def test_two_factor_is_turned_off_by_a_code_and_by_an_admin(set_up, make_operator):
    client, operator, device = set_up
    client.post("/dashboard/account/two-factor/", {"step": "turn_off", "code": "123"})
    assert AuthenticatorApp.objects.exists()
    AuthenticatorApp.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    client.post("/dashboard/account/two-factor/", {"step": "turn_off", "code": code_of(device, steps=1)})
    assert not AuthenticatorApp.objects.exists()

    AuthenticatorApp.objects.create(user=operator, confirmed=True)
    admin = Client()
    admin.force_login(make_operator("admin", username="boss"))
    admin.post(
        "/admin/operators/operator/", {"action": "turn_off_two_factor", "_selected_action": [operator.pk]}
    )
    assert not AuthenticatorApp.objects.exists()


def test_admin_shows_no_two_factor_secrets(make_operator, client):
    client.force_login(make_operator("admin"))

    assert client.get("/admin/otp_totp/totpdevice/").status_code == 404


def test_name_and_email_changes_are_logged(make_operator, client):
    client.force_login(make_operator("viewer"))

    client.post("/dashboard/account/", {"first_name": "Ann", "last_name": "Lee", "email": "ann@example.org"})

    assert Operator.objects.get().get_full_name() == "Ann Lee"
    assert models.Activity.objects.get(verb="changed").after["email"] == "ann@example.org"
    answer = client.post("/dashboard/account/", {"email": "nonsense"})
    assert "valid email" in answer.content.decode()


def test_key_is_encrypted_in_the_database(set_up):
    _, _, device = set_up
    stored = TOTPDevice.objects.values_list("key", flat=True).get()

    assert stored.startswith(encryption.PREFIX)
    assert device.bin_key.hex() not in stored
    assert len(stored) <= TOTPDevice._meta.get_field("key").max_length


def test_key_of_another_operator_is_none(set_up, make_operator):
    _, _, device = set_up
    stolen = AuthenticatorApp(user=make_operator("admin"), key=device.key)

    with pytest.raises(encryption.Undecryptable):
        _ = stolen.bin_key


def test_key_from_before_is_encrypted_by_its_next_code(set_up):
    _, _, device = set_up
    TOTPDevice.objects.update(key=device.bin_key.hex())

    assert sign_in(code_of(device, steps=1)).status_code == 302
    assert TOTPDevice.objects.get().key.startswith(encryption.PREFIX)


def test_another_secret_key_verifies_no_code_and_an_earlier_one_does(set_up, settings):
    _, operator, device = set_up
    code, earlier = code_of(device, steps=1), settings.SECRET_KEY
    settings.SECRET_KEY = "another key that is long enough"

    assert not second_factor.verifies(operator, code)
    settings.SECRET_KEY_FALLBACKS = [earlier]
    assert second_factor.verifies(operator, code)
