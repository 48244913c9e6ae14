import pytest

from operators.models import Operator
from operators.roles import MAY, May, Role, needed_for


def test_every_role_is_in_the_table():
    assert set(MAY) == set(Role)


def test_each_role_may_what_the_lesser_one_may():
    assert MAY[Role.VIEWER] < MAY[Role.OPERATOR] < MAY[Role.ADMIN] == frozenset(May)


@pytest.mark.parametrize(
    ("permission", "needed"),
    [
        ("scheduling.view_task", May.VIEW),
        ("scheduling.change_task", May.ACT),
        ("scheduling.add_queue", May.ACT),
        ("operators.view_token", May.VIEW),
        ("operators.add_token", May.ADMINISTER),
        ("operators.change_operator", May.ADMINISTER),
        ("axes.delete_accessattempt", May.ADMINISTER),
        ("django_q.view_task", May.ADMINISTER),
        ("django_q.add_schedule", May.ADMINISTER),
        ("sessions.view_session", May.ADMINISTER),
    ],
)
def test_the_permissions_of_the_admin_follow_the_table(permission, needed):
    assert needed_for(permission) == needed


@pytest.mark.parametrize("role", Role)
def test_an_operator_may_what_the_role_says(role):
    operator = Operator(username="somebody", role=role)
    assert {act for act in May if operator.may(act)} == MAY[role]
    assert operator.has_perm("operators.change_token") == (role == Role.ADMIN)
    assert operator.has_perms(["scheduling.view_task", "scheduling.change_task"]) == (role != Role.VIEWER)


def test_who_is_not_active_may_nothing():
    operator = Operator(username="gone", role=Role.ADMIN, is_active=False)
    assert not any(operator.may(act) for act in May)
    assert not operator.has_module_perms("scheduling")
