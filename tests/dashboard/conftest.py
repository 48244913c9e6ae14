"""Somebody signed in, and lists that are placed by the real verbs."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.http import HttpResponse
from django.test import Client

from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import keys
from scheduling.dispatch import claims, messages
from scheduling.intake import allocation
from scheduling.reports import id_history


def squeezed(page: HttpResponse) -> str:
    """The page's source with each run of blanks and line breaks as one blank, as a browser shows it."""
    return " ".join(page.content.decode().split())


@pytest.fixture
def queue(db) -> models.Queue:
    """The queue `default`, rpm 120."""
    made, _ = models.Queue.objects.get_or_create(
        name="default", defaults={"rpm": 120, "created_at": store.now()}
    )
    return made


@pytest.fixture
def sign_in(client: Client, make_operator) -> Callable[..., Client]:
    """A client that is signed in: sign_in("viewer")."""

    def sign_in_as(role: str = "operator", *, time_zone: str = "UTC") -> Client:
        operator = make_operator(role, username=f"a {role}")
        operator.time_zone = time_zone
        operator.save(update_fields=["time_zone"])
        client.force_login(operator)
        return client

    return sign_in_as


@pytest.fixture
def place(queue) -> Callable[..., models.Task]:
    """Take a list in and write its rows: place(range(1, 100))."""

    def place_list(
        ids, *, name: str = "a list", at: datetime | None = None, into: str = "default"
    ) -> models.Task:
        now = store.now if at is None else lambda: at
        task = demo.submit(into, name, list(ids), by=Actor.system(), now=now)
        allocation.write_segments(now)
        task.refresh_from_db()
        return task

    return place_list


@pytest.fixture
def fail() -> Callable[..., None]:
    """Let all that waits of a task fail in its minute: fail(task, 404, "no such customer")."""

    def fail_all(
        task: models.Task, status: int | None = 404, answer: str = "", *, started: datetime | None = None
    ) -> None:
        for place in id_history.distribution(task):
            minute = keys.minute_of_bucket(place.bucket_id)
            at = started or minute
            want = messages.ClaimRequest(task.queue, until=60.0, immediate=False)
            taken = claims.commit_tick(
                owner=1, elapsed=lambda: 0.0, requests={place.bucket_id: want}, now=lambda at=at: at
            )
            kept_rows = [
                messages.Result(claimed, models.Status.FAILED, 0, _attempt(claimed, at, status, answer))
                for claimed in taken.claims
            ]
            batches = {claimed.batch_id for claimed in taken.claims}
            claims.commit_tick(
                owner=1,
                elapsed=lambda: 0.0,
                requests={},
                results=kept_rows,
                open_batches=batches,
                now=lambda at=at: at,
            )
        task.refresh_from_db()

    return fail_all


def _attempt(claimed: messages.Claim, at: datetime, status: int | None, answer: str) -> models.Attempt:
    return models.Attempt(
        task_id=claimed.task_id,
        user_id=claimed.user_id,
        number=claimed.attempts + 1,
        bucket_id=claimed.bucket_id,
        started_at=at,
        http_status=status,
        answer=answer,
    )
