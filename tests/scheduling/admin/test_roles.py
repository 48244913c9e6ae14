"""Each action of the admin's lists, posted by each role, whatever the page offered."""

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from operators.models import Operator, Token
from operators.roles import PERMISSIONS, Permission, Role
from scheduling import models

pytestmark = pytest.mark.django_db

# Action to its table and what it takes; of what is ours to act on Permission.ACT, of the others Permission.ADMINISTER.
ACTIONS: dict[str, tuple[type, Permission]] = {
    "pause": (models.Queue, Permission.ACT),
    "resume": (models.Queue, Permission.ACT),
    "cancel_ticked": (models.Task, Permission.ACT),
    "hold_ticked": (models.Task, Permission.ACT),
    "continue_ticked": (models.Task, Permission.ACT),
    "revoke": (Token, Permission.ADMINISTER),
    "sign_out_everywhere": (Operator, Permission.ADMINISTER),
    "turn_off_two_factor": (Operator, Permission.ADMINISTER),
    "let_in_again": (AccessAttempt, Permission.ADMINISTER),
}


@pytest.fixture
def rows(deck, make_operator) -> dict[str, int]:
    """The key of a row for each action, in a state in which it changes something."""
    operator = make_operator("viewer", username="somebody else")
    paused = models.Queue.objects.create(name="paused", created_at=timezone.now(), paused_at=timezone.now())
    failed = AccessAttempt.objects.create(username="x", ip_address="192.0.2.1", failures_since_start=9)
    TOTPDevice.objects.create(user=operator, confirmed=True)
    token = Token.objects.get()
    held = models.Task.objects.get(pk=deck.task.pk)
    held.pk, held.list, held.held_at = (
        None,
        models.IdList.objects.create(created_at=timezone.now()),
        timezone.now(),
    )
    held.save()
    keys = (
        deck.queue.pk,
        paused.pk,
        deck.task.pk,
        deck.task.pk,
        held.pk,
        token.pk,
        operator.pk,
        operator.pk,
        failed.pk,
    )
    return dict(zip(ACTIONS, keys, strict=True))


def state() -> list:
    """Return all that an action can change. A refusal leaves its line, and nothing else."""
    tables = (models.Queue, models.Task, Token, Operator, TOTPDevice, AccessAttempt)
    rows = [list(table.objects.order_by("pk").values()) for table in tables]
    return [*rows, list(models.Activity.objects.exclude(verb="refused").order_by("pk").values())]


def test_every_admin_action_is_tested_here(make_operator):
    request = RequestFactory().get("/admin/")
    request.user = make_operator("admin")
    offered = {name for page in admin.site._registry.values() for name in page.get_actions(request)}

    assert offered - {"delete_selected"} == set(ACTIONS)


@pytest.mark.parametrize("act", ACTIONS)
@pytest.mark.parametrize("role", Role.values)
def test_posted_admin_action_obeys_the_role(signed_in, rows, role, act):
    table, needed = ACTIONS[act]
    client = signed_in(role)
    # A sign-in is written down too.
    before = state()
    address = reverse(f"admin:{table._meta.app_label}_{table._meta.model_name}_changelist")

    client.post(address, {"action": act, "_selected_action": [rows[act]], "index": 0})

    if needed not in PERMISSIONS[Role(role)]:
        assert state() == before
    elif act == "cancel_ticked":
        # It asks first, with the number.
        assert state() == before
        question = client.get(f"{reverse('admin:scheduling_task_cancel')}?ids={rows[act]}")
        assert question.status_code == 200
    else:
        assert state() != before
        assert models.Activity.objects.order_by("pk").last().face == "admin"
