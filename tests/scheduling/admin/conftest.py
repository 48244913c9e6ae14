"""An instance with something of everything, and somebody who looks at it."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.models import Task as Result

from operators.actor import Actor
from operators.models import Token
from scheduling import models
from scheduling.jobqueue import cluster, schedules
from scheduling.queues import operations
from tests.scheduling.lists_of_ids import submit, write_all


@pytest.fixture
def signed_in(client, make_operator):
    """Sign in as a role: signed_in("viewer")."""

    def sign_in(role: str = "operator"):
        client.force_login(make_operator(role))
        return client

    return sign_in


@dataclass(frozen=True)
class Deck:
    queue: models.Queue
    task: models.Task
    user_id: int


@pytest.fixture
def deck(db, make_token, tmp_path) -> Deck:
    """A queue with a list that is placed, and a row in every table that has a page."""
    at = timezone.now()
    by = Actor.command_line()
    queue = operations.create(name="letters", fields={"rpm": 1}, by=by, at=at)
    task = submit(
        [1029, 77, 1030], tmp_path, by=by, at=at, task_name="spring letters", queue_name="letters"
    ).task
    write_all(at)
    make_token("read")
    models.Heartbeat.objects.create(owner=1, cluster="minutes", host="h", pid=1, started_at=at, seen_at=at)
    schedules.ensure(at=at)
    cluster.enqueue("scheduling.jobs.allocate")
    for number, success in enumerate((True, False)):
        Result.objects.create(
            id=f"{number:032}", name=f"job {number}", func="scheduling.jobs.sweep", success=success,
            started=at - timedelta(seconds=1), stopped=at, result="boom",
        )  # fmt: skip
    assert OrmQ.objects.exists()
    assert Schedule.objects.exists()
    assert Token.objects.exists()
    return Deck(queue, task, 1029)
