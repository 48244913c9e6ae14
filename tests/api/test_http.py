"""HTTP as clients and networks use it, against a real server."""

import gzip
import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from scheduling import models
from tests.patience import wait_until

LIST = "/celery_ids_tasks/"


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """The status of the answer on a raw connection, and all of it."""
    connection.settimeout(120)
    received = b""
    while part := connection.recv(65536):
        received += part
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")),
            None,
        )
        if length is not None and len(body) >= length:
            break
    return int(received.split()[1]), received


def head(*lines: str, path: str = f"{LIST}?task_name=x", type: str = "text/plain") -> bytes:
    fixed = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Authorization: Bearer TOKEN",
        f"Content-Type: {type}",
    ]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def nothing_is_left() -> bool:
    tables = (models.Task, models.IdList, models.Chunk, models.User, models.IdempotentAnswer)
    return not any(table.objects.exists() for table in tables)


def test_path_without_final_slash_is_the_same(server):
    made = server.request("POST", "/celery_ids_tasks", json={"task_name": "x", "payload": [1, 2]})
    assert made.status_code == 201
    assert not made.history
    number = made.json()["task_id"]
    assert made.headers["Location"] == f"celery_ids_tasks/{number}/"
    for method, body in (("PUT", {"task_name": "y"}), ("PATCH", {"task_name": "z"}), ("DELETE", None)):
        with_slash, without = (
            server.request(method, f"/celery_ids_tasks/{number}{slash}", json=body) for slash in ("/", "")
        )
        assert with_slash.status_code == without.status_code == 200
        assert not with_slash.history
        assert not without.history
    assert (
        server.request("PATCH", "/celery_ids_tasks", json={"id": number, "task_name": "q"}).status_code == 200
    )
    assert server.request("GET", f"/celery_ids_tasks/{number}").json()["task_name"] == "q"
    assert server.request("POST", "/users", json={"id": 5, "name": "x"}).status_code == 201
    assert server.request("DELETE", "/users/5").status_code == 204


@pytest.mark.parametrize(
    ("type", "body", "status"),
    [
        ('Application/JSON; charset="UTF-8"', b'{"payload": [1]}', 201),
        ("application/json;charset=utf8", b'{"payload": [1]}', 201),
        ("text/csv; header=present", b"id\n1\n", 201),
        ("text/csv; charset=windows-1252", b"id\n1\n", 415),
        ("application/xml", b"<id>1</id>", 415),
        ("", b"1", 415),
    ],
)
def test_content_types_are_read_as_clients_write_them(server, type, body, status):
    answer = server.request("POST", f"{LIST}?task_name=x", headers={"Content-Type": type}, data=body)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.headers["Content-Type"] == "application/problem+json"
        if "windows" not in type:
            for accepted in (
                "application/json",
                "text/plain",
                "text/csv",
                "application/x-ndjson",
                "multipart",
            ):
                assert accepted in answer.json()["detail"]


def test_body_of_unknown_length_is_411(server):
    answer = server.request(
        "POST", f"{LIST}?task_name=x", headers={"Content-Type": "text/plain"}, data=iter([b"1,", b"2"])
    )
    assert answer.status_code == 411
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert nothing_is_left()


@pytest.mark.parametrize("sent", [b"", b"1,2,3\n", b"1,2,3\n" * 50_000], ids=len)
def test_body_that_is_cut_off_stores_nothing(server, sent):
    connection = server.raw(head("Content-Length: 5000000", "Idempotency-Key: k") + sent)
    # Long enough for the server to begin to read it; where it isn't, less has been read.
    time.sleep(0.3)
    connection.shutdown(socket.SHUT_WR)
    connection.close()
    time.sleep(0.5)
    wait_until(nothing_is_left, "nothing of it is left")
    assert server.request("POST", f"{LIST}?task_name=x", json={"payload": [1]}).status_code == 201


def test_body_announced_too_large_is_refused_unread(server):
    # No byte of it is sent.
    status, received = answer_of(server.raw(head("Content-Length: 99999999999")))
    assert status == 413
    assert b"application/problem+json" in received


def test_half_sent_bodies_block_nobody(server):
    held = [server.raw(head("Content-Length: 1000000") + b"1,2,3,") for _ in range(9)]
    time.sleep(0.5)
    for n in range(5):
        assert server.request("POST", f"{LIST}?task_name=x", json={"payload": [n + 1]}).status_code == 201
        assert server.request("GET", "/windows/").status_code == 200
    # None of them has been given up: whoever is answered didn't wait for one.
    assert select.select(held, [], [], 0)[0] == []
    for connection in held:
        connection.close()


