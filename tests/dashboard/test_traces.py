"""Every act of the dashboard leaves its line in the log, by whom, from which face."""

from collections.abc import Callable

import pytest

from operators.actor import Actor
from operators.models import AuthenticatorApp, SavedView
from operators.roles import Permission
from scheduling import demo, models, store
from scheduling.alerts import evaluation
from scheduling.core import clock
from scheduling.demo import InMemory
from scheduling.intake import acceptance
from scheduling.jobqueue import bulk_operations
from scheduling.tasks import holds
from tests.code_of_app import code_of
from tests.dashboard.test_roles import _about, addresses
from tests.scheduling.alerts.watched import make_channel

pytestmark = pytest.mark.django_db

# Route to (address, what is posted, the verb of its line). `$` names come from `things`.
ACTS: dict[str, tuple[str, dict, str]] = {
    "upload/<int:draft_id>/": ("upload/$draft/", {"queue": "default"}, "submitted"),
    "upload/<int:draft_id>/discard/": ("upload/$draft/discard/", {"sure": "on"}, "discarded"),
    "tasks/<int:task_id>/rename/": ("tasks/$task/rename/", {"name": "after"}, "renamed"),
    "tasks/<int:task_id>/send-again/": ("tasks/$done/send-again/", {"at": "$now"}, "sent_again"),
    "tasks/<int:task_id>/cancel/": ("tasks/$task/cancel/", {}, "cancelled"),
    "tasks/<int:task_id>/hold/": ("tasks/$task/hold/", {"reason": "a mistake"}, "put_on_hold"),
    "tasks/<int:task_id>/continue/": ("tasks/$held/continue/", {}, "continued"),
    "tasks/cancel/": ("tasks/cancel/?q=a&at=$now&up_to=$task", {}, "cancelled_matching"),
    "tasks/selected/": ("tasks/selected/", {"act": "hold", "id": "$task", "sure": "on"}, "put_on_hold"),
    "tasks/<int:task_id>/replace/<int:draft_id>/": ("tasks/$task/replace/$other/", {}, "replaced"),
    "failures/": ("failures/?queue=default", {"at": "$now"}, "retried"),
    "acts/<slug:run>/stop/": ("acts/abc/stop/", {}, "stopped_retrying"),
    "queues/": ("queues/", {"name": "new", "rpm": "5"}, "created"),
    "queues/<slug:name>/": ("queues/default/", {"$form": ""}, "changed"),
    "queues/<slug:name>/pause/": ("queues/default/pause/", {}, "paused"),
    "queues/<slug:name>/resume/": ("queues/paused/resume/", {}, "resumed"),
    "queues/<slug:name>/brake/": ("queues/default/brake/", {"per_minute": "5"}, "braked"),
    "queues/<slug:name>/test/": ("queues/default/test/", {}, "tested"),
    "queues/<slug:name>/release/": ("queues/held/release/", {}, "released_target"),
    "targets/": ("targets/", {"origin": "http://a.test", "limit_per_60s": "6"}, "created"),
    "targets/<int:target_id>/": ("targets/$target/", {"limit_per_60s": "7"}, "changed"),
    "targets/<int:target_id>/end/": ("targets/$target/end/", {}, "deleted"),
    "hours/": ("hours/", {"name": "nights", "hours": "UTC\nmon-sun 00:00-06:00"}, "created"),
    "hours/<slug:name>/": ("hours/office/", {"hours": "UTC\nmon 09:00-10:00", "version": "1"}, "changed"),
    "all-queues/pause/": ("all-queues/pause/", {"sure": "on"}, "paused"),
    "all-queues/resume/": ("all-queues/resume/", {}, "resumed"),
    "alerts/rules/": ("alerts/rules/", {"ids_late_threshold": "7", "$rules": ""}, "changed"),
    "alerts/test/": ("alerts/test/", {"kind": "quota"}, "tested_alert"),
    "alerts/channels/new/<str:kind>/": (
        "alerts/channels/new/email/",
        {"name": "new", "address": "new@deck.example", "types": "task.done"},
        "created",
    ),
    "alerts/channels/<int:channel_id>/": (
        "alerts/channels/$channel/",
        {"name": "after", "address": "ops@deck.example", "types": "task.done"},
        "changed",
    ),
    "alerts/channels/<int:channel_id>/test/": ("alerts/channels/$channel/test/", {}, "tested_channel"),
    "alerts/channels/<int:channel_id>/delete/": ("alerts/channels/$channel/delete/", {}, "deleted"),
    "alerts/deliveries/<int:delivery_id>/send-again/": (
        "alerts/deliveries/$delivery/send-again/",
        {},
        "sent_event_again",
    ),
    "proof/": ("proof/", {}, "checked_plan"),
    "account/": ("account/", {"time_zone": "Europe/Berlin"}, "set_time_zone"),
    "account/two-factor/": (
        "account/two-factor/",
        {"step": "confirm", "code": "$code"},
        "turned_on_two_factor",
    ),
    "account/views/": ("account/views/", {"page": "tasks", "name": "Large"}, "saved_view"),
    "account/views/<int:view_id>/delete/": ("account/views/$view/delete/", {}, "deleted_view"),
    "account/sign-out/": ("account/sign-out/", {}, "signed_out_everywhere"),
}
# What is posted and changes nothing that anybody else sees: a draft comes, or goes.
DRAFTS = {
    "upload/",
    "upload/<int:draft_id>/leave-out/",
    "tasks/<int:task_id>/replace/",
}


