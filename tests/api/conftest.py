"""What the API's tests share: a queue, a client with a token, and a worker that writes lists at once."""

import json as json_module
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psutil
import pytest
import requests
from django.conf import settings
from django.test import Client
from django.utils import timezone

from scheduling import models, store
from scheduling.core import keys
from scheduling.dispatch import claims, messages
from scheduling.intake import allocation
from scheduling.reports import id_history
from tests.conftest import database_url
from tests.patience import reserved_port, wait_until


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
def anonymous(queue) -> ApiClient:
    """A client without a token."""
    return ApiClient(None)


@pytest.fixture
def write_lists():
    """Let a worker write all lists: write_lists()."""

    def write() -> None:
        while models.Segment.objects.unwritten().exists():
            allocation.write_segments(store.now)

    return write


@pytest.fixture
def submit_past(api, write_lists, monkeypatch):
    """Submit a list an hour ago, so that its minutes have passed: submit_past([1, 2]) returns its number."""

    def submit(ids: list[int], *, query: str = "?task_name=x") -> int:
        with monkeypatch.context() as earlier:
            past = store.now() - timedelta(hours=1)
            earlier.setattr(store, "now", lambda: past)
            number = api.list(ids, query=query).json()["task_id"]
            write_lists()
        return number

    return submit


@pytest.fixture
def finish():
    """Let all that waits of a task end in its minute: finish(7, Status.FAILED, 404, "no such customer")."""

    def finish_all(number: int, status: models.Status, http_status: int = 404, answer: str = "") -> None:
        task = models.Task.objects.get(pk=number)
        for minute in id_history.distribution(task):
            at = keys.minute_of_bucket(minute.bucket_id)
            want = messages.ClaimRequest(task.queue, until=60.0, immediate=False)
            tick = partial(claims.commit_tick, owner=1, elapsed=lambda: 0.0, now=lambda at=at: at)
            claimed = tick(requests={minute.bucket_id: want}).claims
            results = [
                messages.Result(claim, status, 0, _attempt(claim, at, http_status, answer))
                for claim in claimed
            ]
            tick(requests={}, results=results, open_batches={claim.batch_id for claim in claimed})

    return finish_all


def _attempt(claim: messages.Claim, at: datetime, http_status: int, answer: str) -> models.Attempt | None:
    if http_status < 300:
        return None
    return models.Attempt(
        task_id=claim.task_id,
        user_id=claim.user_id,
        number=claim.attempts + 1,
        bucket_id=claim.bucket_id,
        started_at=at,
        http_status=http_status,
        answer=answer,
        error=f"answered {http_status}",
    )


def ids_of(client: ApiClient, task_id: int) -> list[int]:
    """A task's IDs as the API gives them."""
    return [place["user_id"] for place in client.get(f"/celery_ids_tasks/{task_id}/ids/").json()]


class Server:
    """A real web server with the project in it, and what a client needs to come in."""

    def __init__(self, port: int, process: subprocess.Popen) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""

    def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any):
        options.setdefault("timeout", 180)
        named = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return requests.request(method, self.url + path, headers=named, **options)

    def is_up(self) -> bool:
        assert self.process.poll() is None, "the server has ended"
        with suppress(requests.ConnectionError):
            return self.request("GET", "/healthz/live").ok
        return False

    def raw(self, data: bytes) -> socket.socket:
        """Send bytes as they are; the caller reads and closes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=180)
        connection.sendall(data.replace(b"TOKEN", self.token.encode()))
        return connection

    @property
    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def processor_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    @property
    def resident_bytes(self) -> int:
        return max(process.memory_info().rss for process in self.processes)


@pytest.fixture(scope="session")
def granian(django_db_setup):
    """granian, as `make run` starts it, on the tests' database; one for all tests, since it takes seconds."""
    with serving() as running:
        yield running


@contextmanager
def serving() -> Iterator[Server]:
    """A server of its own."""
    with reserved_port() as port:
        yield from _serving(port)


def _serving(port: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "granian", "runner.web.application:application", "--interface", "asginl"]
    command += ["--http", "1", "--no-ws", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--log-level", "error"]
    command += ["--working-dir", str(settings.BASE_DIR)]
    process = subprocess.Popen(
        command, env=environment_of_processes(), cwd=settings.BASE_DIR, start_new_session=True
    )
    try:
        running = Server(port, process)
        wait_until(running.is_up, "the server is up")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def environment_of_processes() -> dict[str, str]:
    """The same as the fixture process_environment gives, for what outlives one test."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings.test",
        "DATA_DIR": str(settings.DATA_DIR),
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": database_url(),
    }


@pytest.fixture
def server(transactional_db, granian, queue, make_token) -> Server:
    """The real server, with a token of scope write for this test."""
    granian.token = make_token("write")
    return granian
