import pytest

from operators.models import Operator
from operators.roles import PERMISSIONS, Permission, Role, needed_for


def test_every_role_is_in_the_table():
    assert set(PERMISSIONS) == set(Role)


def test_role_includes_the_permissions_of_lesser_roles():
    assert (
        PERMISSIONS[Role.VIEWER]
        < PERMISSIONS[Role.OPERATOR]
        < PERMISSIONS[Role.ADMIN]
        == frozenset(Permission)
    )


@pytest.mark.parametrize(
    ("permission", "needed"),
    [
        ("scheduling.view_task", Permission.VIEW),
        ("scheduling.change_task", Permission.ACT),
        ("scheduling.add_queue", Permission.ACT),
        ("operators.view_token", Permission.VIEW),
        ("operators.add_token", Permission.ADMINISTER),
        ("operators.change_operator", Permission.ADMINISTER),
        ("axes.delete_accessattempt", Permission.ADMINISTER),
        ("django_q.view_task", Permission.ADMINISTER),
        ("django_q.add_schedule", Permission.ADMINISTER),
        ("sessions.view_session", Permission.ADMINISTER),
    ],
)
def test_permissions_of_the_admin_follow_the_table(permission, needed):
    assert needed_for(permission) == needed


@pytest.mark.parametrize("role", Role)
def test_operator_has_the_permissions_of_their_role(role):
    operator = Operator(username="somebody", role=role)
    assert {act for act in Permission if operator.may(act)} == PERMISSIONS[role]
    assert operator.has_perm("operators.change_token") == (role == Role.ADMIN)
    assert operator.has_perms(["scheduling.view_task", "scheduling.change_task"]) == (role != Role.VIEWER)


def test_inactive_operator_may_do_nothing():
    operator = Operator(username="gone", role=Role.ADMIN, is_active=False)
    assert not any(operator.may(act) for act in Permission)
    assert not operator.has_module_perms("scheduling")
