"""The web server for real: clients that send or read slowly, or not at all, delay nobody."""

import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from settings.place import BASE_DIR
from tests.runner.conftest import Running, wait_for

LIST = "POST /celery_ids_tasks/?task_name=slow HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
PART = '--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + "1" * 50_000
MULTIPART = (
    "Host: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 300000000\r\n\r\n"
    + PART
)
FORM = "POST /sign-in/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
HALVES = {
    "headers": "GET /sign-in/ HTTP/1.1\r\nHost: localhost\r\nX-Something: ",
    "a form": f"{FORM}COOKIE\r\nContent-Length: 100\r\n\r\nuse",
    "a form without a cookie": f"{FORM}Content-Length: 100\r\n\r\nuse",
    "a list": f"{LIST}TOKEN\r\nContent-Length: 1000000\r\n\r\n1,2,",
    "a short list": f"{LIST}TOKEN\r\nContent-Length: 1000\r\n\r\n1,2,",
    "a list without a token": f"{LIST}Content-Length: 1000000\r\n\r\n1,2,",
    "a file to the sign-in": f"POST /sign-in/ HTTP/1.1\r\n{MULTIPART}",
    "a file to the upload": f"POST /dashboard/upload/ HTTP/1.1\r\n{MULTIPART}",
}

# Requests that stay incomplete are given up after FORM_SECONDS, 10 s, at the earliest: whoever had to wait for one
# would wait that long. A page takes some 20 ms, and many times as long on a busy machine.
DELAYED_SECONDS = 8


@pytest.fixture(scope="session")
def token(running: Running) -> str:
    command = [sys.executable, "manage.py", "create_token", "web", "--scope", "write"]
    made = subprocess.run(command, cwd=BASE_DIR, env=running.environment, capture_output=True, text=True)
    return made.stdout.strip()


@contextmanager
def connected(running: Running, *, buffer: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.connect(("127.0.0.1", running.port))
        yield connection


def answer_to(running: Running, method: str, path: str, body: str = "", **headers: str):
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()


def seconds_to_answer(running: Running, path: str = "/sign-in/") -> float:
    started = time.monotonic()
    assert answer_to(running, "GET", path)[0].status == 200
    return time.monotonic() - started


def slowest_third(running: Running) -> float:
    """Of twenty pages, the time that the slowest third takes at least: one slow page is the machine's doing."""
    return sorted(seconds_to_answer(running) for _ in range(20))[13]


@pytest.mark.parametrize("half", HALVES)
def test_incomplete_requests_delay_nobody(running: Running, token: str, half: str):
    page, _ = answer_to(running, "GET", "/sign-in/")
    cookie = "Cookie: " + page.headers["Set-Cookie"].partition(";")[0]
    text = HALVES[half].replace("TOKEN", f"Authorization: Bearer {token}").replace("COOKIE", cookie)
    with ExitStack() as stack:
        for _ in range(150):
            connection = stack.enter_context(connected(running))
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(text.encode())
        assert slowest_third(running) < DELAYED_SECONDS
        assert seconds_to_answer(running, "/healthz/live") < DELAYED_SECONDS


def test_clients_that_hang_up_delay_nobody(running: Running):
    for _ in range(4):
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(connected(running)).sendall(HALVES["a form without a cookie"].encode())
    assert slowest_third(running) < DELAYED_SECONDS


def test_slow_list_upload_is_accepted(running: Running, token: str):
    ids = ",".join(map(str, range(1, 20_001))).encode()
    head = f"{LIST}Authorization: Bearer {token}\r\nContent-Length: {len(ids)}\r\n\r\n".encode()
    with connected(running) as connection:
        connection.sendall(head + ids[:1000])
        time.sleep(0.5)
        connection.sendall(ids[1000:50_000])
        time.sleep(0.5)
        connection.sendall(ids[50_000:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 201")


def test_refusal_reaches_a_client_that_is_still_sending(running: Running):
    with connected(running) as connection:
        connection.sendall(f"{LIST}Content-Length: 3000000\r\n\r\n".encode())
        for _ in range(30):
            connection.sendall(b"1," * 50_000)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


def test_clients_that_do_not_read_delay_nobody(running: Running, token: str):
    ids = ",".join(map(str, range(1, 100_001)))
    bearer = {"Authorization": f"Bearer {token}"}
    path = "/celery_ids_tasks/?task_name=long&allow_peak=true"
    _, body = answer_to(running, "POST", path, ids, **bearer, **{"Content-Type": "text/plain"})
    task = json.loads(body)["task_id"]
    path = f"/celery_ids_tasks/{task}/ids/"
    wait_for(lambda: answer_to(running, "GET", path, **bearer)[0].status == 200)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAccept: text/csv\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(connected(running, buffer=4096)).sendall(request.encode())
        assert slowest_third(running) < DELAYED_SECONDS
        # And those who read get all of it.
        whole, body = answer_to(running, "GET", path, **bearer, Accept="text/csv")
        assert (whole.status, body.count(b"\n")) == (200, 100_001)


def test_pages_and_static_files_come_with_their_headers(running: Running):
    _, page = answer_to(running, "GET", "/sign-in/")
    (_, _, path), *_ = (
        part.partition('href="') for part in page.decode().split("\n") if "/static/admin/css/base" in part
    )
    answer, _ = answer_to(running, "GET", path.split('"')[0])
    assert answer.status == 200
    # A file with a hash in its name never changes.
    assert "immutable" in answer.headers["Cache-Control"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_every_cluster_has_a_heartbeat(running: Running):
    def rows() -> dict[str, int]:
        with closing(sqlite3.connect(running.data_dir / "quarterdeck.sqlite3")) as database:
            return dict(database.execute("SELECT cluster, workers FROM scheduling_heartbeat").fetchall())

    wait_for(lambda: rows() == {"quarterdeck": 2, "minutes": 3}, lambda: json.dumps(rows()))
