"""Every act that the admin offers is done once here, and leaves its line in the activity log."""

from collections.abc import Callable

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from operators.actor import Interface
from operators.models import Operator, Token
from scheduling import models

from .test_acts import queue_form, run_action, snapshot

pytestmark = pytest.mark.django_db
SECRET = "a long passphrase"
NEW_OPERATOR = {"username": "new", "role": "viewer", "password1": SECRET, "password2": SECRET}


def act(label: str, name: str, choose: Callable[[], int]) -> Callable:
    def do(client: Client, deck) -> None:
        run_action(client, reverse(f"admin:{label.replace('.', '_')}_changelist"), name, choose())

    return do


def post(label: str, page: str, form, choose: Callable[[], int] | None = None) -> Callable:
    def do(client: Client, deck) -> None:
        arguments = [choose()] if choose else []
        address = reverse(f"admin:{label.replace('.', '_')}_{page}", args=arguments)
        client.post(address, form(client, deck) if callable(form) else form)

    return do


def operator_id() -> int:
    return Operator.objects.get_or_create(username="somebody", defaults={"role": "viewer"})[0].pk


def somebody_with_a_second_factor() -> int:
    TOTPDevice.objects.create(user_id=operator_id(), confirmed=True)
    return operator_id()


def a_queue() -> int:
    return models.Queue.objects.get(name="letters").pk


def a_paused_queue() -> int:
    models.Queue.objects.update(paused_at=timezone.now())
    return a_queue()


def a_task() -> int:
    return models.Task.objects.get().pk


def a_task_on_hold() -> int:
    models.Task.objects.update(held_at=timezone.now())
    return a_task()


def a_user() -> int:
    return models.User.objects.first().pk


def erase_form(client: Client, deck) -> dict:
    return {"typed": a_user()}


def a_failed_sign_in() -> int:
    return AccessAttempt.objects.create(username="ann", ip_address="192.0.2.1", failures_since_start=5).pk


def cancel_ticked(client: Client, deck) -> None:
    address = run_action(client, "/admin/scheduling/task/", "cancel_ticked", a_task()).redirect_chain[-1][0]
    client.post(address, {"seen": snapshot(client, ids=a_task())})


ACTS = {
    "operators.operator add": post("operators.operator", "add", {**NEW_OPERATOR, "usable_password": "true"}),
    "operators.operator change": post(
        "operators.operator",
        "change",
        {"username": "somebody", "role": "operator", "is_active": "on", "time_zone": "UTC"},
        operator_id,
    ),
    "operators.operator delete": post("operators.operator", "delete", {"post": "yes"}, operator_id),
    "operators.operator sign_out_everywhere": act("operators.operator", "sign_out_everywhere", operator_id),
    "operators.operator turn_off_two_factor": act(
        "operators.operator", "turn_off_two_factor", somebody_with_a_second_factor
    ),
    "operators.token add": post("operators.token", "add", {"name": "billing", "scope": "read"}),
    "operators.token revoke": act("operators.token", "revoke", lambda: Token.objects.get().pk),
    "scheduling.queue add": post(
        "scheduling.queue",
        "add",
        lambda client, deck: {**queue_form(client, deck.queue, name="bills", rpm=5), "seen_version": ""},
    ),
    "scheduling.queue change": post(
        "scheduling.queue",
        "change",
        lambda client, deck: queue_form(client, deck.queue, max_attempts=3),
        a_queue,
    ),
    "scheduling.queue pause": act("scheduling.queue", "pause", a_queue),
    "scheduling.queue resume": act("scheduling.queue", "resume", a_paused_queue),
    "scheduling.task change": post("scheduling.task", "change", {"name": "other"}, a_task),
    "scheduling.task replace": post("scheduling.task", "replace", {"payload": "5", "version": 1}, a_task),
    "scheduling.task cancel_ticked": cancel_ticked,
    "scheduling.task hold_ticked": act("scheduling.task", "hold_ticked", a_task),
    "scheduling.task continue_ticked": act("scheduling.task", "continue_ticked", a_task_on_hold),
    "scheduling.task cancel": lambda client, deck: client.post(
        reverse("admin:scheduling_task_cancel"), {"seen": snapshot(client)}
    ),
    "scheduling.user add": post("scheduling.user", "add", {"id": "5", "name": "Ann"}),
    "scheduling.user change": post("scheduling.user", "change", {"name": "Ann"}, a_user),
    "scheduling.user erase": post("scheduling.user", "erase", erase_form, a_user),
    "scheduling.user delete": post("scheduling.user", "delete", {"post": "yes"}, a_user),
    "axes.accessattempt let_in_again": act("axes.accessattempt", "let_in_again", a_failed_sign_in),
}
# A token is shown by its page of change, where nothing can be changed; pages of our own have no permission.
NOTHING_TO_CHANGE = {"operators.token change"}
OWN_PAGES = {"scheduling.task replace", "scheduling.task cancel", "scheduling.user erase"}


def offered(operator: Operator) -> set[str]:
    """Every act that the admin offers somebody: to add, change and delete a row, and the actions of lists."""
    request = RequestFactory().get("/admin/")
    request.user = operator
    result = set()
    for model, page in admin.site._registry.items():
        row = model._default_manager.only("pk").exclude(pk=operator.pk if model is Operator else None).first()
        may = {
            "add": page.has_add_permission(request),
            "change": row is not None and page.has_change_permission(request, row),
            "delete": row is not None and page.has_delete_permission(request, row),
        }
        names = [name for name, allowed in may.items() if allowed] + list(page.get_actions(request))
        result.update(f"{model._meta.label_lower} {name}" for name in names)
    return result


def test_every_offered_admin_action_is_tested_here(deck, make_operator):
    operator_id()
    a_failed_sign_in()
    assert offered(make_operator("admin")) | OWN_PAGES == set(ACTS) | NOTHING_TO_CHANGE


@pytest.mark.parametrize("name", ACTS)
def test_every_admin_action_is_logged(signed_in, deck, name):
    client = signed_in("admin")
    before = models.Activity.objects.filter(face=Interface.ADMIN).count()
    ACTS[name](client, deck)
    lines = models.Activity.objects.filter(face=Interface.ADMIN).order_by("pk")[before:]
    assert lines, name
    assert {line.actor_name for line in lines} == {"admin"}
