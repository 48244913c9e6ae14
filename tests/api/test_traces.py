"""Every action of the API leaves an entry in the activity log."""

import ipaddress

import pytest

from api.docs import schema_of
from api.urls import api as the_api
from operators.actor import Actor
from scheduling import models, store
from scheduling.alerts import evaluation
from scheduling.models import Activity, Status
from tests.scheduling.alerts.watched import make_channel

from .test_access import READS

pytestmark = pytest.mark.django_db

# Method and path to the body, the verb of its line, and the kind of thing. `$task` is a task's number.
ACTS: dict[tuple[str, str], tuple[dict, str, str]] = {
    ("post", "/celery_ids_tasks/"): ({"task_name": "x", "payload": [8]}, "submitted", "task"),
    ("patch", "/celery_ids_tasks/"): ({"id": "$task", "task_name": "after"}, "renamed", "task"),
    ("put", "/celery_ids_tasks/"): ({"id": "$task", "task_name": "after"}, "renamed", "task"),
    ("patch", "/celery_ids_tasks/{id}/"): ({"payload": [2, 3]}, "replaced", "task"),
    ("put", "/celery_ids_tasks/{id}/"): ({"payload": [2, 3]}, "replaced", "task"),
    ("delete", "/celery_ids_tasks/{id}/"): ({}, "cancelled", "task"),
    ("post", "/users/"): ({"id": 5, "name": "Ann"}, "created", "user"),
    ("put", "/users/{id}/"): ({"name": "Ann"}, "renamed", "user"),
    ("patch", "/users/{id}/"): ({"name": "Ann"}, "renamed", "user"),
    ("delete", "/users/{id}/"): ({}, "deleted", "user"),
    ("post", "/celery_ids_tasks/{id}/retry/"): ({}, "retried", ""),
    ("post", "/celery_ids_tasks/{id}/resend/"): ({}, "sent_again", "task"),
    ("post", "/failures/retry/"): ({}, "retried", ""),
    ("post", "/queues/{name}/release/"): ({}, "released_target", "target"),
    ("delete", "/queues/{name}/"): ({}, "deleted", "queue"),
    ("post", "/queues/"): ({"name": "mail"}, "created", "queue"),
    ("patch", "/queues/{name}/"): ({"rpm": 5}, "changed", "queue"),
    ("post", "/queues/{name}/pause/"): ({}, "paused", "queue"),
    ("post", "/queues/{name}/resume/"): ({}, "resumed", "queue"),
    ("post", "/queues/{name}/rotate_secret/"): ({"secret": None}, "rotated_secret", "queue"),
    ("post", "/queues/{name}/brake/"): ({"per_minute": 5}, "braked", "queue"),
    ("post", "/queues/{name}/test/"): ({}, "tested", "queue"),
    ("post", "/queues/{name}/test_callback/"): ({}, "tested_callback", "queue"),
    ("post", "/targets/"): ({"origin": "https://a.test", "rpm": 5}, "created", "target"),
    ("patch", "/targets/{id}/"): ({"rpm": 6}, "changed", "target"),
    ("delete", "/targets/{id}/"): ({}, "deleted", "target"),
    ("post", "/webhooks/"): (
        {"name": "new", "url": "https://hook.example/", "events": ["task.done"]},
        "created",
        "channel",
    ),
    ("patch", "/webhooks/{id}/"): ({"enabled": False}, "changed", "channel"),
    ("delete", "/webhooks/{id}/"): ({}, "deleted", "channel"),
    ("post", "/webhooks/{id}/test/"): ({}, "tested_channel", "channel"),
    ("post", "/webhooks/{id}/deliveries/{delivery_id}/resend/"): ({}, "sent_event_again", "channel"),
    ("post", "/hours/"): ({"name": "nights", "open": ["mon-sun 00:00-06:00"]}, "created", "hours"),
    ("patch", "/hours/{name}/"): ({"open": ["mon-sun 00:00-06:00"]}, "changed", "hours"),
    ("delete", "/hours/{name}/"): ({}, "deleted", "hours"),
    ("post", "/celery_ids_tasks/{id}/hold/"): ({}, "put_on_hold", "task"),
    ("post", "/celery_ids_tasks/{id}/continue/"): ({}, "continued", "task"),
    ("post", "/celery_ids_tasks/{id}/call_back/"): ({}, "asked_to_call_back", "task"),
}
USER = 77


@pytest.fixture
def task(api, write_lists) -> int:
    """The number of a task that waits, beside a user that no task has."""
    models.User.objects.create(pk=USER, name="before", created_at=store.now())
    number = api.list([1, 2]).json()["task_id"]
    write_lists()
    return number


@pytest.mark.parametrize(("method", "path"), sorted(ACTS))
def test_actions_leave_an_activity_entry(api, queue, task, submit_past, finish, settings, method, path):
    body, verb, kind = ACTS[method, path]
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    if "call" in verb:
        # Nobody listens there.
        models.Queue.objects.filter(pk=queue.pk).update(callback_url="http://127.0.0.1:1/")
        models.Task.objects.filter(pk=task).update(finished_at=store.now(), called_back_at=store.now())
    if verb in ("retried", "sent_again"):
        task = submit_past([4])
        finish(task, *((Status.FAILED, 404) if verb == "retried" else (Status.SUCCEEDED, 200)))
    if verb == "released_target":
        models.Queue.objects.update(handler="webhook", webhook_url="https://hook.test/in")
        models.Target.objects.create(origin="https://hook.test:443", opened_at=store.now())
    name = queue.name
    if (method, path) == ("delete", "/queues/{name}/"):
        name = "empty"
        models.Queue.objects.create(name=name, created_at=store.now())
    if kind == "hours":
        form = {"zone": "UTC", "open": ["mon-sun 09:00-18:00"]}
        models.Hours.objects.create(name=name, form=form, created_at=store.now())
    if verb == "resumed":
        models.Queue.objects.filter(pk=queue.pk).update(paused_at=store.now())
    if verb == "continued":
        models.Task.objects.filter(pk=task).update(held_at=store.now())
    number = task if "tasks" in path else USER
    if "targets/{id}" in path:
        number = models.Target.objects.create(origin="https://b.test:443", rpm=5).pk
    if "webhooks/{id}" in path:
        number = make_channel("webhook", "http://127.0.0.1:1/").pk
        evaluation.test(models.AlertKind.QUOTA, by=Actor.system(), at=store.now())
        models.Delivery.objects.update(due_at=None)
        path = path.replace("{delivery_id}", str(models.Delivery.objects.get().pk))
    address = path.replace("{id}", str(number)).replace("{name}", name)
    before = Activity.objects.count()

    answer = api.send(
        method.upper(), address, {**body, **({"id": task} if body.get("id") == "$task" else {})}
    )

    assert answer.status_code < 300, answer.content
    assert Activity.objects.count() == before + 1
    line = Activity.objects.order_by("pk").last()
    assert (line.verb, line.object_kind) == (verb, kind)
    assert (line.actor_name, line.actor_kind, line.face) == ("a test", "token", "api")


def test_actions_are_all_covered_here():
    paths = schema_of(the_api)["paths"]
    acting = {(method, path) for path, operations in paths.items() for method in operations}

    assert {each for each in acting if each[0] not in READS} == set(ACTS)
