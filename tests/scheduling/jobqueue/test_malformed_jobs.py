"""Rows of the job queue that are no jobs stop nobody."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from scheduling.jobqueue import cluster

pytestmark = pytest.mark.django_db


def put(payload: str) -> OrmQ:
    return OrmQ.objects.create(
        key=cluster.DEFAULT, payload=payload, lock=timezone.now() - timedelta(seconds=5)
    )


@pytest.mark.parametrize("payload", ["text", ["a", "list"], None, 7, {"args": ()}])
def test_malformed_job_stops_no_polling_and_is_dropped_once(payload):
    row = put(SignedPackage.dumps(payload))
    cluster.enqueue("scheduling.jobs.sweep")
    assert cluster.is_queued("scheduling.jobs.sweep", at=timezone.now())
    at = timezone.now()
    assert (cluster.drop_malformed(at=at), cluster.drop_malformed(at=at)) == (1, 0)
    assert not OrmQ.objects.filter(pk=row.pk).exists()
    assert cluster.is_queued("scheduling.jobs.sweep", at=timezone.now())


@pytest.mark.parametrize("payload", ["", "garbage", "another:host:signed-it"])
def test_job_that_this_process_cannot_read_stays(payload):
    # It may be signed with another host's key.
    row = put(payload)
    assert cluster.queued("scheduling.jobs.sweep", at=timezone.now()) == []
    assert cluster.drop_malformed(at=timezone.now()) == 0
    assert OrmQ.objects.filter(pk=row.pk).exists()
    # Nobody has its key any more.
    OrmQ.objects.filter(pk=row.pk).update(lock=timezone.now() - cluster.UNREADABLE_KEPT)
    assert cluster.drop_malformed(at=timezone.now()) == 1
