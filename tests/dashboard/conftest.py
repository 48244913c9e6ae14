"""Somebody signed in, and lists that are placed by the real verbs."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.test import Client

from operators.actor import Actor
from scheduling import allocation, demo, models, store


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
        allocation.run(now)
        task.refresh_from_db()
        return task

    return place_list
