"""Pages while a thousand strangers send half of something, or don't read what they are sent.

Quarterdeck runs as it does for people; a thousand connections, from eight addresses so that no limit per address
helps, send the beginning of a request and then nothing, or a byte a second. Whoever is refused connects again at
once. Meanwhile an operator's pages and the health checks are asked for, each over a connection of its own.
"""

import http.client
import json
import re
import select
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rows import Row
from benchmarks.service import ROOT, Service, directory

SENDERS, READERS, ADDRESSES = 1_000, 80, 8
# How long each kind is measured, after the time until all are connected.
SECONDS, SETTLING_SECONDS, ASKED_A_SECOND = 10.0, 3.0, 20
PAGE_MILLISECONDS = 100
LIST_OF = 300_000
PAGES = (
    "/dashboard/",
    "/dashboard/tasks/",
    "/dashboard/queues/",
    "/dashboard/activity/",
    "/dashboard/upload/",
)
HEALTH = ("/healthz/live", "/healthz/ready")


@dataclass(frozen=True)
class Attack:
    """head: what is sent at once. trickle: what is sent of it each second. reads: whether answers are read."""

    head: str
    connections: int = SENDERS
    trickle: str = ""
    reads: bool = True


@dataclass
class Measured:
    pages: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    refused: int = 0


def run() -> list[Row]:
    """Measure, and return the rows."""
    with directory() as data_dir, Service(data_dir) as service:
        visitor = Visitor(service, _first_password(data_dir))
        answer = service.ask(
            "POST",
            "/celery_ids_tasks/?task_name=long&allow_peak=true",
            ",".join(map(str, range(1, LIST_OF + 1))).encode(),
            Content_Type="text/plain",
        )
        rows = _rows("nobody else", visitor.measure())
        for name, attack in _attacks(service, visitor, answer["task_id"]).items():
            with _attackers(service.port, attack):
                time.sleep(SETTLING_SECONDS)
                rows += _rows(name, visitor.measure())
        return rows


def _rows(name: str, measured: Measured) -> list[Row]:
    page, health = _worst(measured.pages), _worst(measured.health)
    return [
        _row(f"{name}: a page, 99 of a hundred times", page, "ms, at most", PAGE_MILLISECONDS),
        _row(f"{name}: a health check, 99 of a hundred times", health, "ms", None),
        _row(f"{name}: pages and health checks that were refused or red", measured.refused, "at most", 0),
    ]


def _row(name: str, value: float, unit: str, limit: float | None) -> Row:
    ok = limit is None or value <= limit
    return {"name": f"front door: {name}", "value": round(value, 1), "unit": unit, "limit": limit, "ok": ok}


