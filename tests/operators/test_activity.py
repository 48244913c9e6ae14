"""What is done to operators and tokens leaves a line in the activity log, as everything does."""

import pytest

from operators.models import Operator, Token
from scheduling.models import Activity

pytestmark = pytest.mark.django_db
PASSWORDS = {"password1": "a long passphrase", "password2": "a long passphrase"}


def lines() -> list[tuple[str, str, str, str]]:
    rows = Activity.objects.order_by("pk").values_list("actor_name", "face", "verb", "object_name")
    return list(rows)


@pytest.fixture
def admin(client, make_operator):
    client.force_login(make_operator("admin", username="ada"))
    return client


def test_token_operations_are_logged(admin):
    admin.post("/admin/operators/token/add/", {"name": "billing", "scope": "read"})
    chosen = {"action": "revoke", "_selected_action": [Token.objects.get().pk]}
    admin.post("/admin/operators/token/", chosen)
    admin.post("/admin/operators/token/", chosen)
    assert lines() == [("ada", "admin", "issued", "billing"), ("ada", "admin", "revoked", "billing")]


def test_operator_operations_are_logged(admin):
    form = {"username": "bob", "role": "viewer", "usable_password": "true", **PASSWORDS}
    admin.post("/admin/operators/operator/add/", form)
    bob = Operator.objects.get(username="bob")
    url = f"/admin/operators/operator/{bob.pk}"
    admin.post(
        f"{url}/change/", {"username": "bob", "role": "operator", "is_active": "on", "time_zone": "UTC"}
    )
    admin.post(f"{url}/password/", {"usable_password": "true", **PASSWORDS})
    chosen = {"action": "sign_out_everywhere", "_selected_action": [bob.pk]}
    admin.post("/admin/operators/operator/", chosen)
    admin.post(f"{url}/delete/", {"post": "yes"})
    assert [verb for _, _, verb, name in lines() if name == "bob"] == [
        "created",
        "changed",
        "changed_password",
        "signed_out_everywhere",
        "deleted",
    ]
    assert Activity.objects.get(verb="deleted").before == {"role": "operator"}
    changed = Activity.objects.get(verb="changed")
    assert (changed.before, changed.after) == ({"role": "viewer"}, {"role": "operator"})


def test_password_and_time_zone_changes_by_oneself_are_logged(admin):
    own = {"old_password": "x", "new_password1": "a long passphrase", "new_password2": "a long passphrase"}
    assert admin.post("/admin/password_change/", own).url == "/dashboard/account/"
    assert not lines()

    admin.post("/dashboard/account/", {"time_zone": "Europe/Berlin"})
    line = Activity.objects.get()
    assert (line.verb, line.before, line.after) == (
        "set_time_zone",
        {"time_zone": "UTC"},
        {"time_zone": "Europe/Berlin"},
    )


def test_token_command_is_logged_as_the_command_line(make_token):
    make_token("write", name="nightly")
    assert lines() == [("command line", "command_line", "issued", "nightly")]
    assert "qd_" not in str(Activity.objects.values().get())