def test_idempotency_key_with_100_parallel_requests_creates_one_task(server):
    def send(n: int):
        body, headers = b"1,2,3,4,5", {"Content-Type": "text/plain", "Idempotency-Key": "once"}
        if n % 2:
            body, headers = gzip.compress(body, mtime=n), headers | {"Content-Encoding": "gzip"}
        return server.request("POST", f"{LIST}?task_name=x", headers=headers, data=body)

    with ThreadPoolExecutor(25) as threads:
        answers = list(threads.map(send, range(100)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert models.Task.objects.count() == 1
    assert models.IdList.objects.count() == 1
    assert sum(models.Bucket.objects.values_list("filled_count", flat=True)) == 5


def test_parallel_submissions_fill_the_window_like_sequential_ones(server):
    def send(n: int):
        return server.request(
            "POST", f"{LIST}?task_name={n}", json={"payload": list(range(n * 100 + 1, n * 100 + 101))}
        )

    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(send, range(40)))
    assert {answer.status_code for answer in answers} == {201}
    windows = {answer.json()["plan"]["windows"][0]["starts_at"] for answer in answers}
    for starts_at in windows:
        window = models.Window.objects.get(starts_at=starts_at)
        fill = list(window.buckets.order_by("pk").values_list("filled_count", flat=True))
        in_it = [a for a in answers if a.json()["plan"]["windows"][0]["starts_at"] == starts_at]
        count = 100 * len(in_it)
        # Rule 1 up to 120 a minute, then rule 2.
        expected = [min(120, max(0, count - 120 * k)) for k in range(15)]
        rest = max(0, count - 1800)
        expected = [n + rest // 15 + (k < rest % 15) for k, n in enumerate(expected)]
        assert fill == expected


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        (b'{"task_name":"x","payload":' + b"[" * 60_000, 422, "[[[["),
        (b'{"task_name":"x","payload":[' + b"9" * 4301 + b"]}", 422, "9" * 40),
        (b'{"task_name":"x","payload":[1e1000000]}', 422, "1e1000000"),
        (b'{"task_name":"x","payload":[1E999999999999999999999]}', 422, "1E999999999999999999999"),
        (b'{"task_name":"x","payload":[1,2],"payload":[3]}', 422, "payload"),
        (b'{"x":{"payload":[9]},"task_name":"x","payload":[1]}', 422, "There is no field x"),
        (b'\xef\xbb\xbf{"task_name":"x","payload":[1]}', 201, ""),
        (b'{"task_name":"x","payload":[1,2,]}', 422, "]"),
        (b'{"task_name":"x","payload":[1001.0, 1e3]}', 422, "1001.0"),
        (b"[" * 1_000_000, 422, "array"),
        (b'{"a":' * 100_000, 422, ""),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_hostile_json_is_answered_quickly(server, body, status, names):
    server.request("POST", LIST, json={"task_name": "warm", "payload": [1]})
    before, memory = {process.pid for process in server.processes}, server.resident_bytes
    began = server.processor_seconds
    answer = server.request("POST", LIST, headers={"Content-Type": "application/json"}, data=body)
    # A busy machine takes time from a process, but no processor time.
    assert server.processor_seconds - began < 3
    assert answer.status_code == status, answer.text
    assert names in answer.text
    assert server.resident_bytes - memory < 50 * 1024**2
    assert server.request("POST", LIST, json={"task_name": "next", "payload": [1]}).status_code == 201
    assert {process.pid for process in server.processes} == before


def test_json_list_of_a_million_ids_uses_constant_memory(server):
    small = json.dumps({"task_name": "x", "payload": list(range(1, 20_001))})
    assert server.request("POST", LIST, headers={"Content-Type": "application/json"}, data=small).ok
    memory = server.resident_bytes
    large = json.dumps({"task_name": "x", "payload": list(range(1, 1_000_001))})
    peak = [memory]
    done = threading.Event()

    def watch():
        while not done.wait(0.02):
            peak.append(server.resident_bytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = server.request("POST", LIST, headers={"Content-Type": "application/json"}, data=large)
    finally:
        done.set()
        watcher.join()
    assert answer.status_code == 201, answer.text
    assert answer.json()["task"]["counts"]["ids"] == 1_000_000
    assert max(peak) - memory < 60 * 1024**2


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PROPFIND"])
def test_methods_that_are_not_allowed_are_405(server, method):
    answer = server.request(method, "/windows/")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_head_is_get_without_a_body(server):
    answer = server.request("HEAD", "/windows/")
    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize(
    "path", ["/nothing", "/users/x/", "/celery_ids_tasks/1/nothing/", "/api/", "/%00", "/a/b/c"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths_that_do_not_exist_are_404_problems(server, method, path):
    answer = server.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 404


def test_wrong_host_is_a_problem(server):
    answer = server.request("GET", "/windows/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