def _worst(seconds: list[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return 1000 * sorted(seconds)[int(len(seconds) * 0.99)]


def _first_password(data_dir: Path) -> str:
    match = re.search(r"Password \(shown once\): (\S+)", (data_dir / "run.log").read_text())
    assert match
    return match[1]


class Visitor:
    """An operator who looks at pages."""

    def __init__(self, service: Service, password: str) -> None:
        self.port = service.port
        self.password = password
        self.cookie = self.sign_in()

    def sign_in(self) -> str:
        """The cookies of a new session."""
        _, _, cookies, page = self._ask("GET", "/sign-in/")
        secret = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
        assert secret
        form = {"username": "admin", "password": self.password, "csrfmiddlewaretoken": secret[1]}
        headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
        _, status, session, _ = self._ask("POST", "/sign-in/", urllib.parse.urlencode(form), headers)
        if status != 302:
            raise RuntimeError(f"sign-in: {status}")
        return f"{cookies}; {session}"

    def measure(self) -> Measured:
        """Ask for pages and health checks in turn, evenly over time."""
        result = Measured()
        began = time.monotonic()
        for number in range(int(SECONDS * ASKED_A_SECOND)):
            time.sleep(max(0.0, began + number / ASKED_A_SECOND - time.monotonic()))
            is_health = number % 4 == 3
            paths = HEALTH if is_health else PAGES
            try:
                seconds, status, _, _ = self._ask(
                    "GET", paths[number % len(paths)], headers={"Cookie": self.cookie}
                )
            except OSError:
                seconds, status = 10.0, 0
            (result.health if is_health else result.pages).append(seconds)
            result.refused += status != 200
        return result

    def _ask(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[float, int, str, str]:
        """Seconds from connecting to the last byte, the status, the cookies that were set, and the page."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        page = answer.read().decode()
        connection.close()
        seconds = time.perf_counter() - began
        cookies = [value.partition(";")[0] for value in answer.headers.get_all("Set-Cookie") or []]
        return seconds, answer.status, "; ".join(cookies), page


def _attacks(service: Service, visitor: Visitor, task: int) -> dict[str, Attack]:
    """What is tried, by what it is called."""
    token = f"Authorization: Bearer {service.token}\r\n"
    reader = service.manage("create_token", "reader", "--scope", "read").strip()
    # Another session than that of the one who is measured: a session has its own limit.
    cookie = f"Cookie: {visitor.sign_in()}\r\n"
    host = "Host: 127.0.0.1\r\n"
    form = f"POST /sign-in/ HTTP/1.1\r\n{host}Content-Type: application/x-www-form-urlencoded\r\n"
    text = f"POST /celery_ids_tasks/?task_name=slow HTTP/1.1\r\n{host}Content-Type: text/plain\r\n"
    upload = (
        f"POST /dashboard/upload/ HTTP/1.1\r\n{host}{cookie}Content-Type: multipart/form-data; boundary=x\r\n"
        "Content-Length: 30000000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n1,2,3,'
    )
    download = f"GET /celery_ids_tasks/{task}/ids/ HTTP/1.1\r\n{host}Accept: application/x-ndjson\r\n"
    export = f"GET /dashboard/tasks/{task}/?export=csv HTTP/1.1\r\n{host}{cookie}\r\n"
    return {
        "headers": Attack(f"GET /sign-in/ HTTP/1.1\r\n{host}X-Slow: "),
        "a form": Attack(f"{form}{cookie}Content-Length: 100\r\n\r\nuse"),
        "a form of a stranger": Attack(f"{form}Content-Length: 100\r\n\r\nuse"),
        "a list with a token": Attack(f"{text}{token}Content-Length: 1000000\r\n\r\n1,2,"),
        "a list without": Attack(f"{text}Content-Length: 1000000\r\n\r\n1,2,"),
        "a byte a second": Attack(f"{text}{token}Content-Length: 1000000\r\n\r\n", trickle="1"),
        "headers, a byte a second": Attack(f"GET /sign-in/ HTTP/1.1\r\n{host}X-Slow: ", trickle="1"),
        "a file to the upload page": Attack(upload),
        "downloads that nobody reads": Attack(
            f"{download}Authorization: Bearer {reader}\r\n\r\n", connections=READERS, reads=False
        ),
        "exports that nobody reads": Attack(export, connections=READERS, reads=False),
    }


@contextmanager
def _attackers(port: int, attack: Attack) -> Iterator[None]:
    """The attack in a process of its own, which is gone afterwards."""
    parameters = json.dumps({"port": port, **attack.__dict__})
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.front_door"], cwd=ROOT, stdin=subprocess.PIPE, text=True
    )
    assert process.stdin
    try:
        process.stdin.write(f"{parameters}\n")
        process.stdin.flush()
        yield
    finally:
        process.kill()
        process.wait()


# --- In the process of the attack ---


def attack_for_ever(port: int, attack: Attack) -> None:
    poll = select.poll()
    # Who reads hears of an answer; who doesn't, only of the end.
    events = (select.POLLIN if attack.reads else 0) | select.POLLRDHUP
    connections: dict[int, socket.socket] = {}

    def connect(number: int) -> None:
        connection = socket.socket()
        if not attack.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.bind((f"127.0.1.{1 + number % ADDRESSES}", 0))
        connection.connect(("127.0.0.1", port))
        connection.sendall(attack.head.encode())
        connections[connection.fileno()] = connection
        poll.register(connection, events)

    for number in range(attack.connections):
        with suppress(OSError):
            connect(number)
    trickled = time.monotonic()
    while True:
        for descriptor, _ in poll.poll(100):
            poll.unregister(descriptor)
            connections.pop(descriptor).close()
        for number in range(attack.connections - len(connections)):
            with suppress(OSError):
                connect(number)
        if attack.trickle and time.monotonic() - trickled > 1:
            trickled = time.monotonic()
            for connection in connections.values():
                with suppress(OSError):
                    connection.sendall(attack.trickle.encode())


if __name__ == "__main__":
    parameters = json.loads(sys.stdin.readline())
    attack_for_ever(parameters.pop("port"), Attack(**parameters))
