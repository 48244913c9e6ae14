"""The web server for real: slow senders starve nobody."""

import http.client
import json
import socket
import sqlite3
import time
from contextlib import closing, suppress

from tests.runner.conftest import Running, wait_for

HEAD = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"


def half_send(running: Running, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", running.port))
    connection.sendall(f"{HEAD.format(path=path)}1,2,".encode())
    return connection


def seconds_to_answer(running: Running) -> float:
    began = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)) as connection:
        connection.request("GET", "/sign-in/")
        assert connection.getresponse().status == 200
    return time.monotonic() - began


def test_thirty_half_sent_bodies_starve_nobody(running: Running):
    seconds_to_answer(running)
    for path in ("/sign-in/", "/celery_ids_tasks/?task_name=slow", "/admin/"):
        senders = [half_send(running, path) for _ in range(30)]
        try:
            time.sleep(0.3)
            assert max(seconds_to_answer(running) for _ in range(20)) < 2
        finally:
            for sender in senders:
                sender.close()


def test_a_sender_that_gives_up_leaves_its_thread_to_others(running: Running):
    for _ in range(4):
        senders = [half_send(running, "/sign-in/") for _ in range(40)]
        for sender in senders:
            with suppress(OSError):
                sender.shutdown(socket.SHUT_RDWR)
            sender.close()
    wait_for(lambda: seconds_to_answer(running) < 2, 10)


def test_pages_and_static_files_come_with_their_headers(running: Running):
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)) as connection:
        connection.request("GET", "/sign-in/")
        page = connection.getresponse().read().decode()
        (_, _, path), *_ = (
            part.partition('href="') for part in page.split("\n") if "/static/admin/css/base" in part
        )
        connection.request("GET", path.split('"')[0])
        answer = connection.getresponse()
        assert answer.status == 200
        # A hashed name never changes its content.
        assert "immutable" in answer.headers["Cache-Control"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_every_cluster_has_a_row_that_says_it_is_there(running: Running):
    def rows() -> dict[str, int]:
        with closing(sqlite3.connect(running.data_dir / "quarterdeck.sqlite3")) as database:
            return dict(database.execute("SELECT cluster, workers FROM scheduling_heartbeat").fetchall())

    wait_for(lambda: rows() == {"quarterdeck": 2, "minutes": 5}, 15, lambda: json.dumps(rows()))
