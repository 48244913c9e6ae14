"""Keys (`webhook-id`) differ between installations and between histories of one database."""

import importlib
from datetime import timedelta
from io import StringIO
from ipaddress import ip_network

import pytest
from django.apps import apps
from django.core.management import call_command

from scheduling import models, store
from scheduling.handlers.base import Request
from scheduling.tasks import callbacks
from tests.scheduling.placed import make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db


def key(installation: models.Installation, task_id: int = 7, user_id: int = 1029) -> str:
    part = installation.key_part_of(task_id)
    return Request(user_id, task_id, "a list", "q", store.now(), 1, part).idempotency_key


def test_installation_key_stays_the_same_until_a_restore():
    installation = models.Installation.current()
    assert key(installation) == key(models.Installation.current()) == f"msg_{installation.key_part}_7_1029"


def test_restore_and_other_installations_have_other_keys():
    keys = {key(models.Installation.current())}
    for _ in range(50):
        call_command("after_restore", stdout=StringIO())
        keys.add(key(models.Installation.current()))
    assert len(keys) == 51
    assert models.Activity.objects.filter(verb="drew_keys_again").count() == 50


def test_tasks_from_before_the_upgrade_keep_their_keys_until_a_restore():
    task = place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    models.Installation.objects.all().delete()
    importlib.import_module("scheduling.migrations.0008_random_part_of_keys").draw(apps, None)
    installation = models.Installation.current()
    assert key(installation, task.pk) == f"msg_{task.pk}_1029"
    assert key(installation, task.pk + 1) == f"msg_{installation.key_part}_{task.pk + 1}_1029"
    call_command("after_restore", stdout=StringIO())
    installation = models.Installation.current()
    assert key(installation, task.pk) == f"msg_{installation.key_part}_{task.pk}_1029"


def test_webhooks_and_callbacks_carry_the_part(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    handler, time = SimulatedHandler(), SimulatedTime(MINUTE - timedelta(seconds=4))
    with Target(lambda request: status(200)) as target:
        queue = make_queue(rpm=6_000, handler="webhook", webhook_url=target.url, callback_url=target.url)
        task = place(queue, {MINUTE: [1]}, at=BEFORE)
        time.worker(MINUTE, make_handler=lambda queue: handler).serve()
        assert callbacks.call_back(task.pk, lambda: MINUTE + timedelta(minutes=1))
    part = models.Installation.current().key_part
    assert handler.requests[0].idempotency_key == f"msg_{part}_{task.pk}_1"
    assert target.requests[0].key.startswith(f"msg_{part}_{task.pk}_done_")
