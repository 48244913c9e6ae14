"""What an operator asked for goes on by itself, whatever dies in the middle of it."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F
from django_q.models import OrmQ

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock, limits
from scheduling.models import BulkAct, Status
from scheduling.tasks import resend
from scheduling.tasks.failures import FailureSelection
from tests.patience import wait_until
from tests.scheduling.placed import make_queue, place
from tests.scheduling.target import Target

pytestmark = pytest.mark.django_db(transaction=True)

IDS = 60_000


def failed_task() -> models.Task:
    queue = make_queue(rpm=6_000)
    minute = clock.minute_start(store.now()) - timedelta(hours=1)
    task = place(queue, {minute: range(1, IDS + 1)}, at=minute - clock.QUARTER)
    models.Assignment.objects.update(status=Status.FAILED, attempts=1)
    for rows in (models.Bucket, models.Task, models.TaskBucket):
        rows.objects.filter(waiting_count__gt=0).update(waiting_count=0, failed_count=IDS)
    models.Task.objects.update(finished_at=minute + clock.MINUTE)
    return task


def test_bulk_retry_survives_the_loss_of_cluster_and_jobs(transactional_db, start_cluster, monkeypatch):
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    task = failed_task()
    resend.retry(FailureSelection(), number=IDS, run="r", by=Actor.command_line(), now=store.now)
    cluster = start_cluster()
    act = BulkAct.objects.filter(name="r")
    wait_until(act.filter(done_count__gt=0).exists, "it is under way")
    cluster.kill()
    OrmQ.objects.all().delete()
    assert 0 < act.get().done_count < IDS, "it was killed in the middle"
    # The lease of the one that died runs out.
    act.update(lease_until=F("lease_until") - limits.BULK_LEASE)

    start_cluster()
    wait_until(act.filter(ended_at__isnull=False).exists, "it goes on by itself")
    assert act.get().done_count == IDS
    moved = models.Move.objects.filter(task_id=task.pk, reason=models.MoveReason.OPERATOR)
    assert Counter(moved.values_list("user_id", flat=True)) == Counter(range(1, IDS + 1))
    assert not models.Assignment.objects.filter(task=task, status=Status.FAILED).exists()


def test_due_callback_is_made_once_by_two_clusters(transactional_db, process_environment, start_cluster):
    process_environment["WEBHOOK_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    with Target() as target:
        task = failed_task()
        models.Queue.objects.update(callback_url=target.url, webhook_secret="whsec_c2VjcmV0")
        start_cluster()
        start_cluster()
        text = models.Task.objects.filter(pk=task.pk, called_back_at__isnull=False)
        wait_until(text.exists, "it is called back")
        assert text.get().callback_attempts == len(target.requests) == 1
