"""What the API's tests share: a queue, a client with a token, and a worker that writes lists at once."""

import json as json_module
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from scheduling import allocation, models, store


@pytest.fixture
def queue(db) -> models.Queue:
    return models.Queue.objects.get_or_create(name="default", defaults={"created_at": timezone.now()})[0]


class ApiClient(Client):
    """Sends JSON with a token, and reads JSON."""

    def __init__(self, token: str | None, **options: Any) -> None:
        super().__init__(raise_request_exception=False, enforce_csrf_checks=True, **options)
        self.token = token

    def generic(self, method, path, data="", content_type="application/octet-stream", **extra):
        headers = extra.pop("headers", None) or {}
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if not data and method not in ("GET", "HEAD"):
            # Django's leaves both out of an empty request; real clients send them.
            extra = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": "0", **extra}
        return super().generic(method, path, data, content_type, headers=headers, **extra)

    def send(
        self, method: str, path: str, body: Any = None, *, type: str = "application/json", **headers: str
    ):
        data = body if isinstance(body, (bytes, str)) else json_module.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.generic(method, path, data, type, headers=named)

    def list(self, body: Any, *, query: str = "?task_name=x", type: str = "application/json", **headers: str):
        """Send a list; JSON values as a payload."""
        if type == "application/json" and not isinstance(body, (bytes, str)):
            body = {"payload": body}
        return self.send("POST", f"/celery_ids_tasks/{query}", body, type=type, **headers)


@pytest.fixture
def api(queue, make_token) -> ApiClient:
    """A client with a token of scope write."""
    return ApiClient(make_token("write"))


@pytest.fixture
def reader(queue, make_token) -> ApiClient:
    """A client with a token of scope read."""
    return ApiClient(make_token("read"))


@pytest.fixture
def nobody(queue) -> ApiClient:
    """A client without a token."""
    return ApiClient(None)


@pytest.fixture
def write_lists():
    """Let a worker write all lists: write_lists()."""

    def write() -> None:
        while allocation.unwritten().exists():
            allocation.run(store.now)

    return write


def ids_of(client: ApiClient, task_id: int) -> list[int]:
    """A task's IDs as the API gives them."""
    return [place["user_id"] for place in client.get(f"/celery_ids_tasks/{task_id}/ids/").json()]