@pytest.fixture
def things(place, fail) -> dict[str, str]:
    """Something for each act to be done to."""
    old = place(range(1, 5), name="an old one", at=store.now() - 2 * clock.QUARTER)
    fail(old)
    done = place([11, 12], name="a done one", at=store.now() - 2 * clock.QUARTER)
    demo.catch_up(done.first_minute_at, at=store.now())
    task = place([7, 8], name="a list")
    held = place([9], name="one on hold")
    holds.hold(held, by=Actor.system(), now=store.now)
    models.Queue.objects.create(
        name="held", rpm=5, handler="webhook", webhook_url="https://hook.test/", created_at=store.now()
    )
    models.Queue.objects.create(name="paused", rpm=5, created_at=store.now(), paused_at=store.now())
    models.Target.objects.create(origin="https://hook.test:443", opened_at=store.now())
    bulk_operations.begin(
        models.BulkActKind.RETRY_FAILED, request={}, number=1, name="abc", by=Actor.system(), at=store.now()
    )
    form = {"zone": "UTC", "open": ["mon-sun 09:00-18:00"]}
    models.Hours.objects.create(name="office", form=form, created_at=store.now())
    draft = acceptance.write_draft(InMemory([8]), at=store.now(), about=_about())
    other = acceptance.write_draft(InMemory([8, 9]), at=store.now(), about={**_about(), "replaces": task.pk})
    channel = make_channel("email", "ops@deck.example")
    evaluation.test(models.AlertKind.QUOTA, by=Actor.system(), at=store.now())
    models.Delivery.objects.update(due_at=None)
    target = models.Target.objects.create(origin="http://b.test:80", rpm=5)
    return {
        "$channel": str(channel.pk),
        "$delivery": str(models.Delivery.objects.get().pk),
        "$target": str(target.pk),
        "$draft": str(draft.pk),
        "$other": str(other.pk),
        "$task": str(task.pk),
        "$done": str(done.pk),
        "$held": str(held.pk),
        "$now": f"{store.now():%Y-%m-%dT%H:%M:%SZ}",
    }


def filled_in(text: str, things: dict[str, str]) -> str:
    for name, value in things.items():
        text = text.replace(name, value)
    return text


def form_of(client) -> dict:
    shown = {
        field.html_name: field.value() for field in client.get("/dashboard/queues/default/").context["form"]
    }
    return {name: "" if value is None else value for name, value in shown.items()} | {
        "webhook_headers": "",
        "rpm": "77",
    }


@pytest.mark.parametrize("route", sorted(ACTS))
def test_every_action_of_the_dashboard_is_logged(route, things, sign_in):
    role = "admin" if route.startswith("alerts/") else "operator"
    client = sign_in(role)
    address, posted, verb = ACTS[route]
    if "code" in posted:
        client.post("/dashboard/account/two-factor/", {"step": "begin"})
        things["$code"] = code_of(AuthenticatorApp.objects.get())
    if "$view" in address:
        client.post("/dashboard/account/views/", {"page": "tasks", "name": "Large"})
        things["$view"] = str(SavedView.objects.get().pk)
    if "$rules" in posted:
        posted = {**posted, "target_blocked_threshold": "5", "quota_threshold": "80"}
    data = form_of(client) if "$form" in posted else {k: filled_in(v, things) for k, v in posted.items()}

    client.post(f"/dashboard/{filled_in(address, things)}", data)

    line = models.Activity.objects.filter(verb=verb).first()
    assert line is not None, models.Activity.objects.values_list("verb", flat=True)
    assert (line.actor_name, line.actor_kind, line.face) == (f"a {role}", "operator", "page")


def test_every_address_that_takes_a_post_is_tested_here():
    posting = {route.removeprefix("dashboard/") for route, pattern in addresses() if _posts(pattern.callback)}

    # A brake is put on one queue.
    assert posting - {"all-queues/brake/"} == set(ACTS) | DRAFTS


def _posts(view: Callable) -> bool:
    """Whether the view answers a POST with anything but 405."""
    from django.test import RequestFactory

    class Nobody(Exception):
        pass

    class Spy:
        is_authenticated = True

        def may(self, act: Permission) -> bool:
            raise Nobody

    request = RequestFactory().post("/")
    request.user = Spy()
    try:
        return view(request).status_code != 405
    except Nobody:
        return True
